"""Losses between numbers: each function takes `(..., d)` twice and returns `(...)`."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.dtypes import epsilon
from recurrax.registry import serializable
from recurrax.training.losses.base import FunctionLoss, fitting, same_rank


def _pair(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    y_pred = jnp.asarray(y_pred)
    return fitting(jnp.asarray(y_true).astype(y_pred.dtype), y_pred)


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """`mean((y_true - y_pred)²)` over the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    return jnp.mean(jnp.square(y_true - y_pred), axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    """`mean(|y_true - y_pred|)` over the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    return jnp.mean(jnp.abs(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Array:
    """`100 * mean(|(y_true - y_pred) / y_true|)` over the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    share = jnp.abs((y_true - y_pred) / jnp.maximum(jnp.abs(y_true), epsilon()))
    return 100.0 * jnp.mean(share, axis=-1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Array:
    """`mean((log(y_true + 1) - log(y_pred + 1))²)` over the last axis; below 0 counts as 0."""
    y_true, y_pred = _pair(y_true, y_pred)
    log_true = jnp.log(jnp.maximum(y_true, epsilon()) + 1.0)
    log_pred = jnp.log(jnp.maximum(y_pred, epsilon()) + 1.0)
    return jnp.mean(jnp.square(log_pred - log_true), axis=-1)


def _unit(x: Array, axis: int) -> Array:
    squares = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """The negative cosine between the vectors along `axis`."""
    y_true, y_pred = _pair(y_true, y_pred)
    return -jnp.sum(_unit(y_true, axis) * _unit(y_pred, axis), axis=axis)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Array:
    """`e² / 2` for errors up to `delta`, beyond it `delta * |e| - delta² / 2`; mean over the last
    axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    error = jnp.abs(y_pred - y_true)
    inside, outside = 0.5 * jnp.square(error), delta * error - 0.5 * delta**2
    return jnp.mean(jnp.where(error <= delta, inside, outside), axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> Array:
    """`mean(log(cosh(y_pred - y_true)))` over the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    error = y_pred - y_true
    return jnp.mean(error + jax.nn.softplus(-2.0 * error) - float(np.log(2.0)), axis=-1)


class NumberLoss(FunctionLoss):
    """A loss between numbers: targets have the shape of the outputs."""

    def check_targets(self, y_true: Any, output_shape: tuple[int | None, ...]) -> None:
        """Refuse targets that do not fit, and warn of those that are only repeated to fit."""
        shapes = [(1, *shape[1:]) for shape in (np.shape(y_true), output_shape)]
        structs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
        target, output = (x.shape for x in jax.eval_shape(same_rank, *structs))
        if target == output:
            return
        told, came = (f"({', '.join(map(str, ['batch', *shape[1:]]))})" for shape in shapes)
        text = f"{self.name} compares targets of shape {told} with outputs of shape {came}"
        mend = "give the last layer as many units as a target has numbers, or reshape y"
        if len(shapes[0]) > max(len(shapes[1]), 2):
            mend = (
                "for an output at every step, give the last recurrent layer return_sequences=True"
            )
        elif len(shapes[1]) > max(len(shapes[0]), 2):
            mend = (
                "for one output a sequence, leave return_sequences out of the last recurrent layer"
            )
        fit = len(target) == len(output) and all(
            1 in sizes or len(set(sizes)) == 1 for sizes in zip(target, output, strict=True)
        )
        if not fit:
            raise ValueError(f"{text}, but they must be equal: {mend}.")
        warnings.warn(f"{text}, and repeats one to fit the other: {mend}.", stacklevel=6)


@serializable("keras.losses")
class MeanSquaredError(NumberLoss):
    """`mean((y_true - y_pred)²)`."""

    function = staticmethod(mean_squared_error)


@serializable("keras.losses")
class MeanAbsoluteError(NumberLoss):
    """`mean(|y_true - y_pred|)`."""

    function = staticmethod(mean_absolute_error)


@serializable("keras.losses")
class MeanAbsolutePercentageError(NumberLoss):
    """`100 * mean(|(y_true - y_pred) / y_true|)`."""

    function = staticmethod(mean_absolute_percentage_error)


@serializable("keras.losses")
class MeanSquaredLogarithmicError(NumberLoss):
    """`mean((log(y_true + 1) - log(y_pred + 1))²)`."""

    function = staticmethod(mean_squared_logarithmic_error)


@serializable("keras.losses")
class LogCosh(NumberLoss):
    """`mean(log(cosh(y_pred - y_true)))`."""

    function = staticmethod(log_cosh)


@serializable("keras.losses")
class Huber(NumberLoss):
    """Squared error up to `delta`, absolute error beyond it.

    Huber, "Robust Estimation of a Location Parameter", 1964.
    """

    function = staticmethod(huber)

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype, delta=delta)


@serializable("keras.losses")
class CosineSimilarity(NumberLoss):
    """The negative cosine between the vectors along `axis`."""

    function = staticmethod(cosine_similarity)

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype, axis=axis)
