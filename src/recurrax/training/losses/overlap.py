"""Losses by the overlap of two areas, over all entries of a batch unless `axis` says else."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.dtypes import epsilon
from recurrax.registry import serializable
from recurrax.training.losses.base import FunctionLoss


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Array:
    """`1 - 2 sum(y_true * y_pred) / (sum(y_true) + sum(y_pred))`."""
    y_pred = jnp.asarray(y_pred)
    y_true = jnp.asarray(y_true).astype(y_pred.dtype)
    both = jnp.sum(y_true * y_pred, axis=axis)
    either = jnp.sum(y_true, axis=axis) + jnp.sum(y_pred, axis=axis)
    return 1 - 2.0 * both / (either + epsilon())


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None
) -> Array:
    """`1 - TP / (TP + alpha * FN + beta * FP)` of soft counts (arXiv:1706.05721)."""
    y_pred = jnp.asarray(y_pred)
    y_true = jnp.asarray(y_true).astype(y_pred.dtype)
    both = jnp.sum(y_true * y_pred, axis=axis)
    missed = jnp.sum((1 - y_pred) * y_true, axis=axis)
    false = jnp.sum(y_pred * (1 - y_true), axis=axis)
    return 1 - both / (both + missed * alpha + false * beta + epsilon())


@serializable("keras.losses")
class Dice(FunctionLoss):
    """`1 - 2 sum(y_true * y_pred) / (sum(y_true) + sum(y_pred))`."""

    function = staticmethod(dice)

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice",
        axis: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype, axis=axis)


@serializable("keras.losses")
class Tversky(FunctionLoss):
    """`1 - TP / (TP + alpha * FN + beta * FP)` of soft counts (arXiv:1706.05721)."""

    function = staticmethod(tversky)

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        axis: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)
