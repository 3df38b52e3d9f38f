"""What a layer's `call` takes, and a call's arguments by name."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from recurrax.layers import context
from recurrax.layers.shapes import shapes_of


class Signature(NamedTuple):
    """What a class's `call` takes."""

    signature: inspect.Signature
    names: tuple[str, ...]
    takes_training: bool
    takes_mask: bool


@functools.cache
def signature_of(cls: type) -> Signature:
    """The signature of `cls.call`, without `self`."""
    signature = inspect.signature(cls.call)  # pyright: ignore[reportAttributeAccessIssue]
    parameters = list(signature.parameters.values())[1:]
    names = tuple(p.name for p in parameters)
    return Signature(
        signature.replace(parameters=parameters), names, "training" in names, "mask" in names
    )


def bind(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """A call's arguments by name, and whether it is one in training.

    `training` is what the call says, else what the call around it says, else the default.
    """
    signature = signature_of(type(layer))
    training = kwargs.get("training")
    if not signature.takes_training:
        kwargs = {k: v for k, v in kwargs.items() if k != "training"}
    arguments = dict(signature.signature.bind(*args, **kwargs).arguments)
    if training is None:
        training = arguments.get("training")
    if training is None:
        training = context.training()
    if training is None:
        training = _default(signature, "training") or False
    if signature.takes_training:
        arguments["training"] = training
    return arguments, training


def splat(layer: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `call` by name; those of `**kwargs` among the others."""
    parameters = signature_of(type(layer)).signature.parameters
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and name in arguments:
            arguments = {**arguments, **arguments.pop(name)}
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and arguments.get(name):
            raise TypeError(
                f"{type(layer).__name__}.call takes *{name}, which cannot be followed through a "
                "model: take one argument that is a list instead."
            )
    return arguments


def shape_arguments(method: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments for `build` and its like: the first one's shape, `<name>_shape` by name."""
    parameters = [
        p
        for p in inspect.signature(method).parameters.values()
        if p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    ]
    shapes: dict[str, Any] = {}
    for parameter in parameters:
        of = parameter.name.removesuffix("_shape")
        if parameter is parameters[0]:
            shapes[parameter.name] = shapes_of(first(arguments))
        elif of != parameter.name and jax.tree.leaves(arguments.get(of)):
            shapes[parameter.name] = shapes_of(arguments[of])
    return shapes


def first(arguments: dict[str, Any]) -> Any:
    """The first argument: what a layer is called on."""
    return next(iter(arguments.values()), None)


def _default(signature: Signature, name: str) -> Any:
    parameter = signature.signature.parameters.get(name)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return None
    return parameter.default
