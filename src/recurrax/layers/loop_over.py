"""One loop over time around a cell, on the entrance to loops for (batch, timesteps, ...)."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.layers import carried, explained, looked_up, masked
from recurrax.layers.cell import GatedCell
from recurrax.layers.cells import call_cell, cell_name, match_states, stack_of
from recurrax.layers.dropout_cell import DropoutRNNCell, draw_again, keeping_masks
from recurrax.layers.floating import cast_floating
from recurrax.layers.layer import Layer
from recurrax.layers.record import is_recording, record, recording
from recurrax.loop import plan, scan_batch_major
from recurrax.variable import StatelessScope, Variable


def loop(
    layer: Any,
    sequences: Any,
    initial: list[Any],
    mask: Array | None,
    training: bool,
    starts_at_zero: bool,
    constants: Any = None,
    recorded: str = "",
) -> tuple[Any, list[Any]]:
    """Run `layer.cell` over `sequences`.

    Args:
        layer: the `RNN` whose settings hold.
        sequences: structure of (batch, timesteps, ...).
        initial: states before the first step.
        mask: boolean (batch, timesteps) or None.
        training: handed to the cell.
        starts_at_zero: whether `initial` is known to be zeros.
        constants: handed to the cell at every step.
        recorded: the name that what the cell records is kept under; the layer's where empty.

    Returns:
        The outputs, (batch, timesteps, ...) or those of the last step, and the last states.
    """
    cell, reverse = layer.cell, layer.go_backwards
    initial = _in_dtype_of(cell, initial, layer.compute_dtype)
    take, sequences = _by_step(layer, sequences)
    steps = jax.tree.leaves(sequences)[0].shape[1]
    if steps == 0:
        raise ValueError(
            f"Layer {layer.name!r} got a sequence of 0 timesteps: pass at least one step."
        )
    if mask is not None:
        mask = mask.astype(bool)
        if not carried.is_carrying():  # a step of a stream is not differentiated
            sequences = jax.tree.map(lambda x: masked.fill_masked(x, mask), sequences)
    changing: list[Variable] = []
    output_is_state: list[int | None] = []
    names: list[str] = []

    dropping = _dropping(cell) if training else []

    def step(carry: Any, x: Any) -> Any:
        states, changed = carry
        x_t, mask_t = take(x[0]), x[1]
        with recording() if is_recording() else contextlib.nullcontext() as found:
            with StatelessScope(zip(changing, changed, strict=True)) as scope:
                output, new = call_cell(cell, x_t, states, training, constants)
                losses = scope.losses
                changed = [scope.get_current_value(v) for v in changing]
            new = match_states(new, states, f"new states of cell {cell_name(cell)!r}")
            position = _position(output, new)
            if mask_t is not None:
                new = jax.tree.map(lambda n, o: masked.select(mask_t, n, o), new, states)
                output = output if position is None else jax.tree.leaves(new)[position]
        if found is not None:
            found = dict(zip(_state_names(cell, new), jax.tree.leaves(new), strict=True)) | found
            names[:], found = found, list(found.values())
        output_is_state[:] = [position]
        keep = layer.return_sequences or position is None
        return (new, changed), (output if keep else None, losses, found)

    run = _run_step if steps == 1 and carried.is_carrying() else scan_batch_major
    with keeping_masks(dropping):
        changing += _rehearse(cell, take, sequences, initial, training, constants)
        draw_again(dropping)
        begin = (initial, [v.value for v in changing])
        explained.keep(layer, step, begin, (sequences, mask), steps)
        (states, changed), (ys, losses, found) = run(
            step,
            begin,
            (sequences, mask),
            reverse=reverse,
            unroll=bool(layer.unroll) or 1,
            runner=layer.runner,
            segments=layer.segments,
        )
    for variable, value in zip(changing, changed, strict=True):
        variable.assign(value)
    for loss in losses:
        layer.add_loss(loss.sum())
    for name, values in zip(names, found or [], strict=True):
        record(f"{recorded or layer.name}/{name}", values)
    (position,) = output_is_state
    if carried.is_carrying() and mask is not None and position is None:
        raise ValueError(
            f"Layer {layer.name!r} got a mask, but its cell returns an output that is none of its "
            "states: step by step, a masked step could not give the output before it. Return the "
            "state as output, or stream without a mask."
        )
    if layer.return_sequences:
        if mask is not None:
            ys = _mask_outputs(ys, mask, layer, position is not None, starts_at_zero)
        return jax.tree.map(lambda y: y[:, ::-1] if reverse else y, ys), states
    if position is not None:
        last = jax.tree.leaves(states)[position]
        if mask is not None and not (starts_at_zero and not layer.zero_output_for_mask):
            ended = 0 if reverse else -1
            valid = mask[:, ended] if layer.zero_output_for_mask else mask.any(axis=1)
            last = masked.select(valid, last, jnp.zeros_like(last))
        return last, states
    if mask is not None:
        ys = _mask_outputs(ys, mask, layer, False, starts_at_zero)
    return jax.tree.map(lambda y: y[:, 0 if reverse else -1], ys), states


def _by_step(layer: Any, sequences: Any) -> tuple[Callable[[Any], Any], Any]:
    """What the loop runs over, and what makes the cell's input of one step of it.

    A loop over an embedding's output runs over its integers, and looks up at each step.
    """
    found = None if carried.is_carrying() else looked_up.look_up_of(sequences)
    if found is None or plan.asked_for(layer.runner) == "lax":
        return lambda x: x, sequences
    return lambda ids: jnp.take(found.table, ids, axis=0, mode="clip"), found.ids


def _run_step(f: Any, init: Any, xs: Any, **_: Any) -> tuple[Any, Any]:
    """`scan_batch_major` of one step, without a loop."""
    carry, ys = f(init, jax.tree.map(lambda x: x[:, 0], xs))
    return carry, jax.tree.map(lambda y: jnp.expand_dims(y, min(jnp.ndim(y), 1)), ys)


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


def _dropping(cell: Any) -> list[DropoutRNNCell]:
    if not isinstance(cell, Layer):
        return []
    return [c for c in cell.flatten_layers() if isinstance(c, DropoutRNNCell)]


def _rehearse(
    cell: Any, take: Any, sequences: Any, initial: list[Any], training: bool, constants: Any
) -> list[Variable]:
    """What a step assigns to, and so becomes part of the loop's carry.

    One step on shapes alone; it leaves traced dropout masks on the cells.
    """
    dropping = _dropping(cell) if training else []
    if not isinstance(cell, Layer) or not (cell.non_trainable_variables or dropping):
        return []
    if isinstance(cell, GatedCell) and not dropping:
        return []
    assigned: list[Variable] = []

    def step(x: Any, states: Any) -> None:
        with StatelessScope() as scope:
            call_cell(cell, take(x), states, training, constants)
        for variable in cell.non_trainable_variables:
            if scope.get_current_value(variable) is not None:
                assigned.append(variable)

    jax.eval_shape(step, jax.tree.map(lambda x: x[:, 0], sequences), initial)
    drawn_before = {id(c.seed_generator.state) for c in dropping if _drops(c)}
    return [variable for variable in assigned if id(variable) not in drawn_before]


def _drops(cell: DropoutRNNCell) -> bool:
    return cell.dropout > 0 or cell.recurrent_dropout > 0


def _position(output: Any, states: Any) -> int | None:
    """Which state the output is, the very same array; None for none."""
    for position, state in enumerate(jax.tree.leaves(states)):
        if output is state:
            return position
    return None


def _state_names(cell: Any, states: Any) -> Sequence[str]:
    """Names of the states, for who looks inside."""
    number = len(jax.tree.leaves(states))
    given = getattr(cell, "state_names", None) or (["h"] if number == 1 else [])
    return given if len(given) == number else [f"state_{k + 1}" for k in range(number)]


def _in_dtype_of(cell: Any, states: Any, default: Any) -> Any:
    """Floating-point states as the cell computes; each cell of a stack has its own.

    In float32 the states of a mixed-precision cell would make every step's carry change dtype.
    """
    if stack := stack_of(cell):
        return [_in_dtype_of(c, s, default) for c, s in zip(stack, states, strict=True)]
    states = jax.tree.map(jnp.asarray, states)
    return cast_floating(states, getattr(cell, "compute_dtype", default))
