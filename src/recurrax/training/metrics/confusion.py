"""Counts of right and wrong decisions at thresholds, and what is computed from them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.registry import serializable
from recurrax.training.checks import whole
from recurrax.training.losses.base import divide_no_nan, fitting
from recurrax.training.metrics.base import Metric
from recurrax.training.metrics.reduction import heeding_mask
from recurrax.variable import Variable

_BELOW_ALL = -1e10


def _thresholds(given: Any, default: float) -> list[float]:
    thresholds: Any = default if given is None else given
    thresholds = list(thresholds) if isinstance(thresholds, list | tuple) else [thresholds]
    if given is not None:
        check_thresholds(thresholds)
    return thresholds


def check_thresholds(thresholds: Sequence[Any]) -> None:
    """Raise ValueError for thresholds that are no probabilities."""
    if any(t is None or not 0 <= t <= 1 for t in thresholds):
        raise ValueError(f"thresholds must be from 0 to 1, but they are {list(thresholds)!r}.")


def counts(
    y_true: Any,
    y_pred: Any,
    thresholds: Sequence[float],
    sample_weight: Any = None,
    top_k: int | None = None,
    class_id: int | None = None,
    by_label: bool = False,
    label_weights: Any = None,
) -> tuple[Array, Array, Array, Array]:
    """True positives, false positives, true negatives and false negatives at each threshold.

    Args:
        y_true: labels 0 and 1, `(batch, ...)`.
        y_pred: probabilities, of the same shape; what their mask leaves out does not count.
        thresholds: above which a probability counts as positive.
        sample_weight: `(batch,)` or the shape of `y_pred`.
        top_k: only the `k` largest of the last axis can be positive.
        class_id: only this entry of the last axis counts.
        by_label: count each entry of the last axis by itself.
        label_weights: a weight for each entry of the last axis.

    Returns:
        Four arrays `(thresholds,)`, or `(thresholds, labels)` with `by_label`.
    """
    sample_weight = heeding_mask(y_pred, sample_weight, "float32")
    y_pred = jnp.asarray(y_pred, "float32")
    y_true, y_pred = fitting(jnp.asarray(y_true).astype(y_pred.dtype), y_pred)
    weight = jnp.ones(y_pred.shape, y_pred.dtype)
    if sample_weight is not None:
        given = jnp.asarray(sample_weight).astype(y_pred.dtype)
        if given.ndim == y_pred.ndim + 1 and given.shape[-1] == 1:
            given = given[..., 0]
        given = given.reshape(given.shape + (1,) * (y_pred.ndim - given.ndim))
        weight = jnp.broadcast_to(given, y_pred.shape)
    if label_weights is not None:
        weight = weight * jnp.asarray(label_weights, y_pred.dtype)
    if top_k is not None:
        classes = y_pred.shape[-1]
        if top_k > classes:
            raise ValueError(
                f"top_k={top_k} needs at least as many classes, but there are {classes}."
            )
        # Of classes that are as probable, the first counts.
        places = jax.lax.top_k(y_pred, top_k)[1]
        called = jnp.put_along_axis(
            jnp.zeros(y_pred.shape, bool), places, True, axis=-1, inplace=False
        )
        y_pred = jnp.where(called, y_pred, _BELOW_ALL)
    if class_id is not None:
        if y_pred.ndim == 1:
            raise ValueError(
                f"class_id={class_id} needs predictions of shape (batch, classes), but they have "
                f"shape {y_pred.shape}."
            )
        if not -y_pred.shape[-1] <= class_id < y_pred.shape[-1]:
            raise ValueError(
                f"class_id={class_id} is none of the {y_pred.shape[-1]} classes of the predictions."
            )
        y_true, y_pred, weight = (a[..., class_id] for a in (y_true, y_pred, weight))
    keep = y_pred.shape[-1:] if by_label else ()
    y_true, y_pred, weight = (a.reshape(-1, *keep) for a in (y_true.astype(bool), y_pred, weight))
    # (thresholds, entries, ...): decisions at each threshold.
    limits = jnp.asarray(np.asarray(thresholds, "float32")).reshape(-1, 1, *(1 for _ in keep))
    positive = y_pred[None] > limits
    true, false = jnp.where(y_true, weight, 0), jnp.where(y_true, 0, weight)
    tp = jnp.sum(jnp.where(positive, true, 0), axis=1)
    fp = jnp.sum(jnp.where(positive, false, 0), axis=1)
    return tp, fp, jnp.sum(false, axis=0) - fp, jnp.sum(true, axis=0) - tp


class _Count(Metric):
    which: int

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.thresholds = _thresholds(thresholds, 0.5)
        self.accumulator = self.add_variable((len(self.thresholds),), name="accumulator")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        new = counts(y_true, y_pred, self.thresholds, sample_weight)[self.which]
        self.accumulator.assign(self.accumulator.value + new)

    def result(self) -> Array:
        value = self.accumulator.value
        return value[0] if len(self.thresholds) == 1 else value

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "thresholds": self.init_thresholds}


@serializable("keras.metrics")
class TruePositives(_Count):
    """How many positives are called positive."""

    which = 0
    direction = "up"


@serializable("keras.metrics")
class FalsePositives(_Count):
    """How many negatives are called positive."""

    which = 1
    direction = "down"


@serializable("keras.metrics")
class TrueNegatives(_Count):
    """How many negatives are called negative."""

    which = 2
    direction = "up"


@serializable("keras.metrics")
class FalseNegatives(_Count):
    """How many positives are called negative."""

    which = 3
    direction = "down"


class _Share(Metric):
    direction = "up"
    wrong_name: str
    wrong: int

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.top_k = None if top_k is None else whole("top_k", top_k)
        self.class_id = class_id
        self.thresholds = _thresholds(thresholds, 0.5 if top_k is None else _BELOW_ALL)
        self.true_positives = self.add_variable((len(self.thresholds),), name="true_positives")
        self.others = self.add_variable((len(self.thresholds),), name=self.wrong_name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        new = counts(y_true, y_pred, self.thresholds, sample_weight, self.top_k, self.class_id)
        self.true_positives.assign(self.true_positives.value + new[0])
        self.others.assign(self.others.value + new[self.wrong])

    def result(self) -> Array:
        right = self.true_positives.value
        share = divide_no_nan(right, right + self.others.value)
        return share[0] if len(self.thresholds) == 1 else share

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }


@serializable("keras.metrics")
class Precision(_Share):
    """What share of those called positive is.

    Args:
        thresholds: above which a probability counts as positive, 0.5 by default; a list gives an
            array of results.
        top_k: only the `k` most probable classes can be positive.
        class_id: only this class counts.
    """

    wrong_name, wrong = "false_positives", 1

    @property
    def false_positives(self) -> Variable:
        return self.others


@serializable("keras.metrics")
class Recall(_Share):
    """What share of the positives is called so; arguments as for `Precision`."""

    wrong_name, wrong = "false_negatives", 3

    @property
    def false_negatives(self) -> Variable:
        return self.others


class _Best(Metric):
    """The best of one share where another one is at least `value`, over even thresholds."""

    direction = "up"
    argument: str

    def __init__(
        self,
        value: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"{self.argument} must be from 0 to 1, but it is {value!r}.")
        whole("num_thresholds", num_thresholds)
        super().__init__(name=name, dtype=dtype)
        self.value = value
        self.num_thresholds = num_thresholds
        self.class_id = class_id
        self.thresholds = (
            [0.5] if num_thresholds == 1 else list(np.linspace(0.0, 1.0, num_thresholds))
        )
        names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
        self.counted = [self.add_variable((num_thresholds,), name=n) for n in names]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        new = counts(y_true, y_pred, self.thresholds, sample_weight, class_id=self.class_id)
        for variable, count in zip(self.counted, new, strict=True):
            variable.assign(variable.value + count)

    def best(self, pair: Callable[..., tuple[Array, Array]]) -> Array:
        limited, wanted = pair(*(v.value for v in self.counted))
        return jnp.max(jnp.where(limited >= self.value, wanted, 0), initial=0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "class_id": self.class_id,
            self.argument: self.value,
        }


@serializable("keras.metrics")
class SensitivityAtSpecificity(_Best):
    """The best recall with at least this share of negatives called negative."""

    argument = "specificity"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)

    def result(self) -> Array:
        return self.best(
            lambda tp, fp, tn, fn: (divide_no_nan(tn, tn + fp), divide_no_nan(tp, tp + fn))
        )


@serializable("keras.metrics")
class SpecificityAtSensitivity(_Best):
    """The best share of negatives called negative with at least this recall."""

    argument = "sensitivity"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)

    def result(self) -> Array:
        return self.best(
            lambda tp, fp, tn, fn: (divide_no_nan(tp, tp + fn), divide_no_nan(tn, tn + fp))
        )


@serializable("keras.metrics")
class PrecisionAtRecall(_Best):
    """The best precision with at least this recall."""

    argument = "recall"

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)

    def result(self) -> Array:
        return self.best(
            lambda tp, fp, tn, fn: (divide_no_nan(tp, tp + fn), divide_no_nan(tp, tp + fp))
        )


@serializable("keras.metrics")
class RecallAtPrecision(_Best):
    """The best recall with at least this precision."""

    argument = "precision"

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)

    def result(self) -> Array:
        return self.best(
            lambda tp, fp, tn, fn: (divide_no_nan(tp, tp + fp), divide_no_nan(tp, tp + fn))
        )
