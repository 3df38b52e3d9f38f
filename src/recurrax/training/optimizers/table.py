"""Optimizers by name."""

from typing import Any

from recurrax.lookup import find, table_of
from recurrax.training.optimizers.adadelta import Adadelta
from recurrax.training.optimizers.adafactor import Adafactor
from recurrax.training.optimizers.adagrad import Adagrad
from recurrax.training.optimizers.adam import Adam, AdamW
from recurrax.training.optimizers.adamax import Adamax
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.from_optax import OptaxOptimizer
from recurrax.training.optimizers.ftrl import Ftrl
from recurrax.training.optimizers.lamb import Lamb
from recurrax.training.optimizers.lion import Lion
from recurrax.training.optimizers.loss_scale import LossScaleOptimizer
from recurrax.training.optimizers.nadam import Nadam
from recurrax.training.optimizers.rmsprop import RMSprop
from recurrax.training.optimizers.sgd import SGD

_CLASSES = [
    *(Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Ftrl, Lamb, Lion, Nadam, RMSprop, SGD),
]
_TABLE = table_of(_CLASSES) | {cls.__name__.lower(): cls for cls in _CLASSES}


def get(identifier: Any) -> Any:
    """The optimizer that a name, a configuration, a class, an object or an optax transformation
    stands for.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if hasattr(identifier, "init") and hasattr(identifier, "update"):
        return OptaxOptimizer(identifier)
    if isinstance(identifier, str):
        identifier = identifier.lower() if identifier.lower() in _TABLE else identifier
    return find("optimizer", identifier, _TABLE, accept=_is_optimizer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The optimizer of a configuration."""
    return find("optimizer", config, _TABLE, custom_objects, accept=_is_optimizer)


def _is_optimizer(thing: Any) -> bool:
    return isinstance(thing, Optimizer)


__all__ = ["LossScaleOptimizer", "deserialize", "get"]
