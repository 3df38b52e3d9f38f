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
from recurrax.training.losses.probabilistic import not_ignored
from recurrax.training.metrics.reduction import FunctionMetric, Mean, heeding_mask, masked


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """The cosine between the vectors along `axis`."""
    return -negative_cosine(y_true, y_pred, axis)


class _Distance(FunctionMetric):
    direction = "down"


@serializable("keras.metrics")
class MeanSquaredError(_Distance):
    """`mean((y_true - y_pred)²)`."""

    function = staticmethod(mean_squared_error)

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class RootMeanSquaredError(Mean):
    """`sqrt(mean((y_true - y_pred)²))`."""

    direction = "down"

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        sample_weight = heeding_mask(y_pred, sample_weight, self.dtype)
        y_pred = as_float(y_pred)
        y_true, y_pred = same_rank(jnp.asarray(y_true).astype(y_pred.dtype), y_pred)
        self.add(jnp.square(y_true - y_pred), sample_weight)

    def result(self) -> Array:
        return jnp.sqrt(super().result())


@serializable("keras.metrics")
class MeanAbsoluteError(_Distance):
    """`mean(|y_true - y_pred|)`."""

    function = staticmethod(mean_absolute_error)

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class MeanAbsolutePercentageError(_Distance):
    """`100 * mean(|(y_true - y_pred) / y_true|)`."""

    function = staticmethod(mean_absolute_percentage_error)

    def __init__(
        self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None
    ) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class MeanSquaredLogarithmicError(_Distance):
    """`mean((log(y_true + 1) - log(y_pred + 1))²)`."""

    function = staticmethod(mean_squared_logarithmic_error)

    def __init__(
        self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None
    ) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class CosineSimilarity(FunctionMetric):
    """The cosine between truth and prediction; 1 where they point the same way."""

    direction = "up"
    function = staticmethod(cosine_similarity)

    def __init__(
        self, name: str | None = "cosine_similarity", dtype: Any = None, axis: int = -1
    ) -> None:
        super().__init__(name, dtype, axis=axis)


@serializable("keras.metrics")
class LogCoshError(_Distance):
    """`mean(log(cosh(y_pred - y_true)))`."""

    function = staticmethod(log_cosh)

    def __init__(self, name: str | None = "logcosh", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class KLDivergence(_Distance):
    """`sum(y_true * log(y_true / y_pred))`."""

    function = staticmethod(kl_divergence)

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class Poisson(_Distance):
    """`mean(y_pred - y_true * log(y_pred))`."""

    function = staticmethod(poisson)

    def __init__(self, name: str | None = "poisson", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class BinaryCrossentropy(_Distance):
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
class CategoricalCrossentropy(_Distance):
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
class SparseCategoricalCrossentropy(_Distance):
    """Mean crossentropy with integer truth; entries of `ignore_class` count nowhere."""

    function = staticmethod(sparse_categorical_crossentropy)

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, ignore_class=ignore_class, axis=axis)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        ignored = self.arguments["ignore_class"]
        if ignored is not None:
            y_true = jnp.asarray(y_true)
            kept = not_ignored(y_true, jnp.asarray(y_pred), ignored, self.arguments["axis"])
            sample_weight = masked(sample_weight, kept, self.dtype)
        super().update_state(y_true, y_pred, sample_weight)


@serializable("keras.metrics")
class Hinge(_Distance):
    """Mean hinge loss."""

    function = staticmethod(hinge)

    def __init__(self, name: str | None = "hinge", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class SquaredHinge(_Distance):
    """Mean squared hinge loss."""

    function = staticmethod(squared_hinge)

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None) -> None:
        super().__init__(name, dtype)


@serializable("keras.metrics")
class CategoricalHinge(_Distance):
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
