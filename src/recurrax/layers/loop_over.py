"""One loop over time around a cell, on the one entrance to all loops, `recurrax.scan`."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.layers import masked
from recurrax.layers.cell import GatedCell
from recurrax.layers.layer import Layer
from recurrax.layers.record import is_recording, record, recording
from recurrax.loop import scan
from recurrax.variable import StatelessScope, Variable


def loop(
    layer: Any,
    sequences: Any,
    initial: list[Any],
    mask: Array | None,
    training: bool,
    starts_at_zero: bool,
) -> tuple[Any, list[Any]]:
    """Run `layer.cell` over `sequences`.

    Args:
        layer: the `RNN` whose settings hold.
        sequences: structure of (batch, timesteps, ...).
        initial: states before the first step.
        mask: boolean (batch, timesteps) or None.
        training: handed to the cell.
        starts_at_zero: whether `initial` is known to be zeros.

    Returns:
        The outputs, (batch, timesteps, ...) or those of the last step, and the last states.
    """
    cell, reverse = layer.cell, layer.go_backwards
    # In float32 the states of a mixed-precision cell would make every step's carry change dtype.
    initial = jax.tree.map(lambda x: jnp.asarray(x, _state_dtype(x, layer)), initial)
    xs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), sequences)
    steps = jax.tree.leaves(xs)[0].shape[0]
    if steps == 0:
        raise ValueError(
            f"Layer {layer.name!r} got a sequence of 0 timesteps: pass at least one step."
        )
    time_mask = None if mask is None else jnp.swapaxes(mask.astype(bool), 0, 1)
    changing = _changing(cell)
    output_is_state: list[int | None] = []

    def step(carry: Any, x: Any) -> Any:
        states, changed = carry
        x_t, mask_t = x
        with recording() if is_recording() else contextlib.nullcontext() as found:
            with StatelessScope(zip(changing, changed, strict=True)) as scope:
                output, new = _call_cell(cell, x_t, states, training)
                losses = scope.losses
                changed = [scope.get_current_value(v) for v in changing]
            new = match_states(new, states, f"new states of cell {_name(cell)!r}")
            position = _position(output, new)
            if mask_t is not None:
                new = jax.tree.map(lambda n, o: masked.select(mask_t, n, o), new, states)
                output = output if position is None else jax.tree.leaves(new)[position]
        output_is_state[:] = [position]
        keep = layer.return_sequences or position is None
        return (new, changed), (output if keep else None, losses, found)

    if training and hasattr(cell, "draw_dropout_masks"):
        cell.draw_dropout_masks(jax.tree.map(lambda x: x[0], xs), initial[0])
    try:
        (states, changed), (ys, losses, found) = scan(
            step,
            (initial, [v.value for v in changing]),
            (xs, time_mask),
            length=steps,
            reverse=reverse,
            unroll=bool(layer.unroll) or 1,
            runner=layer.runner,
            segments=layer.segments,
        )
    finally:
        if hasattr(cell, "reset_dropout_masks"):
            cell.reset_dropout_masks()
    for variable, value in zip(changing, changed, strict=True):
        variable.assign(value)
    for loss in losses:
        layer.add_loss(loss.sum())
    for name, values in (found or {}).items():
        record(f"{layer.name}/{name}", jnp.swapaxes(values, 0, 1))
    (position,) = output_is_state
    if layer.return_sequences:
        if time_mask is not None:
            ys = _mask_outputs(ys, time_mask, layer, position is not None, starts_at_zero)
        ys = jax.tree.map(lambda y: jnp.swapaxes(y[::-1] if reverse else y, 0, 1), ys)
        return ys, states
    if position is not None:
        last = jax.tree.leaves(states)[position]
        if time_mask is not None and not (starts_at_zero and not layer.zero_output_for_mask):
            ended = 0 if reverse else -1
            valid = time_mask[ended] if layer.zero_output_for_mask else time_mask.any(axis=0)
            last = masked.select(valid, last, jnp.zeros_like(last))
        return last, states
    if time_mask is not None:
        ys = _mask_outputs(ys, time_mask, layer, False, starts_at_zero)
    return jax.tree.map(lambda y: y[0] if reverse else y[-1], ys), states


def _mask_outputs(ys: Any, mask: Array, layer: Any, are_states: bool, starts_at_zero: bool) -> Any:
    reverse = layer.go_backwards

    def where(known: Array, y: Array) -> Array:
        return jnp.where(known.reshape(known.shape + (1,) * (y.ndim - 2)), y, 0)

    if layer.zero_output_for_mask:
        return jax.tree.map(lambda y: where(mask, y), ys)
    if are_states:  # a masked step has kept the state, and the output with it
        known = masked.seen(mask, reverse)
        return ys if starts_at_zero else jax.tree.map(lambda y: where(known, y), ys)
    return jax.tree.map(lambda y: masked.carry_forward(y, mask, reverse), ys)


# ---------------------------------------------------------------------- cells


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
    if getattr(cell, "state_size", None) is None:
        raise ValueError(
            f"The cell {cell!r} has no attribute state_size: set self.state_size in its __init__ "
            "to the number of features of its state, or to a list of them."
        )


def build_cell(cell: Layer, step_shape: Any) -> None:
    """Build a cell for inputs of `step_shape` (batch, ...)."""
    cell.build(step_shape)
    cell.built = True


def initial_state(cell: Any, batch_size: int) -> list[Any]:
    """The states before the first step, as a list."""
    method = getattr(cell, "get_initial_state", None)
    if method is not None:
        states = method(batch_size=batch_size)
        return list(states) if isinstance(states, list | tuple) else [states]
    sizes = cell.state_size if isinstance(cell.state_size, list | tuple) else [cell.state_size]
    dtype = getattr(cell, "compute_dtype", "float32")
    return [_zeros(size, batch_size, dtype) for size in sizes]


def _zeros(size: Any, batch_size: int, dtype: Any) -> Any:
    if isinstance(size, int):
        return jnp.zeros((batch_size, size), dtype)
    if all(isinstance(axis, int) for axis in size):
        return jnp.zeros((batch_size, *size), dtype)
    return [_zeros(each, batch_size, dtype) for each in size]


def starts_at_zero(cell: Any) -> bool:
    """Whether the initial state of `cell` is zeros for sure."""
    method = getattr(type(cell), "get_initial_state", None)
    return method is None or method is GatedCell.get_initial_state


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


def _call_cell(cell: Any, x: Any, states: list[Any], training: bool) -> tuple[Any, Any]:
    result = cell(x, states, training=training) if isinstance(cell, Layer) else cell.call(x, states)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise ValueError(
            f"The cell {_name(cell)!r} returned {type(result).__name__}: call(inputs, states) "
            "must return a pair, (output, new_states)."
        )
    return result[0], result[1]


def _changing(cell: Any) -> list[Variable]:
    """What a step of `cell` may assign to: it becomes part of the loop's carry."""
    if not isinstance(cell, Layer) or isinstance(cell, GatedCell):
        return []
    drawn_before = [
        v for c in cell.flatten_layers() if isinstance(c, GatedCell) for v in c.state_variables
    ]
    known = {id(v) for v in drawn_before}
    return [v for v in cell.non_trainable_variables if id(v) not in known]


def _position(output: Any, states: Any) -> int | None:
    """Which state the output is, the very same array; None for none."""
    for position, state in enumerate(jax.tree.leaves(states)):
        if output is state:
            return position
    return None


def _state_dtype(x: Any, layer: Any) -> Any:
    if jnp.issubdtype(jnp.result_type(x), jnp.floating):
        return getattr(layer.cell, "compute_dtype", layer.compute_dtype)
    return jnp.result_type(x)


def _name(cell: Any) -> str:
    return getattr(cell, "name", type(cell).__name__)
