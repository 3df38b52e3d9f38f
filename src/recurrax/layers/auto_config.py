"""Configurations of layers that define no `get_config`: what their `__init__` was called with."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from recurrax.registry import serialize

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def argument_names(cls: type) -> list[str]:
    """Names of the arguments that a class takes, itself and from its bases."""
    # A built-in recurrent layer takes its cell's arguments too, and says so in its signature.
    names = list(getattr(cls, "__signature__", inspect.Signature()).parameters)
    for base in cls.__mro__:
        if "__init__" in base.__dict__:
            names += _named(base.__init__)
    return names


@functools.lru_cache(maxsize=256)
def _named(init: Callable[..., Any]) -> list[str]:
    """Names of what an `__init__` takes; making a layer asks for them, and they take long."""
    parameters = inspect.signature(init).parameters.values()
    return [p.name for p in parameters if p.kind not in _VARIADIC and p.name != "self"]


def missing_arguments(layer: Any) -> dict[str, Any]:
    """Arguments of a subclass that has its own `__init__` and no `get_config` of its own.

    Raises:
        NotImplementedError: an argument that is no plain data.
    """
    for cls in type(layer).__mro__:
        if "get_config" in cls.__dict__ or cls.__module__.startswith("recurrax."):
            return {}  # it, and what it calls, answers for all arguments
        if "__init__" in cls.__dict__:
            break
    args, kwargs = layer._init_call
    bound = inspect.signature(type(layer).__init__).bind(layer, *args, **kwargs)
    arguments = dict(list(bound.arguments.items())[1:])
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(name, {}))
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and arguments.get(name):
            raise _needs_config(layer, name)
    for name, value in arguments.items():
        try:
            serialize(value)
        except ValueError as error:
            raise _needs_config(layer, name) from error
    return {k: v for k, v in arguments.items() if k not in ("name", "trainable", "dtype")}


def _needs_config(layer: Any, name: str) -> NotImplementedError:
    return NotImplementedError(
        f"{type(layer).__name__} has an argument {name!r} that cannot be saved by itself: define "
        "get_config(self), returning {**super().get_config(), "
        f"{name!r}: ...}}."
    )
