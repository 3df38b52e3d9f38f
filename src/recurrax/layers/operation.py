"""Operators and functions on symbolic tensors: nodes of a graph that are no layers."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from recurrax import ops
from recurrax.layers.graph import Node, SymbolicTensor, symbolic_leaves
from recurrax.layers.inference import infer
from recurrax.naming import auto_name
from recurrax.ops.dispatch import intercept
from recurrax.variable import StatelessScope


class Operation:
    """A function in a functional model.

    Args:
        kind: what the function is called in `recurrax.ops`; "" for one that is not there.
        function: traceable by JAX.
        name: name in the model; made from `kind` where None.
    """

    built = True
    weights: tuple[Any, ...] = ()

    def __init__(self, kind: str, function: Callable[..., Any], name: str | None = None) -> None:
        self.kind = kind
        self.function = function
        self.name = name or auto_name(kind or function.__name__.strip("_<>"))
        self._nodes: list[Node] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not symbolic_leaves((args, kwargs)):
            return self.function(*args, **kwargs)

        def run(args: Any, kwargs: Any) -> Any:
            with StatelessScope():
                return self.function(*args, **kwargs)

        outputs = infer(run, (args, kwargs))
        self._nodes.append(Node(self, args, kwargs, outputs))
        return outputs

    @property
    def class_name(self) -> str:
        """What Keras calls the class of the operation."""
        return "".join(part.capitalize() for part in self.kind.split("_")) or "Operation"

    def count_params(self) -> int:
        """None: an operation has no weights."""
        return 0

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


def apply(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function of `recurrax.ops` does on symbolic tensors."""
    return Operation(kind_of(function), function)(*args, **kwargs)


@functools.cache
def kind_of(function: Callable[..., Any]) -> str:
    """The name in `recurrax.ops` of the operation that `function` computes, "" if none."""
    for name, operation in vars(ops).items():
        if getattr(operation, "__wrapped__", None) is function:
            return name
    return ""


def on_symbols(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, which on symbolic tensors becomes a node of the graph."""

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not symbolic_leaves((args, kwargs)):
            return method(self, *args, **kwargs)
        name = auto_name(f"{self.name}_{method.__name__}")
        return Operation("", functools.partial(method, self), name)(*args, **kwargs)

    return wrapped


def get_item(x: Any, key: Any) -> Any:
    """`x[key]`; in a configuration a tuple has become a list."""
    return x[tuple(key) if isinstance(key, list) else key]


# Operators of Python: their names in `recurrax.ops` and what computes them.
_OPERATORS: dict[str, tuple[str, Callable[..., Any]]] = {
    "add": ("add", jnp.add),
    "sub": ("subtract", jnp.subtract),
    "mul": ("multiply", jnp.multiply),
    "truediv": ("true_divide", jnp.true_divide),
    "floordiv": ("floor_divide", jnp.floor_divide),
    "mod": ("mod", jnp.mod),
    "pow": ("power", jnp.power),
    "matmul": ("matmul", jnp.matmul),
    "and": ("logical_and", jnp.logical_and),
    "or": ("logical_or", jnp.logical_or),
    "xor": ("logical_xor", jnp.logical_xor),
    "lt": ("less", jnp.less),
    "le": ("less_equal", jnp.less_equal),
    "gt": ("greater", jnp.greater),
    "ge": ("greater_equal", jnp.greater_equal),
    "neg": ("negative", jnp.negative),
    "abs": ("absolute", jnp.absolute),
    "invert": ("logical_not", jnp.logical_not),
    "getitem": ("get_item", get_item),
}
_REFLECTED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")


def _give_operators() -> None:
    def direct(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, *others: Operation(kind, function)(self, *others)

    def reflected(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, other: Operation(kind, function)(other, self)

    for operator, (kind, function) in _OPERATORS.items():
        setattr(SymbolicTensor, f"__{operator}__", direct(kind, function))
        if operator in _REFLECTED:
            setattr(SymbolicTensor, f"__r{operator}__", reflected(kind, function))


_give_operators()
intercept(SymbolicTensor, apply)
