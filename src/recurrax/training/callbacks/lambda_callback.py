"""`LambdaCallback`: a callback of functions."""

from collections.abc import Callable
from typing import Any

from recurrax.registry import nearest
from recurrax.training.callbacks.base import Callback


class LambdaCallback(Callback):
    """A callback whose methods are the functions given.

    Args:
        on_epoch_begin, on_epoch_end, on_train_begin, on_train_end, on_train_batch_begin,
            on_train_batch_end: functions with the arguments of `Callback`'s methods.
        kwargs: other methods by name.

    Raises:
        ValueError: a name that `Callback` does not have.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        functions = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        turns = [name for name in vars(Callback) if name.startswith("on_")]
        for name, function in functions.items():
            if name not in turns:
                raise ValueError(f"A callback has no method {name!r}.{nearest(name, turns)}")
            if function is not None and not callable(function):
                raise ValueError(f"{name} must be a function, but it is {function!r}.")
            if function is not None:
                self.__dict__[name] = function
