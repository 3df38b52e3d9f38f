"""`RNN`: the loop over time, around any cell."""

from collections.abc import Sequence
from typing import Any

import jax

from recurrax.layers import call, loop_over, masked
from recurrax.layers.layer import Layer
from recurrax.registry import serializable
from recurrax.variable import Variable, claim, variables_in


@serializable("keras.layers")
class RNN(Layer):
    """A recurrent layer: calls `cell` at every step, each time with the states of the step before.

    A cell is an object with `call(inputs, states) -> (output, new_states)` and `state_size`, a
    number of features or a list of them, one for each state. It may define
    `get_initial_state(batch_size)` and `output_size`.

    Args:
        cell: the cell, or a list of cells, one on top of the other.
        return_sequences: return the output of every step, not only of the last.
        return_state: also return the last states.
        go_backwards: run from the last step to the first; outputs stand in the order of running.
        stateful: begin each batch with the states at the end of the one before.
        unroll: lay all steps out one after another instead of looping: slower to compile, for
            short sequences only.
        zero_output_for_mask: at masked steps the output is 0, not that of the step before.
        segments: keep states for the gradient only at the borders of this many segments, or of
            `"auto"`: less memory on long sequences, about a third more time.
        runner: force a runner of the loop: `"native"`, `"xla"` or `"lax"`.

    Call arguments:
        sequences: (batch, timesteps, ...), or a structure of such arrays.
        initial_state: list of the states before the first step, each (batch, ...).
        mask: boolean (batch, timesteps); where False, the step is skipped.
        training: whether dropout is on.

    Returns:
        (batch, ...) or with `return_sequences` (batch, timesteps, ...); with `return_state`
        followed by each state.

    Raises:
        ValueError: a cell without `call` or `state_size`, or whose new states differ from the old
            in number, shape or dtype; another batch size than a stateful layer's.
    """

    untracked = Layer.untracked | {"_states"}
    supports_masking = True
    compiles = True

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        segments: int | str | None = None,
        runner: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        loop_over.check_cell(cell)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.segments = segments
        self.runner = runner
        self._states: list[Any] | None = None

    # ------------------------------------------------------------------ states

    @property
    def state_size(self) -> list[Any]:
        """Sizes of the states, always a list."""
        size = self.cell.state_size
        return list(size) if isinstance(size, list | tuple) else [size]

    @property
    def states(self) -> list[Any] | None:
        """States of a stateful layer, as variables; None before it is built."""
        return self._states

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """The states before the first step: what the cell says, or zeros."""
        return loop_over.initial_state(self.cell, batch_size)

    def reset_state(self, states: Sequence[Any] | None = None) -> None:
        """Set the states of a stateful layer to `states`, or back to the cell's initial state."""
        if self._states is None:
            raise ValueError(
                f"Layer {self.name!r} has no states to reset: make it with stateful=True and call "
                "it on a batch first."
            )
        variables = variables_in(self._states)
        batch_size = variables[0].shape[0]
        fresh = self.get_initial_state(batch_size) if states is None else states
        for variable, value in zip(variables, jax.tree.leaves(list(fresh)), strict=True):
            variable.assign(value)

    reset_states = reset_state

    def _own_state(self) -> list[Variable]:
        return [*super()._own_state(), *variables_in(self._states)]

    def _begin_states(self, batch_size: int | None) -> None:
        if batch_size is None:
            raise ValueError(
                f"Layer {self.name!r} is stateful, so its batch size must be known: give the "
                "model an Input(batch_shape=(batch, timesteps, features))."
            )
        for state in jax.tree.leaves(jax.eval_shape(lambda: self.get_initial_state(batch_size))):
            claim(state.shape, state.dtype, f"{self.name}/rnn_state")
        with jax.ensure_compile_time_eval():
            self._states = jax.tree.map(
                lambda x: Variable(x, trainable=False, name="rnn_state", autocast=False),
                self.get_initial_state(batch_size),
            )

    # ------------------------------------------------------------------ building and running

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        step_shape = jax.tree.map(
            lambda shape: (shape[0], *shape[2:]), sequences_shape, is_leaf=call.is_shape
        )
        if isinstance(self.cell, Layer) and not self.cell.built:
            loop_over.build_cell(self.cell, step_shape)
        if self.stateful and self._states is None:
            first = jax.tree.leaves(sequences_shape, is_leaf=call.is_shape)[0]
            self._begin_states(first[0])

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        mask = masked.one_mask(mask)
        first = jax.tree.leaves(sequences)[0]
        masked.check_mask(mask, first.shape[:2], self.name)
        initial, given = self._initial_state(initial_state, first.shape[0])
        outputs, states = loop_over.loop(
            self, sequences, initial, mask, training, starts_at_zero=not given
        )
        if self._states is not None:
            for variable, state in zip(
                variables_in(self._states), jax.tree.leaves(states), strict=True
            ):
                variable.assign(state)
        return (outputs, *states) if self.return_state else outputs

    def _initial_state(self, initial_state: Any, batch_size: int) -> tuple[list[Any], bool]:
        """The states to begin with, and whether anything but the cell's own start gave them."""
        own = self.get_initial_state(batch_size)
        if initial_state is None and self._states is not None:
            have = variables_in(self._states)[0].shape[0]
            if have != batch_size:
                raise ValueError(
                    f"Layer {self.name!r} is stateful with batches of {have} samples, but got a "
                    f"batch of {batch_size}: pass batches of {have}, or make the layer anew."
                )
            return jax.tree.map(lambda value: value, self._states), True
        if initial_state is None:
            return own, bool(getattr(self.cell, "get_initial_state", None)) and not (
                loop_over.starts_at_zero(self.cell)
            )
        return loop_over.match_states(initial_state, own, f"initial_state of {self.name!r}"), True

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        mask = masked.one_mask(previous_mask) if self.return_sequences else None
        return [mask] + [None] * len(self.state_size) if self.return_state else mask

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        output_size = getattr(self.cell, "output_size", None) or self.state_size[0]
        if not isinstance(output_size, int) or not all(
            isinstance(size, int) for size in self.state_size
        ):
            (sequences,) = call.shapes_to_symbols(self, (sequences_shape,))
            spec = call.trace_outputs(self, {"sequences": sequences})
            return jax.tree.map(lambda tensor: tensor.shape, spec)
        batch, timesteps = jax.tree.leaves(sequences_shape, is_leaf=call.is_shape)[0][:2]
        steps = (timesteps,) if self.return_sequences else ()
        shape = (batch, *steps, output_size)
        states = [(batch, size) for size in self.state_size]
        return (shape, *states) if self.return_state else shape

    # ------------------------------------------------------------------ configuration

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.loop_config(), "cell": self.cell}

    def loop_config(self) -> dict[str, Any]:
        """The loop's own arguments."""
        config: dict[str, Any] = {
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "zero_output_for_mask": self.zero_output_for_mask,
        }
        # Keras knows neither: a file it is to open names them only where they were set.
        own = {"segments": self.segments, "runner": self.runner}
        return config | {key: value for key, value in own.items() if value is not None}
