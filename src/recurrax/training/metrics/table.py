"""Metrics by name."""

from typing import Any

from recurrax.lookup import find, table_of
from recurrax.registry import enter_functions
from recurrax.training.losses.table import SHORT
from recurrax.training.metrics import (
    accuracies,
    auc,
    confusion,
    f_score,
    of_losses,
    r2,
    reduction,
)
from recurrax.training.metrics.base import Metric

_CLASSES = [
    thing
    for room in (accuracies, auc, confusion, f_score, of_losses, r2, reduction)
    for name, thing in vars(room).items()
    if isinstance(thing, type)
    and issubclass(thing, Metric)
    and not name.startswith("_")
    and name not in ("Metric", "FunctionMetric")
]
_TABLE = table_of(_CLASSES)
enter_functions(
    table_of(vars(cls)["function"].__func__ for cls in _CLASSES if "function" in vars(cls))
)
_TABLE |= {short: _TABLE[name] for short, name in SHORT.items() if name in _TABLE}
_TABLE["cosine"] = of_losses.CosineSimilarity


def get(identifier: Any) -> Any:
    """The metric that a name, a configuration, a class or an object stands for.

    Raises:
        ValueError: an unknown name.
    """
    return find("metric", identifier, _TABLE)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The metric of a configuration."""
    return find("metric", config, _TABLE, custom_objects)


def names() -> list[str]:
    """All names that `get` knows."""
    return list(_TABLE)
