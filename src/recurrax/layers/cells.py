"""What the loop asks of a cell: its states, one step, its weights."""

import functools
from inspect import signature
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.layers import symbolic
from recurrax.layers.call import require_initialised
from recurrax.layers.cell import GatedCell
from recurrax.layers.graph import SymbolicTensor
from recurrax.layers.inference import infer
from recurrax.layers.layer import Layer
from recurrax.layers.shapes import map_shapes
from recurrax.layers.signature import signature_of
from recurrax.variable import StatelessScope


def check_cell(cell: Any) -> None:
    """Raise ValueError where `cell` is no cell."""
    if isinstance(cell, type):
        raise ValueError(
            f"RNN expected a cell, but got the class {cell.__name__}: pass {cell.__name__}(...)."
        )
    if not callable(getattr(cell, "call", None)):
        raise ValueError(
            f"RNN expected a cell with a method call(inputs, states), but got {cell!r}, which has "
            "none: define `def call(self, inputs, states): return output, [new_state]`."
        )
    if isinstance(cell, Layer):
        require_initialised(cell)
    size = getattr(cell, "state_size", None)
    if size is None:
        raise ValueError(
            f"The cell {cell!r} has no attribute state_size: set self.state_size in its __init__ "
            "to the number of features of its state, or to a list of them."
        )
    if isinstance(size, str):
        raise ValueError(
            f"The cell {cell!r} has state_size={size!r}: it must be a number of "
            "features, or a list of them, one for each state."
        )


def build_cell(cell: Layer, step_shape: Any, constants_shape: Any = None) -> None:
    """Build a cell, and the layers in it, for inputs of `step_shape` (batch, ...)."""
    takes = constants_shape is not None and "constants_shape" in signature(cell.build).parameters
    cell.build(step_shape, **({"constants_shape": constants_shape} if takes else {}))
    cell.built = True
    if not all(layer.built for layer in cell.flatten_layers()):
        # Nothing says how the layers inside are fed: a step on shapes alone builds them.
        symbols = [symbolic.shapes_to_symbols(cell, s) for s in (step_shape, constants_shape)]
        trace_step(cell, *symbols)


def trace_step(cell: Any, inputs: Any, constants: Any = None) -> Any:
    """The output of a step, as symbolic tensors; `inputs` are such, (batch, ...)."""
    batch = jax.tree.leaves(inputs)[0].shape[0]
    states = jax.eval_shape(lambda: initial_state(cell, 1))
    symbols = jax.tree.map(lambda s: SymbolicTensor((batch, *s.shape[1:]), s.dtype), states)

    def step(inputs: Any, states: Any, constants: Any) -> Any:
        with StatelessScope():
            return call_cell(cell, inputs, states, False, constants)[0]

    return infer(step, [inputs, symbols, constants])


def output_of(cell: Any, inputs: Any, constants: Any = None) -> Any:
    """The output of a step of a built cell, as symbolic tensors; `inputs` are such, (batch, ...).

    What a cell declares as `output_size` may be a size, a shape or a structure of shapes, or be
    missing: the cell itself knows best.
    """
    if is_asked(cell, constants):
        return trace_step(cell, inputs, constants)
    batch, size = jax.tree.leaves(inputs)[0].shape[0], declared_output_size(cell)
    shapes = (size,) if isinstance(size, int) else size
    dtype = getattr(cell, "compute_dtype", "float32")
    return map_shapes(lambda features: SymbolicTensor((batch, *features), dtype), shapes)


def declared_output_size(cell: Any) -> Any:
    """`output_size`, else the size of the first state."""
    size = getattr(cell, "output_size", None)
    if size is not None:
        return size
    return cell.state_size[0] if isinstance(cell.state_size, list | tuple) else cell.state_size


def is_asked(cell: Any, constants: Any) -> bool:
    """Whether what a cell returns is found out by a step on shapes, not by what it declares.

    So it is but for our own cells, whose word is good (a convolution's output depends on the
    input, so it is no word), and where constants that the cell needs are not there.
    """
    ours = isinstance(cell, GatedCell) and type(cell).__module__.startswith("recurrax.")
    if ours and not hasattr(cell, "step_output_shape"):
        return False
    return constants is not None or not _requires_constants(cell)


def stack_of(cell: Any) -> list[Any]:
    """The cells that a `StackedRNNCells` is made of; empty for any other cell."""
    return cell.cells if getattr(cell, "stacks_cells", False) else []


def takes_constants(cell: Any) -> bool:
    """Whether the `call` of a cell, or of one in a stack, takes `constants`."""
    if stack := stack_of(cell):
        return any(takes_constants(each) for each in stack)
    parameters = signature_of(type(cell)).signature.parameters.values()
    return any(p.name == "constants" or p.kind is p.VAR_KEYWORD for p in parameters)


def _requires_constants(cell: Any) -> bool:
    if stack := stack_of(cell):
        return any(_requires_constants(each) for each in stack)
    parameter = signature_of(type(cell)).signature.parameters.get("constants")
    return parameter is not None and parameter.default is parameter.empty


def initial_state(cell: Any, batch_size: int) -> list[Any]:
    """The states before the first step, as a list."""
    method = getattr(cell, "get_initial_state", None)
    if method is not None:
        # Old code declares get_initial_state(inputs=None, batch_size=None, dtype=None).
        dtype = {"dtype": cell.compute_dtype} if _old_style(type(cell)) else {}
        states = method(batch_size=batch_size, **dtype)
        return list(states) if isinstance(states, list | tuple) else [states]
    sizes = cell.state_size if isinstance(cell.state_size, list | tuple) else [cell.state_size]
    dtype = getattr(cell, "compute_dtype", "float32")
    return [_zeros(size, batch_size, dtype) for size in sizes]


@functools.cache
def _old_style(cls: type) -> bool:
    parameters = signature(cls.get_initial_state).parameters  # pyright: ignore
    return "dtype" in parameters and issubclass(cls, Layer)


def _zeros(size: Any, batch_size: int, dtype: Any) -> Any:
    if isinstance(size, int):
        return jnp.zeros((batch_size, size), dtype)
    if all(isinstance(axis, int) for axis in size):
        return jnp.zeros((batch_size, *size), dtype)
    return [_zeros(each, batch_size, dtype) for each in size]


def starts_at_zero(cell: Any) -> bool:
    """Whether the initial state of `cell` is zeros for sure."""
    if stack := stack_of(cell):
        return all(starts_at_zero(each) for each in stack)
    method = getattr(type(cell), "get_initial_state", None)
    return method is None or (
        isinstance(cell, GatedCell) and method.__module__.startswith("recurrax.")
    )


def match_states(new: Any, old: list[Any], what: str) -> list[Any]:
    """`new` in the structure of `old`.

    Raises:
        ValueError: they differ in number, shape or dtype.
    """
    new_leaves, (old_leaves, treedef) = jax.tree.leaves(new), jax.tree.flatten(old)

    def text(leaves: list[Any]) -> str:
        return "[" + ", ".join(f"{jnp.result_type(x)}{tuple(jnp.shape(x))}" for x in leaves) + "]"

    same = len(new_leaves) == len(old_leaves) and all(
        jnp.shape(n) == jnp.shape(o) for n, o in zip(new_leaves, old_leaves, strict=True)
    )
    if not same and what.startswith("initial_state"):
        raise ValueError(
            f"The {what} holds {text(new_leaves)}, but {text(old_leaves)} was expected: pass a "
            "list of one array for each state."
        )
    if not same:
        raise ValueError(
            f"The {what} are {text(new_leaves)}, but {text(old_leaves)} were expected: states keep "
            "number, shape and dtype from step to step. Return one new state for each old one."
        )
    if what.startswith("initial"):
        new_leaves = [jnp.asarray(n, o.dtype) for n, o in zip(new_leaves, old_leaves, strict=True)]
    elif any(n.dtype != o.dtype for n, o in zip(new_leaves, old_leaves, strict=True)):
        raise ValueError(
            f"The {what} are {text(new_leaves)}, but {text(old_leaves)} were expected: states keep "
            "number, shape and dtype from step to step. Cast them with .astype(state.dtype)."
        )
    return jax.tree.unflatten(treedef, new_leaves)


def call_cell(
    cell: Any, x: Any, states: list[Any], training: bool, constants: Any = None
) -> tuple[Any, Any]:
    """One step: the output and the new states.

    Raises:
        ValueError: the cell returned no pair.
    """
    more = {}
    if constants is not None and takes_constants(cell):
        more["constants"] = constants
    if isinstance(cell, Layer):
        if signature_of(type(cell)).takes_training:
            more["training"] = training
        result = cell(x, states, **more)
    else:
        result = cell.call(x, states, **more)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise ValueError(
            f"The cell {cell_name(cell)!r} returned {type(result).__name__}: call(inputs, states) "
            "must return a pair, (output, new_states)."
        )
    return result[0], result[1]


def cell_name(cell: Any) -> str:
    """What messages call a cell."""
    return getattr(cell, "name", type(cell).__name__)
