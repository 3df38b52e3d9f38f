"""Dtype policies: in which dtype a layer computes and in which it keeps its variables."""

from typing import Any

import jax
import jax.numpy as jnp

from recurrax.registry import serializable

_MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
_global: dict[str, Any] = {"floatx": "float32", "policy": None, "epsilon": 1e-7}


@serializable("keras", "FloatDTypePolicy")
class DTypePolicy:
    """`compute_dtype` and `variable_dtype` of a layer.

    Args:
        name: `"mixed_bfloat16"` or `"mixed_float16"` (variables stay float32), or one dtype for
            both.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = floatx() if name is None else str(name)
        if self.name in _MIXED:
            self.compute_dtype, self.variable_dtype = _MIXED[self.name], "float32"
        else:
            try:
                dtype = jnp.dtype(self.name).name
            except TypeError as error:
                raise ValueError(
                    f"Unknown dtype policy {name!r}: give a dtype such as 'float32', or one of "
                    f"{sorted(_MIXED)}."
                ) from error
            if dtype == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore
                raise ValueError(
                    "dtype='float64' needs JAX's 64-bit mode, which is off: call "
                    "jax.config.update('jax_enable_x64', True) first."
                )
            self.compute_dtype = self.variable_dtype = dtype

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DTypePolicy":
        return cls(config["name"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<DTypePolicy {self.name!r}>"


def get_policy(dtype: Any = None) -> DTypePolicy:
    """The policy that `dtype` (a name, a dtype, a policy, a configuration or None) stands for."""
    if dtype is None:
        return _global["policy"] or DTypePolicy()
    if isinstance(dtype, DTypePolicy):
        return dtype
    if isinstance(dtype, dict):
        return DTypePolicy(dtype["config"]["name"])
    return DTypePolicy(dtype if isinstance(dtype, str) else jnp.dtype(dtype).name)


def set_dtype_policy(policy: Any) -> None:
    """Set the policy of layers that are made without `dtype=`."""
    _global["policy"] = get_policy(policy)


def dtype_policy() -> DTypePolicy:
    """The policy of layers that are made without `dtype=`."""
    return get_policy()


def floatx() -> str:
    """The default floating-point dtype."""
    return _global["floatx"]


def set_floatx(dtype: str) -> None:
    """Set the default floating-point dtype."""
    _global["floatx"] = DTypePolicy(dtype).compute_dtype


def epsilon() -> float:
    """The small number that keeps divisions and logarithms finite."""
    return _global["epsilon"]


def set_epsilon(value: float) -> None:
    """Set the small number that keeps divisions and logarithms finite."""
    _global["epsilon"] = float(value)
