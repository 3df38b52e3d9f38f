"""Sums and means of values, and means of functions of truth and prediction."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers.mask import get_mask
from recurrax.registry import deserialize, serializable, serialize
from recurrax.training.losses.base import aligned, as_float, divide_no_nan, same_rank
from recurrax.training.metrics.base import Metric, as_array


def _samplewise(
    values: Any, sample_weight: Any, reduce: Callable[..., Array], dtype: Any
) -> tuple[Array, Array | None]:
    """Weighted values, one a sample, and the weights that they count with."""
    values = as_array(values).astype(dtype)
    weight = None
    if sample_weight is not None:
        values, weight = same_rank(values, jnp.asarray(sample_weight).astype(dtype))
        rank = weight.ndim
        if values.ndim > rank:
            values = reduce(values, axis=tuple(range(rank, values.ndim)))
        weight = jnp.broadcast_to(aligned(values, weight)[1], values.shape)
        values = values * weight
        if rank > 1:
            weight = reduce(weight, axis=tuple(range(1, rank)))
    if values.ndim > 1:
        values = reduce(values, axis=tuple(range(1, values.ndim)))
    return values, weight


def masked(weight: Any, mask: Any, dtype: Any) -> Array:
    """Sample weights, 1 where there are none, and 0 where the mask leaves an entry out."""
    kept = jnp.asarray(mask).astype(dtype)
    if weight is None:
        return kept
    weight = jnp.asarray(weight).astype(dtype)
    if weight.ndim > kept.ndim:
        return weight * kept.reshape(kept.shape + (1,) * (weight.ndim - kept.ndim))
    kept, weight = aligned(kept, weight)
    return weight * kept


def heeding_mask(y_pred: Any, sample_weight: Any, dtype: Any) -> Any:
    """Sample weights, 0 where the mask that came with the predictions leaves one out."""
    mask = get_mask(y_pred)
    return sample_weight if mask is None else masked(sample_weight, mask, dtype)


@serializable("keras.metrics")
class Sum(Metric):
    """The weighted sum of all values."""

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        sample_weight = heeding_mask(values, sample_weight, self.dtype)
        values, _ = _samplewise(values, sample_weight, jnp.sum, self.dtype)
        self.total.assign(self.total.value + jnp.sum(values))

    def result(self) -> Array:
        return self.total.value


@serializable("keras.metrics")
class Mean(Metric):
    """The weighted mean of all values."""

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), name="total")
        self.count = self.add_variable((), name="count")

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take in a batch: `update_state(values, sample_weight=None)`."""
        self.add(*args, **kwargs)

    def add(self, values: Any, sample_weight: Any = None) -> None:
        """Take in a batch of values."""
        sample_weight = heeding_mask(values, sample_weight, self.dtype)
        values, weight = _samplewise(values, sample_weight, jnp.mean, self.dtype)
        self.total.assign(self.total.value + jnp.sum(values))
        if weight is not None:
            samples = jnp.sum(weight)
        else:
            samples = jnp.asarray(values.shape[0] if values.ndim else 1, self.dtype)
        self.count.assign(self.count.value + samples)

    def result(self) -> Array:
        return divide_no_nan(self.total.value, self.count.value)


class FunctionMetric(Mean):
    """The mean of what a function of truth and prediction returns for each sample."""

    function: Callable[..., Any]

    def __init__(self, name: str | None = None, dtype: Any = None, **arguments: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.arguments = arguments

    def values(self, y_true: Any, y_pred: Any) -> Any:
        """A value for each sample (and step)."""
        return type(self).function(y_true, y_pred, **self.arguments)

    def update_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        sample_weight = heeding_mask(y_pred, sample_weight, self.dtype)
        self.add(self.values(y_true, as_float(y_pred)), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}


@serializable("keras.metrics")
class MeanMetricWrapper(FunctionMetric):
    """The mean of `fn(y_true, y_pred, **kwargs)`."""

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name or getattr(fn, "__name__", None), dtype=dtype, **kwargs)
        self.fn = fn

    def values(self, y_true: Any, y_pred: Any) -> Any:
        return self.fn(y_true, y_pred, **self.arguments)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fn": serialize(self.fn)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MeanMetricWrapper":
        return cls(**deserialize(config))
