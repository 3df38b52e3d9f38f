"""Means of the values that loss functions give."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from recurrax.training.losses import cosine_similarity as negative_cosine
from recurrax.training.losses.base import as_float, same_rank
from recurrax.training.metrics.reduction import FunctionMetric, Mean


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """The cosine between the vectors along `axis`."""
    return -negative_cosine(y_true, y_pred, axis)


@serializable("keras.metrics")
class MeanSquaredError(FunctionMetric):
    """`mean((y_true - y_pred)²)`."""

    function = staticmethod(mean_squared_error)

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class RootMeanSquaredError(Mean):
    """`sqrt(mean((y_true - y_pred)²))`."""

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        y_pred = as_float(y_pred)
        y_true, y_pred = same_rank(jnp.asarray(y_true).astype(y_pred.dtype), y_pred)
        self.add(jnp.square(y_true - y_pred), sample_weight)

    def result(self) -> Array:
        return jnp.sqrt(super().result())


@serializable("keras.metrics")
class MeanAbsoluteError(FunctionMetric):
    """`mean(|y_true - y_pred|)`."""

    function = staticmethod(mean_absolute_error)

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class MeanAbsolutePercentageError(FunctionMetric):
    """`100 * mean(|(y_true - y_pred) / y_true|)`."""

    function = staticmethod(mean_absolute_percentage_error)

    def __init__(
        self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None
    ) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class MeanSquaredLogarithmicError(FunctionMetric):
    """`mean((log(y_true + 1) - log(y_pred + 1))²)`."""

    function = staticmethod(mean_squared_logarithmic_error)

    def __init__(
        self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None
    ) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class CosineSimilarity(FunctionMetric):
    """The cosine between truth and prediction; 1 where they point the same way."""

    function = staticmethod(cosine_similarity)

    def __init__(
        self, name: str | None = "cosine_similarity", dtype: Any = None, axis: int = -1
    ) -> None:
        super().__init__(name, dtype, axis=axis)


@serializable("keras.metrics")
class LogCoshError(FunctionMetric):
    """`mean(log(cosh(y_pred - y_true)))`."""

    function = staticmethod(log_cosh)

    def __init__(self, name: str | None = "logcosh", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class KLDivergence(FunctionMetric):
    """`sum(y_true * log(y_true / y_pred))`."""

    function = staticmethod(kl_divergence)

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class Poisson(FunctionMetric):
    """`mean(y_pred - y_true * log(y_pred))`."""

    function = staticmethod(poisson)

    def __init__(self, name: str | None = "poisson", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class BinaryCrossentropy(FunctionMetric):
    """Mean binary crossentropy."""

    function = staticmethod(binary_crossentropy)

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, label_smoothing=label_smoothing)


@serializable("keras.metrics")
class CategoricalCrossentropy(FunctionMetric):
    """Mean crossentropy with one-hot truth."""

    function = staticmethod(categorical_crossentropy)

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ) -> None:
        super().__init__(
            name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis
        )


@serializable("keras.metrics")
class SparseCategoricalCrossentropy(FunctionMetric):
    """Mean crossentropy with integer truth."""

    function = staticmethod(sparse_categorical_crossentropy)

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, axis=axis)


@serializable("keras.metrics")
class Hinge(FunctionMetric):
    """Mean hinge loss."""

    function = staticmethod(hinge)

    def __init__(self, name: str | None = "hinge", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class SquaredHinge(FunctionMetric):
    """Mean squared hinge loss."""

    function = staticmethod(squared_hinge)

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class CategoricalHinge(FunctionMetric):
    """Mean categorical hinge loss."""

    function = staticmethod(categorical_hinge)

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None) -> None:
        super().__init__(name, dtype)


__all__ = [
    "binary_crossentropy",
    "categorical_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "sparse_categorical_crossentropy",
    "squared_hinge",
]
