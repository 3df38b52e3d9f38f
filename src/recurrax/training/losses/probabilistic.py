"""Losses between distributions: each function returns a value for each sample (and step)."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.dtypes import epsilon
from recurrax.ops import nn
from recurrax.registry import serializable
from recurrax.training.checks import number
from recurrax.training.losses.base import FunctionLoss, same_rank

Reduction = str | None


def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    """`sum(y_true * log(y_true / y_pred))` over the last axis."""
    y_pred = jnp.asarray(y_pred)
    y_true = jnp.clip(jnp.asarray(y_true).astype(y_pred.dtype), epsilon(), 1)
    y_pred = jnp.clip(y_pred, epsilon(), 1)
    return jnp.sum(y_true * jnp.log(y_true / y_pred), axis=-1)


def poisson(y_true: Any, y_pred: Any) -> Array:
    """`mean(y_pred - y_true * log(y_pred))` over the last axis."""
    y_pred = jnp.asarray(y_pred)
    y_true = jnp.asarray(y_true).astype(y_pred.dtype)
    return jnp.mean(y_pred - y_true * jnp.log(y_pred + epsilon()), axis=-1)


def _smooth_classes(y_true: Any, y_pred: Any, smoothing: float) -> tuple[Array, Array]:
    y_pred = jnp.asarray(y_pred)
    y_true = jnp.asarray(y_true).astype(y_pred.dtype)
    if y_pred.shape[-1] == 1:
        warnings.warn(
            f"A categorical loss was given y_pred of shape {y_pred.shape}, one class, so that it "
            "is always 0: for two classes use binary_crossentropy.",
            SyntaxWarning,
            stacklevel=4,
        )
    number("label_smoothing", smoothing, 0, 1)
    if smoothing:
        y_true = y_true * (1.0 - smoothing) + smoothing / y_true.shape[-1]
    return y_true, y_pred


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """`-sum(y_true * log(y_pred))` along `axis`; `y_true` is one-hot or a distribution."""
    y_true, y_pred = _smooth_classes(y_true, y_pred, label_smoothing)
    return nn.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float | Sequence[float] = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """`-sum(alpha * (1 - y_pred)^gamma * y_true * log(y_pred))` along `axis` (arXiv:1708.02002);
    `alpha` is one weight, or a list with one for each class."""
    y_true, y_pred = _smooth_classes(y_true, y_pred, label_smoothing)
    if from_logits:
        y_pred = jax.nn.softmax(y_pred, axis=axis)
    y_pred = y_pred / jnp.sum(y_pred, axis=axis, keepdims=True)
    y_pred = jnp.clip(y_pred, epsilon(), 1.0 - epsilon())
    weight = jnp.asarray(alpha, y_pred.dtype)
    if weight.ndim:
        if weight.shape != (y_pred.shape[axis],):
            raise ValueError(
                f"alpha must be a number or one number for each of {y_pred.shape[axis]} classes, "
                f"but it is {alpha!r:.80}."
            )
        weight = jnp.moveaxis(jnp.expand_dims(weight, range(y_pred.ndim - 1)), -1, axis)
    return jnp.sum(-weight * (1.0 - y_pred) ** gamma * y_true * jnp.log(y_pred), axis=axis)


def not_ignored(y_true: Array, y_pred: Array, ignore_class: int, axis: int) -> Array:
    """Where the truth is another class than `ignore_class`, of the shape of the values."""
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
        y_true = jnp.squeeze(y_true, axis=axis)
    return y_true != ignore_class


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Array:
    """`-log(y_pred[y_true])` along `axis`, 0 where `y_true` is `ignore_class`."""
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
        y_true = jnp.squeeze(y_true, axis=axis)
    if ignore_class is None:
        return nn.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=from_logits, axis=axis
        )
    valid = y_true != ignore_class
    y_true = jnp.where(valid, y_true, 0)
    y_pred = jnp.where(jnp.expand_dims(valid, axis), y_pred, 0)
    values = nn.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    return jnp.where(valid, values, 0.0)


def _smooth_binary(y_true: Any, y_pred: Any, smoothing: float) -> tuple[Array, Array]:
    y_pred = jnp.asarray(y_pred)
    y_true = jnp.asarray(y_true).astype(y_pred.dtype)
    number("label_smoothing", smoothing, 0, 1)
    if smoothing:
        y_true = y_true * (1.0 - smoothing) + 0.5 * smoothing
    return y_true, y_pred


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Mean along `axis` of `-(y_true * log(y_pred) + (1 - y_true) * log(1 - y_pred))`."""
    y_true, y_pred = _smooth_binary(y_true, y_pred, label_smoothing)
    return jnp.mean(nn.binary_crossentropy(y_true, y_pred, from_logits=from_logits), axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Binary crossentropy times `(1 - p_t)^gamma`, p_t the probability of what is true
    (arXiv:1708.02002); with balancing also times `alpha` for 1 and `1 - alpha` for 0."""
    y_true, y_pred = _smooth_binary(y_true, y_pred, label_smoothing)
    if from_logits:
        y_pred = jax.nn.sigmoid(y_pred)
    right = y_true * y_pred + (1 - y_true) * (1 - y_pred)
    values = (1.0 - right) ** gamma * nn.binary_crossentropy(y_true, y_pred)
    if apply_class_balancing:
        values = values * (y_true * alpha + (1 - y_true) * (1 - alpha))
    return jnp.mean(values, axis=axis)


@serializable("keras.losses")
class KLDivergence(FunctionLoss):
    """`sum(y_true * log(y_true / y_pred))`."""

    function = staticmethod(kl_divergence)


@serializable("keras.losses")
class Poisson(FunctionLoss):
    """`mean(y_pred - y_true * log(y_pred))`."""

    function = staticmethod(poisson)


@serializable("keras.losses")
class CategoricalCrossentropy(FunctionLoss):
    """`-sum(y_true * log(y_pred))`; `y_true` is one-hot or a distribution.

    Args:
        from_logits: `y_pred` are scores before the softmax, not probabilities.
        label_smoothing: this share of the truth is spread over all classes.
        axis: the axis of classes.
    """

    function = staticmethod(categorical_crossentropy)

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


@serializable("keras.losses")
class CategoricalFocalCrossentropy(FunctionLoss):
    """Categorical crossentropy times `alpha * (1 - y_pred)^gamma` (arXiv:1708.02002).

    Args:
        alpha: the weight of every class, or a list with one for each class.
        gamma: how much less those count that are right with confidence.
        from_logits, label_smoothing, axis: as for `CategoricalCrossentropy`.
    """

    function = staticmethod(categorical_focal_crossentropy)

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            reduction,
            name,
            dtype,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


@serializable("keras.losses")
class SparseCategoricalCrossentropy(FunctionLoss):
    """`-log(y_pred[y_true])`; `y_true` holds integer classes.

    Args:
        from_logits: `y_pred` are scores before the softmax, not probabilities.
        ignore_class: entries of this class count neither in the sum nor in the mean.
        axis: the axis of classes.
    """

    function = staticmethod(sparse_categorical_crossentropy)

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: Reduction = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            reduction, name, dtype, from_logits=from_logits, ignore_class=ignore_class, axis=axis
        )

    def valid(self, y_true: Any, y_pred: Any) -> Array | None:
        ignored, axis = self.arguments["ignore_class"], self.arguments["axis"]
        if ignored is None:
            return None
        y_true, y_pred = same_rank(y_true, y_pred)
        return not_ignored(y_true, y_pred, ignored, axis)

    def check_targets(self, y_true: Any, output_shape: tuple[int | None, ...]) -> None:
        classes = output_shape[self.arguments["axis"]]
        if not isinstance(y_true, np.ndarray) or not y_true.size or classes is None:
            return
        ignored = self.arguments["ignore_class"]
        wrong = (y_true < 0) | (y_true >= classes)
        if y_true.dtype.kind == "f" and (y_true % 1).any():
            raise ValueError(
                f"The labels hold {y_true[y_true % 1 != 0].flat[0]:g}, but sparse classes are "
                f"integers, 0 to {classes - 1}: for numbers use mse, for probabilities "
                "categorical_crossentropy."
            )
        if ignored is not None:
            wrong &= y_true != ignored
        if wrong.any():
            value = y_true[wrong].flat[0]
            raise ValueError(
                f"The labels hold class {value:g}, but the output has {classes} classes, 0 to "
                f"{classes - 1}: shift the labels, or give the last layer more units."
            )


@serializable("keras.losses")
class BinaryCrossentropy(FunctionLoss):
    """`-(y_true * log(y_pred) + (1 - y_true) * log(1 - y_pred))`, for labels 0 and 1.

    Args:
        from_logits: `y_pred` are scores before the sigmoid, not probabilities.
        label_smoothing: this share of the truth is spread over both classes.
        axis: the axis that is averaged for each sample.
    """

    function = staticmethod(binary_crossentropy)

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


@serializable("keras.losses")
class BinaryFocalCrossentropy(FunctionLoss):
    """Binary crossentropy times `(1 - p_t)^gamma` (arXiv:1708.02002)."""

    function = staticmethod(binary_focal_crossentropy)

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
