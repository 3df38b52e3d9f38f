"""Areas under curves of decisions over all thresholds."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.dtypes import epsilon
from recurrax.registry import serializable
from recurrax.training.checks import whole
from recurrax.training.losses.base import divide_no_nan
from recurrax.training.metrics.base import Metric
from recurrax.training.metrics.confusion import check_thresholds, counts
from recurrax.training.metrics.reduction import heeding_mask


@serializable("keras.metrics")
class AUC(Metric):
    """Area under the curve of recall over false positive rate, or precision over recall.

    Args:
        num_thresholds: points of the curve, evenly spaced from 0 to 1.
        curve: "ROC" or "PR".
        summation_method: "interpolation" (trapezoids; for PR the interpolation of Davis and
            Goadrich, "The Relationship Between Precision-Recall and ROC Curves", ICML 2006),
            "minoring" or "majoring" (the lower or the higher end of each interval).
        thresholds: points instead of `num_thresholds`.
        multi_label: whether the last axis holds labels with a curve each, whose areas are averaged.
        num_labels: how many; needed with `multi_label` before the first batch.
        label_weights: a weight for each label.
        from_logits: predictions are scores before the sigmoid.
    """

    direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.curve, self.summation_method = str(curve).upper(), str(summation_method).lower()
        if self.curve not in ("ROC", "PR"):
            raise ValueError(f'curve must be "ROC" or "PR", but it is {curve!r}.')
        if self.summation_method not in ("interpolation", "minoring", "majoring"):
            raise ValueError(
                'summation_method must be "interpolation", "minoring" or "majoring", but it is '
                f"{summation_method!r}."
            )
        if thresholds is None:
            whole("num_thresholds", num_thresholds, 2)
        else:
            check_thresholds(thresholds)
        self._given = None if thresholds is None else sorted(thresholds)
        inner = np.linspace(0, 1, num_thresholds)[1:-1] if self._given is None else self._given
        # The ends lie outside [0, 1], so that 0 and 1 themselves fall between thresholds.
        self.thresholds = [-epsilon(), *map(float, inner), 1 + epsilon()]
        self.num_thresholds = len(self.thresholds)
        self.multi_label = multi_label
        self.num_labels = num_labels
        self.label_weights = None if label_weights is None else list(label_weights)
        self.from_logits = from_logits
        if not multi_label or num_labels:
            self._make(num_labels)

    def _make(self, labels: int | None) -> None:
        shape = (self.num_thresholds,)
        if self.multi_label and labels is not None:
            shape = (self.num_thresholds, labels)
        self.true_positives = self.add_variable(shape, name="true_positives")
        self.false_positives = self.add_variable(shape, name="false_positives")
        self.true_negatives = self.add_variable(shape, name="true_negatives")
        self.false_negatives = self.add_variable(shape, name="false_negatives")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        if not self._variables:
            self._make(jnp.shape(y_pred)[-1])
        self._check_labels(np.shape(y_pred))
        if self.from_logits:
            sample_weight = heeding_mask(y_pred, sample_weight, self.dtype)
            y_pred = jax.nn.sigmoid(y_pred)
        new = counts(
            y_true,
            y_pred,
            self.thresholds,
            sample_weight,
            by_label=self.multi_label,
            label_weights=None if self.multi_label else self.label_weights,
        )
        for variable, count in zip(self._variables, new, strict=True):
            variable.assign(variable.value + count)

    def _check_labels(self, shape: tuple[int, ...]) -> None:
        made = self.true_positives.shape[-1] if self.multi_label else None
        weighed = None if self.label_weights is None else len(self.label_weights)
        for what, labels in (("num_labels", made), ("label_weights", weighed)):
            if labels is not None and (not shape or shape[-1] != labels):
                raise ValueError(
                    f"{what} of AUC {self.name!r} is for {labels} labels, but the predictions have "
                    f"shape {shape}: their last axis must hold as many."
                )

    def result(self) -> Array:
        self.check_begun()
        tp, fp, tn, fn = (v.value for v in self._variables)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._over_labels(_interpolated_pr(tp, fp, fn))
        recall = divide_no_nan(tp, tp + fn)
        if self.curve == "ROC":
            x, y = divide_no_nan(fp, fp + tn), recall
        else:
            x, y = recall, divide_no_nan(tp, tp + fp)
        if self.summation_method == "interpolation":
            heights = (y[:-1] + y[1:]) / 2.0
        elif self.summation_method == "minoring":
            heights = jnp.minimum(y[:-1], y[1:])
        else:
            heights = jnp.maximum(y[:-1], y[1:])
        return self._over_labels((x[:-1] - x[1:]) * heights)

    def _over_labels(self, parts: Array) -> Array:
        areas = jnp.sum(parts, axis=0)
        if not self.multi_label:
            return areas
        if self.label_weights is None:
            return jnp.mean(areas)
        weights = jnp.asarray(self.label_weights, areas.dtype)
        return divide_no_nan(jnp.sum(areas * weights), jnp.sum(weights))

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": self.label_weights,
            "from_logits": self.from_logits,
        }
        if self._given is not None:
            config["thresholds"] = self._given
        return config


def _interpolated_pr(tp: Array, fp: Array, fn: Array) -> Array:
    """Areas of the intervals between thresholds, precision interpolated between their ends."""
    gained = tp[:-1] - tp[1:]
    called = tp + fp
    slope = divide_no_nan(gained, jnp.maximum(called[:-1] - called[1:], 0))
    intercept = tp[1:] - slope * called[1:]
    both = (called[:-1] > 0) & (called[1:] > 0)
    ratio = jnp.where(both, divide_no_nan(called[:-1], jnp.maximum(called[1:], 0)), 1.0)
    area = slope * (gained + intercept * jnp.log(ratio))
    return divide_no_nan(area, jnp.maximum(tp[1:] + fn[1:], 0))
