"""What callbacks share that watch one result: which way is better, and whether it got better."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from recurrax.training.callbacks.base import Callback

_HIGHER = (
    *("acc", "auc", "precision", "recall", "f1", "fbeta", "r2", "iou", "sensitivity"),
    *("specificity", "cosine_similarity", "true_positives", "true_negatives", "fmeasure"),
)


class MonitorCallback(Callback):
    """Base of callbacks that watch one result.

    Args:
        monitor: its name in the logs.
        mode: "min", "max" or "auto": by the name, larger is better for accuracies, areas and
            other scores, smaller for everything else.
        baseline: to be better than, at first.
        min_delta: by how much better counts.

    Raises:
        ValueError: another mode.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        baseline: float | None = None,
        min_delta: float = 0,
    ) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'mode must be "auto", "min" or "max", but it is {mode!r}.')
        self.monitor = monitor
        self.mode = mode
        self.best = baseline
        self.min_delta = abs(min_delta)
        name = monitor.removeprefix("val_").lower()
        up = any(word in name for word in _HIGHER) and not name.endswith("loss")
        self._upwards = mode == "max" or (mode == "auto" and up)

    def _value(self, logs: Any) -> Any:
        """The watched result, or None and a warning where it is not there."""
        logs = logs or {}
        value = logs.get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__} watches {self.monitor!r}, which is not among the results: "
                f"{', '.join(logs)}.",
                stacklevel=3,
            )
        return value

    def _is_improvement(self, value: Any, best: Any) -> bool:
        if best is None:
            return True
        if self._upwards:
            return bool(np.greater(value - self.min_delta, best))
        return bool(np.less(value + self.min_delta, best))


def learning_rate_of(model: Any) -> float:
    """The learning rate of a model's optimizer, as a number."""
    return float(np.asarray(model.optimizer.learning_rate))


def with_learning_rate(logs: Any, rate: float) -> None:
    """Put the learning rate among the results of an epoch."""
    if isinstance(logs, Mapping):
        logs["learning_rate"] = rate  # pyright: ignore[reportIndexIssue]
