"""Losses by name."""

from typing import Any

from recurrax.lookup import find, table_of
from recurrax.registry import enter_functions
from recurrax.training.losses import alignment, margin, overlap, probabilistic, regression
from recurrax.training.losses.base import FunctionLoss, Loss, LossFunctionWrapper

_CLASSES = [
    thing
    for room in (alignment, margin, overlap, probabilistic, regression)
    for thing in vars(room).values()
    if isinstance(thing, type) and issubclass(thing, FunctionLoss) and "function" in vars(thing)
]

# A function's name stands for the function, a class's name for the class.
FUNCTIONS = table_of(cls.function for cls in _CLASSES)
enter_functions(FUNCTIONS)
SHORT = {
    "bce": "binary_crossentropy",
    "BCE": "binary_crossentropy",
    "kld": "kl_divergence",
    "KLD": "kl_divergence",
    "kullback_leibler_divergence": "kl_divergence",
    "logcosh": "log_cosh",
    "mae": "mean_absolute_error",
    "MAE": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "MAPE": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "MSE": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
    "MSLE": "mean_squared_logarithmic_error",
}
_TABLE = table_of(_CLASSES) | FUNCTIONS | {short: FUNCTIONS[name] for short, name in SHORT.items()}
_CLASS_OF = {cls.function: cls for cls in _CLASSES}


def get(identifier: Any) -> Any:
    """The loss that a name, a configuration, a class or an object stands for.

    Names in snake case stand for the function, names of classes for an object of that class.

    Raises:
        ValueError: an unknown name.
    """
    return find("loss", identifier, _TABLE)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The loss of a configuration."""
    return find("loss", config, _TABLE, custom_objects)


def as_loss(identifier: Any) -> Loss | None:
    """`get(identifier)`, with a bare function wrapped, so that it is weighed and reduced."""
    loss = get(identifier)
    if loss is None or isinstance(loss, Loss):
        return loss
    if loss in _CLASS_OF:
        return _CLASS_OF[loss](name=loss.__name__)
    return LossFunctionWrapper(loss)
