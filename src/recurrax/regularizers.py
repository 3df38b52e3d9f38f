"""Penalties on weights and outputs, added to the loss."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.lookup import find, table_of
from recurrax.registry import serializable, serialize


class Regularizer:
    """A function from an array of any shape to a scalar penalty."""

    def __call__(self, x: Any) -> Array:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__(self, x).")

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} defines no get_config(self).")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Regularizer":
        return cls(**config)


def _factor(name: str, value: Any) -> float:
    if value is None:
        value = 0.0
    if not isinstance(value, int | float | np.number) or not np.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number, not negative, but it is {value!r}.")
    return float(value)


@serializable("keras.regularizers")
class L1(Regularizer):
    """`l1 * sum(|x|)`."""

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = _factor("l1", l1)

    def __call__(self, x: Any) -> Array:
        return self.l1 * jnp.sum(jnp.abs(x))

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}


@serializable("keras.regularizers")
class L2(Regularizer):
    """`l2 * sum(x²)`."""

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = _factor("l2", l2)

    def __call__(self, x: Any) -> Array:
        return self.l2 * jnp.sum(jnp.square(x))

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}


@serializable("keras.regularizers")
class L1L2(Regularizer):
    """`l1 * sum(|x|) + l2 * sum(x²)`."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = _factor("l1", l1)
        self.l2 = _factor("l2", l2)

    def __call__(self, x: Any) -> Array:
        penalty = jnp.zeros((), jnp.result_type(x))
        if self.l1:
            penalty = penalty + self.l1 * jnp.sum(jnp.abs(x))
        if self.l2:
            penalty = penalty + self.l2 * jnp.sum(jnp.square(x))
        return penalty

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}


@serializable("keras.regularizers")
class OrthogonalRegularizer(Regularizer):
    """Pushes the rows (or the columns) of a matrix to be orthogonal to each other.

    The mean absolute cosine of all pairs of rows, times `factor`.

    Args:
        factor: weight of the penalty.
        mode: "rows" or "columns".

    Raises:
        ValueError: another mode, or (on call) an array that is not a matrix.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        if mode not in ("rows", "columns"):
            raise ValueError(f'mode must be "rows" or "columns", but it is {mode!r}.')
        self.factor = _factor("factor", factor)
        self.mode = mode

    def __call__(self, x: Any) -> Array:
        x = jnp.asarray(x)
        if x.ndim != 2:
            raise ValueError(f"OrthogonalRegularizer needs a matrix, but the shape is {x.shape}.")
        if self.mode == "columns":
            x = x.T
        squares = jnp.sum(jnp.square(x), axis=1, keepdims=True)
        x = x / jnp.sqrt(jnp.maximum(squares, 1e-12))
        size = x.shape[0]
        cosines = (x @ x.T) * (1.0 - jnp.eye(size, dtype=x.dtype))
        return self.factor * 0.5 * jnp.sum(jnp.abs(cosines)) / (size * (size - 1) / 2)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "mode": self.mode}


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer

_TABLE = table_of([L1, L2, L1L2, OrthogonalRegularizer]) | {"l1_l2": L1L2}


def get(identifier: Any) -> Any:
    """The regularizer that a name, a configuration, a class or an object stands for.

    Raises:
        ValueError: an unknown name.
    """
    return find("regularizer", identifier, _TABLE)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The regularizer of a configuration."""
    return find("regularizer", config, _TABLE, custom_objects)


__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "serialize",
]
