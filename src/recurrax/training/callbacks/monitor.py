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


_LOWER = ("loss", "error", "crossentropy", "perplexity", "divergence", "false_", "poisson", "hinge")
_LOWER_NAMES = ("mse", "mae", "mape", "msle", "rmse", "bce", "kld", "ce", "huber", "log_cosh")


class MonitorCallback(Callback):
    """Base of callbacks that watch one result.

    Args:
        monitor: its name in the logs.
        mode: "min", "max" or "auto": as the model's metric of this name says, else by the name,
            where that tells a score from an error.
        baseline: to be better than, at first.
        min_delta: by how much better counts.

    Raises:
        ValueError: another mode, or (in training) a result that "auto" knows nothing of.
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
        if not isinstance(monitor, str):
            raise ValueError(f'monitor must be a name such as "val_loss", but it is {monitor!r}.')
        self.monitor = monitor
        self.mode = mode
        self.best = baseline
        self.min_delta = abs(min_delta)
        self._upwards = {"max": True, "min": False, "auto": _by_name(monitor)}[mode]

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        if self.mode == "auto":
            metric = _metrics_of(model).get(self.monitor.removeprefix("val_"))
            if metric is not None and metric.direction is not None:
                self._upwards = metric.direction == "up"
            elif metric is not None and self._upwards is None:
                raise self._undecided()

    def _undecided(self) -> ValueError:
        return ValueError(
            f"{type(self).__name__} watches {self.monitor!r}, of which nobody said whether more or "
            'less of it is better: pass mode="max" or mode="min".'
        )

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
        if self._upwards is None:
            raise self._undecided()
        if best is None:
            return True
        if self._upwards:
            return bool(np.greater(value - self.min_delta, best))
        return bool(np.less(value + self.min_delta, best))


def _by_name(monitor: str) -> bool | None:
    """Whether more of a result of this name is better; None where the name does not tell."""
    name = monitor.removeprefix("val_").lower()
    if name.endswith("loss"):
        return False
    if any(word in name for word in _HIGHER):
        return True
    lower = any(word in name for word in _LOWER) or name.rpartition("_")[2] in _LOWER_NAMES
    return False if lower or name in _LOWER_NAMES else None


def _metrics_of(model: Any) -> dict[str, Any]:
    """The metrics of a model by the names of their results."""
    found: dict[str, Any] = {}
    for metric in getattr(model, "metrics", ()):
        by_name = getattr(metric, "by_name", None)
        found |= {metric.name: metric} if by_name is None else by_name()
    return found


def learning_rate_of(model: Any) -> float:
    """The learning rate of a model's optimizer, as a number."""
    return float(np.asarray(model.optimizer.learning_rate))


def with_learning_rate(logs: Any, rate: float) -> None:
    """Put the learning rate among the results of an epoch."""
    if isinstance(logs, Mapping):
        logs["learning_rate"] = rate  # pyright: ignore[reportIndexIssue]
