"""How an operation meets variables, Python lists and symbolic tensors."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.variable import Variable

Apply = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

# Keras's names of leading arguments, which jax.numpy names otherwise.
_LEADING = ("x", "xs", "x1", "x2")

_symbolic: type | None = None
_apply: Apply | None = None


def intercept(symbolic: type, apply: Apply) -> None:
    """From now on an operation on an instance of `symbolic` is `apply(function, args, kwargs)`.

    The floor of layers calls this once, so that operations become nodes of a functional model.
    """
    global _symbolic, _apply
    _symbolic, _apply = symbolic, apply


def _is_symbolic(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(_is_symbolic(item) for item in argument)
    if isinstance(argument, dict):
        return any(_is_symbolic(item) for item in argument.values())
    return _symbolic is not None and isinstance(argument, _symbolic)


def unwrap(argument: Any) -> Any:
    """`argument` with the value in place of each variable."""
    if isinstance(argument, Variable):
        return argument.value
    if isinstance(argument, list):
        return [unwrap(item) for item in argument]
    if type(argument) is tuple:
        return tuple(unwrap(item) for item in argument)
    return argument


def op(function: Callable[..., Any], tensors: int = 1) -> Callable[..., Any]:
    """`function` as an operation: it also takes variables, and symbolic tensors once there are any.

    Args:
        function: a function of arrays.
        tensors: how many leading arguments are arrays, which may then be given as Python lists.
    """

    @functools.wraps(function)
    def operation(*args: Any, **kwargs: Any) -> Any:
        for name in _LEADING:
            if len(args) < 2 and name in kwargs:
                args = (*args, kwargs.pop(name))
        if _apply is not None and _is_symbolic((args, kwargs)):
            return _apply(function, args, kwargs)
        args = tuple(
            jnp.asarray(item) if i < tensors and isinstance(item, list | tuple) else item
            for i, item in enumerate(map(unwrap, args))
        )
        return function(*args, **{name: unwrap(item) for name, item in kwargs.items()})

    return operation


def binary(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of two arrays, as an operation."""
    return op(function, tensors=2)


def in_order(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """`function`, whose arguments after the first come in Keras's order.

    Args:
        function: a function of an array, whose further arguments jax.numpy has in another order.
        names: those arguments, in the order in which they may be given without their names.
    """

    def ordered(x: Any, *settings: Any, **further: Any) -> Any:
        return function(x, **dict(zip(names, settings, strict=False)), **further)

    kinds = inspect.Parameter
    ordered.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in ("x", *names)]
    )
    ordered.__name__, ordered.__doc__ = function.__name__, function.__doc__
    return ordered


def tree_op(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` whose arguments may be any pytrees holding variables, as an operation."""

    @functools.wraps(function)
    def operation(*args: Any, **kwargs: Any) -> Any:
        if _apply is not None and _is_symbolic((args, kwargs)):
            return _apply(function, args, kwargs)
        args, kwargs = jax.tree.map(unwrap, (args, kwargs))
        return function(*args, **kwargs)

    return operation
