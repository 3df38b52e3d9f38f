"""How often predictions are right: each function returns 1 or 0 for each sample (and step)."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.dtypes import floatx
from recurrax.ops import in_top_k
from recurrax.registry import serializable
from recurrax.training.checks import whole
from recurrax.training.losses import base
from recurrax.training.metrics.reduction import FunctionMetric


def accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where `y_true` equals `y_pred`."""
    y_pred = jnp.asarray(y_pred)
    y_true, y_pred = base.same_rank(jnp.asarray(y_true).astype(y_pred.dtype), y_pred)
    return (y_true == y_pred).astype(floatx())


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """1 where `y_pred` is above `threshold` just where `y_true` is 1."""
    y_true, y_pred = base.same_rank(jnp.asarray(y_true), jnp.asarray(y_pred))
    return (y_true == (y_pred > threshold).astype(y_true.dtype)).astype(floatx())


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest of `y_pred` is that of the one-hot `y_true`."""
    best = jnp.argmax(jnp.asarray(y_true), -1)
    return (best == jnp.argmax(jnp.asarray(y_pred), -1)).astype(floatx())


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest of `y_pred` is number `y_true`."""
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    return (y_true.astype("int32") == jnp.argmax(y_pred, -1)).astype(floatx())


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Array:
    """1 where number `y_true` is among the `k` largest of `y_pred`; or, with `from_sorted_ids`,
    among the first `k` numbers of `y_pred`, the best class first."""
    y_true, y_pred = jnp.asarray(y_true).astype("int32"), jnp.asarray(y_pred)
    if from_sorted_ids:
        return jnp.any(y_pred[..., :k] == y_true[..., None], axis=-1).astype(floatx())
    shape = y_true.shape
    hits = in_top_k(y_true.reshape(-1), y_pred.reshape(-1, y_pred.shape[-1]), k)
    return hits.astype(floatx()).reshape(shape)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the class of the one-hot `y_true` is among the `k` largest of `y_pred`."""
    return sparse_top_k_categorical_accuracy(jnp.argmax(jnp.asarray(y_true), -1), y_pred, k)


class _Accuracy(FunctionMetric):
    direction = "up"


@serializable("keras.metrics")
class Accuracy(_Accuracy):
    """How often the prediction equals the truth."""

    function = staticmethod(accuracy)

    def __init__(self, name: str | None = "accuracy", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class BinaryAccuracy(_Accuracy):
    """How often a probability is on the right side of `threshold`."""

    function = staticmethod(binary_accuracy)

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        super().__init__(name, dtype, threshold=threshold)


@serializable("keras.metrics")
class CategoricalAccuracy(_Accuracy):
    """How often the most probable class is that of the one-hot truth."""

    function = staticmethod(categorical_accuracy)

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class SparseCategoricalAccuracy(_Accuracy):
    """How often the most probable class is the true one, an integer."""

    function = staticmethod(sparse_categorical_accuracy)

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class TopKCategoricalAccuracy(_Accuracy):
    """How often the class of the one-hot truth is among the `k` most probable."""

    function = staticmethod(top_k_categorical_accuracy)

    def __init__(
        self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(name, dtype, k=whole("k", k))


@serializable("keras.metrics")
class SparseTopKCategoricalAccuracy(_Accuracy):
    """How often the true class, an integer, is among the `k` most probable; with
    `from_sorted_ids`, predictions are the numbers of the most probable classes, the best first."""

    function = staticmethod(sparse_top_k_categorical_accuracy)

    def __init__(
        self,
        k: int = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ) -> None:
        super().__init__(name, dtype, k=whole("k", k), from_sorted_ids=from_sorted_ids)
