"""The harmonic mean of precision and recall."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.dtypes import epsilon
from recurrax.registry import serializable
from recurrax.training.metrics.base import Metric
from recurrax.training.metrics.reduction import heeding_mask


@serializable("keras.metrics")
class FBetaScore(Metric):
    """`(1 + beta²) * precision * recall / (beta² * precision + recall)` of each class.

    Args:
        average: None (an array, one value a class), "micro" (over all decisions), "macro" (the mean
            over classes) or "weighted" (by how often a class is true).
        beta: how much recall weighs.
        threshold: above which a class is called; None: the most probable class is.
    """

    direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                f'average must be None, "micro", "macro" or "weighted", but it is {average!r}.'
            )
        if not isinstance(beta, float) or beta <= 0:
            raise ValueError(f"beta must be a float above 0, but it is {beta!r}.")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, but it is {threshold!r}.")
        self.average = average
        self.beta = beta
        self.threshold = threshold
        self.axis = None if average == "micro" else 0

    def _make(self, classes: int) -> None:
        shape = () if self.average == "micro" else (classes,)
        self.true_positives = self.add_variable(shape, name="true_positives")
        self.false_positives = self.add_variable(shape, name="false_positives")
        self.false_negatives = self.add_variable(shape, name="false_negatives")
        self.intermediate_weights = self.add_variable(shape, name="intermediate_weights")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        sample_weight = heeding_mask(y_pred, sample_weight, self.dtype)
        y_true, y_pred = (jnp.asarray(y).astype(self.dtype) for y in (y_true, y_pred))
        if y_true.ndim != 2 or y_pred.ndim != 2:
            raise ValueError(
                f"{type(self).__name__} needs y_true and y_pred of shape (batch, classes), but "
                f"they have shapes {y_true.shape} and {y_pred.shape}."
            )
        if not self._variables:
            self._make(y_pred.shape[-1])
        if self.threshold is None:
            best = jnp.max(y_pred, axis=-1, keepdims=True)
            called = (y_pred >= best) & (jnp.abs(y_pred) > 1e-9)
        else:
            called = y_pred > self.threshold
        called = called.astype(self.dtype)
        weight = jnp.ones((), self.dtype)
        if sample_weight is not None:
            weight = jnp.asarray(sample_weight).astype(self.dtype)
            weight = weight[:, None] if weight.ndim == 1 else weight
        parts = (called * y_true, called * (1 - y_true), (1 - called) * y_true, y_true)
        for variable, part in zip(self._variables, parts, strict=True):
            variable.assign(variable.value + jnp.sum(part * weight, axis=self.axis))

    def result(self) -> Array:
        self.check_begun()
        tp, fp, fn, true = (v.value for v in self._variables)
        precision, recall = tp / (tp + fp + epsilon()), tp / (tp + fn + epsilon())
        score = precision * recall / (self.beta**2 * precision + recall + epsilon())
        score = score * (1 + self.beta**2)
        if self.average == "weighted":
            return jnp.sum(score * true / (jnp.sum(true) + epsilon()))
        return score if self.average is None else jnp.mean(score)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "average": self.average,
            "beta": self.beta,
            "threshold": self.threshold,
        }


@serializable("keras.metrics")
class F1Score(FBetaScore):
    """`2 * precision * recall / (precision + recall)`; arguments as for `FBetaScore`."""

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["beta"]
        return config
