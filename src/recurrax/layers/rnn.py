"""`RNN`: the loop over time, around any cell."""

from typing import Any

import jax
import jax.numpy as jnp

from recurrax.layers import carried, cells, checks, loop_over, masked, symbolic
from recurrax.layers.cell import batch_of
from recurrax.layers.floating import cast_floating
from recurrax.layers.graph import SymbolicTensor
from recurrax.layers.layer import Layer
from recurrax.layers.record import name_of_call, record
from recurrax.layers.shapes import is_shape, leaf_shapes, map_shapes, shapes_of
from recurrax.layers.signature import signature_of
from recurrax.layers.stacked_cells import StackedRNNCells
from recurrax.registry import serializable
from recurrax.variable import Variable, claim, name_scope, variables_in


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
        constants: an array or a list of arrays, (batch, ...), that the cell's `call` takes as the
            list `constants`, the same at every step.

    Returns:
        (batch, ...) or with `return_sequences` (batch, timesteps, ...); with `return_state`
        followed by each state.

    Raises:
        ValueError: a cell without `call` or `state_size`, or whose new states differ from the old
            in number, shape or dtype; `constants` for a cell that takes none; another `segments`
            or `runner`; another batch size than a stateful layer's.
    """

    untracked = Layer.untracked | {"_states"}
    supports_masking = True
    compiles = True
    # How many arrays an output of the cell is, once one was seen.
    output_leaves = 1

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
        if isinstance(cell, list | tuple):
            cell = StackedRNNCells(cell)
        cells.check_cell(cell)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.segments = checks.segments(segments, type(self).__name__)
        self.runner = checks.runner(runner, type(self).__name__)
        self._states: list[Any] | None = None

    @property
    def state_size(self) -> list[Any]:
        """Sizes of the states, always a list."""
        size = self.cell.state_size
        return list(size) if isinstance(size, list | tuple) else [size]

    @property
    def states(self) -> list[Any] | None:
        """States of a stateful layer, as variables; None before it is built."""
        return self._states

    @states.setter
    def states(self, values: Any) -> None:
        self.reset_state(values)

    def get_initial_state(self, batch_size: Any = None, inputs: Any = None) -> list[Any]:
        """The states before the first step: what the cell says, or zeros.

        Args:
            batch_size: number of samples.
            inputs: an array whose first size is the batch's, in place of `batch_size`.
        """
        return cells.initial_state(self.cell, batch_of(batch_size, inputs))

    def reset_state(self, states: Any = None) -> None:
        """Set the states of a stateful layer to `states`, or back to the cell's initial state.

        (Keras sets them to 0 also where the cell begins elsewhere.)

        Raises:
            ValueError: the layer is not stateful or not built, or `states` differ from its own in
                number or shape; nothing is changed then.
        """
        if self._states is None:
            raise ValueError(
                f"Layer {self.name!r} has no states to reset: make it with stateful=True and call "
                "it on a batch first."
            )
        variables = variables_in(self._states)
        fresh = self.get_initial_state(variables[0].shape[0]) if states is None else states
        values = [x.value if isinstance(x, Variable) else x for x in _leaves(fresh)]
        shapes = [v.shape for v in variables]
        if [jnp.shape(value) for value in values] != shapes:
            raise ValueError(
                f"Layer {self.name!r} has states of shapes {shapes}, but got states of shapes "
                f"{[jnp.shape(value) for value in values]}: pass one array of each shape."
            )
        for variable, value in zip(variables, values, strict=True):
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

    def build(
        self, sequences_shape: Any, initial_state_shape: Any = None, constants_shape: Any = None
    ) -> None:
        self._build_cell(sequences_shape, constants_shape)
        if self.stateful and self._states is None:
            self._begin_states(leaf_shapes(sequences_shape)[0][0])

    def _build_cell(self, sequences_shape: Any, constants_shape: Any) -> None:
        if isinstance(self.cell, Layer) and not self.cell.built:
            step_shape = map_shapes(lambda shape: (shape[0], *shape[2:]), sequences_shape)
            cells.build_cell(self.cell, step_shape, _as_list(constants_shape, is_shape))

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
        constants: Any = None,
    ) -> Any:
        mask = masked.one_mask(mask)
        recorded = name_of_call(self.name)
        if not isinstance(sequences, list | tuple | dict):
            sequences = record(f"{recorded}/inputs", sequences)
        first = jax.tree.leaves(sequences)[0]
        masked.check_mask(mask, first.shape[:2], self.name)
        initial, given = self._initial_state(initial_state, first.shape[0])
        constants = self._constants(constants)
        outputs, states = loop_over.loop(
            self, sequences, initial, mask, training, not given, constants, recorded
        )
        if carried.is_carrying():
            carried.carry(self, states)
        elif self._states is not None:
            for variable, state in zip(
                variables_in(self._states), jax.tree.leaves(states), strict=True
            ):
                variable.assign(state)
        self.output_leaves = len(jax.tree.leaves(outputs))
        # A cell may compute in another dtype than the layer.
        outputs, states = cast_floating((outputs, states), self.compute_dtype)
        return (outputs, *states) if self.return_state else outputs

    def _initial_state(self, initial_state: Any, batch_size: int) -> tuple[list[Any], bool]:
        """The states to begin with, and whether anything but the cell's own start gave them."""
        own = self.get_initial_state(batch_size)
        streamed = carried.carried(self)
        if streamed is not None:
            if initial_state is not None:
                raise ValueError(
                    f"Layer {self.name!r} begins with an initial_state that other layers compute, "
                    "so its model cannot go forward step by step: make a model of this layer "
                    "alone, and set stream.state."
                )
            # As if the loop had begun at the first step: a masked step gives the held output.
            return cells.match_states(streamed, own, f"initial states of {self.name!r}"), False
        if self._states is not None:
            have = variables_in(self._states)[0].shape[0]
            if have != batch_size:
                raise ValueError(
                    f"Layer {self.name!r} is stateful with a batch size of {have}, but got a "
                    f"batch of {batch_size}: pass batches of {have}, or make the layer anew."
                )
        if initial_state is not None:
            what = f"initial_state of {self.name!r}"
            return cells.match_states(initial_state, own, what), True
        if self._states is not None:
            return jax.tree.map(lambda value: value, self._states), True
        return own, not cells.starts_at_zero(self.cell)

    def _constants(self, constants: Any) -> Any:
        constants = _as_list(constants, lambda x: hasattr(x, "shape"))
        if constants is not None and not cells.takes_constants(self.cell):
            raise ValueError(
                f"Layer {self.name!r} got constants, but its cell {cells.cell_name(self.cell)!r} "
                "takes none: define `def call(self, inputs, states, constants)` in it."
            )
        return constants

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        mask = masked.one_mask(mask) if self.return_sequences else None
        if mask is not None and self.go_backwards:
            mask = jnp.flip(mask, axis=1)  # as the outputs stand; in Keras it stays unturned
        masks = [mask] * self.output_leaves
        if self.return_state:
            return masks + [None] * len(self.state_size)
        return masks if len(masks) > 1 else mask

    def compute_output_shape(
        self, sequences_shape: Any, initial_state_shape: Any = None, constants_shape: Any = None
    ) -> Any:
        sequences, constants = (
            symbolic.shapes_to_symbols(self, shape) for shape in (sequences_shape, constants_shape)
        )
        return symbolic.symbols_to_shapes(self.symbolic_outputs(sequences, constants))

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if type(self).call is not RNN.call or symbolic.has_own_shapes(self):
            return super().compute_output_spec(*args, **kwargs)
        arguments = signature_of(RNN).signature.bind(*args, **kwargs).arguments
        return self.symbolic_outputs(arguments["sequences"], arguments.get("constants"))

    def symbolic_outputs(self, sequences: Any, constants: Any = None) -> Any:
        """What `call` returns, for symbolic tensors."""
        constants = self._constants(constants)
        if cells.is_asked(self.cell, constants):
            with name_scope(self.name):
                self._build_cell(shapes_of(sequences), shapes_of(constants))
        batch, timesteps = jax.tree.leaves(sequences)[0].shape[:2]
        steps = jax.tree.map(lambda x: SymbolicTensor((batch, *x.shape[2:]), x.dtype), sequences)
        steps, constants = cast_floating((steps, constants), self.compute_dtype)
        output = cells.output_of(self.cell, steps, constants)
        self.output_leaves = len(jax.tree.leaves(output))
        time = (timesteps,) if self.return_sequences else ()
        output = jax.tree.map(
            lambda x: SymbolicTensor((batch, *time, *x.shape[1:]), x.dtype), output
        )
        states = map_shapes(lambda shape: (batch, *shape), self._state_shapes())
        states = symbolic.shapes_to_symbols(self, states)
        output = cast_floating(output, self.compute_dtype)
        return (output, *states) if self.return_state else output

    def _state_shapes(self) -> list[Any]:
        """Shapes of the states, without the batch."""
        if all(isinstance(size, int) for size in self.state_size):
            return [(size,) for size in self.state_size]
        states = jax.eval_shape(lambda: self.get_initial_state(1))
        return jax.tree.map(lambda state: state.shape[1:], states)

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


def _as_list(constants: Any, is_one: Any) -> Any:
    return [constants] if is_one(constants) else constants


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Variable))
