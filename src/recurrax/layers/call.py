"""What happens when a layer is called: on symbolic tensors, inside a trace, or on arrays."""

from typing import Any

import jax
from jax.core import Tracer

from recurrax.layers import context
from recurrax.layers.building import ensure_built
from recurrax.layers.eager import call_compiled, compiles
from recurrax.layers.graph import is_symbolic
from recurrax.layers.running import run
from recurrax.layers.signature import bind, first
from recurrax.layers.symbolic import add_node
from recurrax.loop.compat import get_opaque_trace_state
from recurrax.variable import current_scope

_OUTSIDE = get_opaque_trace_state(convention="nnx")


def call_layer(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`layer(*args, **kwargs)`."""
    require_initialised(layer)
    arguments, training = bind(layer, args, kwargs)
    leaves = jax.tree.leaves(arguments)
    inputs = first(arguments)
    _check_inputs(layer, inputs)
    if any(is_symbolic(leaf) for leaf in leaves):
        ensure_built(layer, arguments)
        with context.entered(layer, training):
            return add_node(layer, args, kwargs, arguments)
    if _in_trace(leaves):
        ensure_built(layer, arguments)
        return run(layer, arguments, training)
    if context.depth() == 0:
        for each in layer.flatten_layers():
            each._losses.clear()
    if hasattr(layer, "check_values"):
        layer.check_values(inputs)
    if not compiles(layer):
        ensure_built(layer, arguments, by_tracing=False)
        return run(layer, arguments, training)
    ensure_built(layer, arguments)
    return call_compiled(layer, arguments, training)


def require_initialised(layer: Any) -> None:
    """Raise RuntimeError where a class of a user's forgot `super().__init__()`."""
    if "built" not in layer.__dict__:
        raise RuntimeError(
            f"{type(layer).__name__}.__init__ did not call super().__init__(): add that as its "
            "first line."
        )


def _in_trace(leaves: list[Any]) -> bool:
    """Whether something around this call is being traced, and so compiles it already."""
    return (
        current_scope() is not None
        or any(isinstance(leaf, Tracer) for leaf in leaves)
        or get_opaque_trace_state(convention="nnx") != _OUTSIDE
    )


def _check_inputs(layer: Any, inputs: Any) -> None:
    spec = layer.input_spec
    _check_arrays(layer.name, inputs, several=spec is None or isinstance(spec, list | tuple))
    if spec is None:
        return
    specs = spec if isinstance(spec, list | tuple) else [spec]
    tensors = jax.tree.leaves(inputs)
    for one, x in zip(specs, tensors, strict=False):
        if one is not None:
            one.check(tuple(x.shape), x.dtype, layer.name)


def _check_arrays(name: str, inputs: Any, several: bool) -> None:
    """Raise ValueError for lists of numbers and other things that are no arrays."""
    if hasattr(inputs, "shape"):
        return
    innermost = inputs
    while isinstance(innermost, list | tuple) and innermost:
        innermost = innermost[0]
    if isinstance(inputs, list | tuple) and isinstance(innermost, int | float):
        raise ValueError(
            f"Layer {name!r} expected an array, but got a {type(inputs).__name__} of numbers: pass "
            "np.asarray(...) of it, or recurrax.utils.pad_sequences(...) of rows of different "
            "lengths."
        )
    if several:
        return
    leaves = jax.tree.leaves(inputs)
    if len(leaves) != 1 or not hasattr(leaves[0], "shape"):
        came = f"a {type(inputs).__name__} of {len(leaves)} arrays" if leaves else repr(inputs)
        if not all(hasattr(leaf, "shape") for leaf in leaves):
            came = f"{inputs!r:.80} of type {type(inputs).__name__}"
        raise ValueError(f"Layer {name!r} expected one array, but got {came}.")
