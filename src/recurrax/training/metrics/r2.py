"""The share of variance explained."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers.mask import get_mask
from recurrax.registry import serializable
from recurrax.training.losses.base import same_rank
from recurrax.training.metrics.base import Metric
from recurrax.training.metrics.reduction import heeding_mask


@serializable("keras.metrics")
class R2Score(Metric):
    """`1 - sum((y_true - y_pred)²) / sum((y_true - mean(y_true))²)` of each output.

    Args:
        class_aggregation: "uniform_average" (the mean over outputs), "variance_weighted_average",
            or None (an array, one value an output).
        num_regressors: adjusts for so many independent regressors where above 0.
    """

    direction = "up"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise ValueError(
                'class_aggregation must be None, "uniform_average" or '
                f'"variance_weighted_average", but it is {class_aggregation!r}.'
            )
        if num_regressors < 0:
            raise ValueError(f"num_regressors must not be negative, but it is {num_regressors}.")
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_variable((), name="num_samples")

    def _make(self, outputs: int) -> None:
        self.squared_sum = self.add_variable((outputs,), name="squared_sum")
        self.sum = self.add_variable((outputs,), name="sum")
        self.total_mse = self.add_variable((outputs,), name="residual")
        self.count = self.add_variable((outputs,), name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        mask = get_mask(y_pred)
        sample_weight = heeding_mask(y_pred, sample_weight, self.dtype)
        y_true, y_pred = (jnp.asarray(y).astype(self.dtype) for y in (y_true, y_pred))
        y_true, y_pred = same_rank(y_true, y_pred)
        if y_true.ndim != 2 or y_pred.ndim != 2:
            raise ValueError(
                "R2Score needs y_true and y_pred of shape (batch, outputs), but they have shapes "
                f"{y_true.shape} and {y_pred.shape}."
            )
        if len(self._variables) == 1:
            self._make(y_pred.shape[-1])
        weight = jnp.asarray(1.0 if sample_weight is None else sample_weight).astype(self.dtype)
        if weight.ndim == 1:
            weight = weight[:, None]
        weight = jnp.broadcast_to(weight, y_true.shape)
        for variable, new in (
            (self.sum, y_true * weight),
            (self.squared_sum, y_true * y_true * weight),
            (self.total_mse, (y_true - y_pred) ** 2 * weight),
            (self.count, weight),
        ):
            variable.assign(variable.value + jnp.sum(new, axis=0))
        new: Any = y_true.size
        if mask is not None:
            kept = mask if mask.ndim == 2 else mask[:, None]
            new = jnp.sum(jnp.broadcast_to(kept, y_true.shape), dtype=self.dtype)
        self.num_samples.assign(self.num_samples.value + new)

    def check_begun(self) -> None:
        if len(self._variables) > 1:  # the number of samples is made at once
            return
        raise ValueError(
            f"R2Score {self.name!r} has no result yet: call update_state(y_true, y_pred) first."
        )

    def result(self) -> Array:
        self.check_begun()
        total = self.squared_sum.value - self.sum.value * self.sum.value / self.count.value
        scores = 1 - self.total_mse.value / total
        scores = jnp.where(jnp.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = jnp.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = jnp.sum(total * scores) / jnp.sum(total)
        if self.num_regressors:
            n, p = self.num_samples.value, self.num_regressors
            adjusted = 1.0 - (1.0 - scores) * (n - 1.0) / (n - p - 1.0)
            scores = jnp.where(n - 1 > p, adjusted, scores)
        return scores

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }
