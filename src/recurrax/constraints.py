"""Projections that a weight goes through after each step of the optimizer."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.lookup import find, table_of
from recurrax.registry import serializable, serialize

_EPSILON = 1e-7


class Constraint:
    """A function from a weight to a weight of the same shape."""

    def __call__(self, w: Any) -> Array:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__(self, w).")

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Constraint":
        return cls(**config)


def _norms(w: Array, axis: Any) -> Array:
    axis = tuple(axis) if isinstance(axis, list) else axis
    return jnp.sqrt(jnp.sum(jnp.square(w), axis=axis, keepdims=True))


@serializable("keras.constraints")
class MaxNorm(Constraint):
    """Scales down what has a norm above `max_value` along `axis`."""

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        self.max_value = max_value
        self.axis = axis

    def __call__(self, w: Any) -> Array:
        w = jnp.asarray(w)
        norms = _norms(w, self.axis)
        return w * (jnp.clip(norms, 0, self.max_value) / (_EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        return {"max_value": self.max_value, "axis": self.axis}


@serializable("keras.constraints")
class NonNeg(Constraint):
    """Sets negative entries to zero."""

    def __call__(self, w: Any) -> Array:
        w = jnp.asarray(w)
        return w * (w >= 0).astype(w.dtype)


@serializable("keras.constraints")
class UnitNorm(Constraint):
    """Scales to norm 1 along `axis`."""

    def __init__(self, axis: Any = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Array:
        w = jnp.asarray(w)
        return w / (_EPSILON + _norms(w, self.axis))

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


@serializable("keras.constraints")
class MinMaxNorm(Constraint):
    """Moves the norm along `axis` into `[min_value, max_value]`, by the share `rate` of the way."""

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ) -> None:
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    def __call__(self, w: Any) -> Array:
        w = jnp.asarray(w)
        norms = _norms(w, self.axis)
        wanted = self.rate * jnp.clip(norms, self.min_value, self.max_value)
        wanted = wanted + (1 - self.rate) * norms
        return w * (wanted / (_EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

_TABLE = table_of([MaxNorm, NonNeg, UnitNorm, MinMaxNorm])


def get(identifier: Any) -> Any:
    """The constraint that a name, a configuration, a class or an object stands for.

    Raises:
        ValueError: an unknown name.
    """
    return find("constraint", identifier, _TABLE)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The constraint of a configuration."""
    return find("constraint", config, _TABLE, custom_objects)


__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "deserialize",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "serialize",
    "unit_norm",
]
