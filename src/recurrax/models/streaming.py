"""`Stream`: a model that goes forward one step at a time, as its input arrives."""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.layers.carried import carrying
from recurrax.layers.rnn import RNN
from recurrax.loop import machine
from recurrax.loop.compat import jaxpr_as_fun
from recurrax.loop.native.unsupported import Unsupported
from recurrax.models import host_step
from recurrax.variable import StatelessScope

if TYPE_CHECKING:
    from recurrax.models.native_step import NativeFrame

# Above this many rows XLA, which shares them out among the cores, is no slower.
NATIVE_ROWS, NUMPY_ROWS = 64, 16
# Steps of the trial that shows that the model may be streamed, and how far results may differ.
_TRIAL_STEPS, _TRIAL_TOLERANCE = 3, 1e-4


class Stream:
    """A model run one step at a time; equal to the model on the whole sequence.

    Made by `model.stream(batch_size)`. The weights are those of that moment. The step is compiled
    once: on a CPU and up to 64 rows to machine code that is called straight from Python; where that
    has no form for an operation, and up to 16 rows, to straight-line NumPy. For so little work
    both are several times faster than to start a program of XLA, which is what is left. `runner`
    says which it is.

    A stream is one thread's at a time. Copies share nothing that changes, so each may go forward
    in a thread of its own.

    Args:
        model: a built `Sequential` or functional model.
        batch_size: sequences that go forward side by side.

    Raises:
        ValueError: the model is not built, or cannot go forward step by step: a layer runs
            backwards, takes an initial state from another layer, or looks at several steps.
    """

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        self._program = _Program(model, batch_size)
        self._place = self._program.beginning.copy()

    def step(self, x_t: Any) -> Any:
        """Go forward one step.

        Args:
            x_t: (batch, ...), the input of one step: the model's input without its time axis. With
                several inputs, a list of them.

        Returns:
            NumPy arrays (batch, ...): what the model returns for the sequence up to this step.

        Raises:
            ValueError: another shape, or ids outside an Embedding.
        """
        program = self._program
        leaves = self._place.step(program.inputs(x_t))
        return leaves[0] if program.one_output else program.output_tree.unflatten(leaves)

    @property
    def state(self) -> dict[str, list[Any]]:
        """Copies of the states of every recurrent layer, by its name; may be assigned to."""
        tree = self._program.layers_tree
        return tree.unflatten([np.array(leaf) for leaf in self._place.states[: tree.num_leaves]])

    @state.setter
    def state(self, state: Any) -> None:
        own = self._place.states[: self._program.layers_tree.num_leaves]
        leaves, tree = jax.tree.flatten(state)
        shapes = [np.shape(leaf) for leaf in leaves]
        if tree != self._program.layers_tree or shapes != [leaf.shape for leaf in own]:
            raise ValueError(
                f"The stream expected a state like {_shapes(self.state)}, but got "
                f"{_shapes(state)}: give it what `stream.state` returned."
            )
        new = [np.array(leaf, old.dtype) for leaf, old in zip(leaves, own, strict=True)]
        self._place.states = [*new, *self._place.states[len(own) :]]

    def reset(self) -> None:
        """Back to the state before the first step."""
        self._place.states = self._program.initial

    def copy(self) -> Self:
        """A stream that goes on from the same state, apart from this one; compiles nothing."""
        made = copy.copy(self)
        made._place = self._place.copy()
        return made

    @property
    def batch_size(self) -> int:
        return self._program.batch_size

    @property
    def runner(self) -> str:
        """`"native"`, or else `"numpy"` or `"xla"` and why not the one before."""
        return self._program.runner


class _HeldStates:
    """The place of a step that is a function of states and inputs."""

    def __init__(self, run: Callable[..., Sequence[Any]], states: Sequence[Any]) -> None:
        self._run, self.states = run, states

    def step(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        number = len(self.states)
        outputs = self._run(*self.states, *inputs)
        self.states = outputs[:number]
        # A copy: an output may share its memory with a state.
        return [np.array(leaf) for leaf in outputs[number:]]

    def copy(self) -> Self:
        return type(self)(self._run, self.states)


class _Program:
    """The step of a model, compiled: what all copies of a stream share."""

    def __init__(self, model: Any, batch_size: int) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"stream() expected a positive batch_size, but got {batch_size!r}.")
        symbols = _symbolic_inputs(model)
        _check_goes_forward(model)
        self.batch_size = batch_size
        self.shapes = [_step_shape(model, tensor.shape, batch_size) for tensor in symbols]
        self.dtypes = [np.dtype(tensor.dtype) for tensor in symbols]
        checked = any(hasattr(layer, "check_values") for layer in model.layers)
        self.check_values = model.check_values if checked else None
        forward = _Forward(model, batch_size)
        values = [np.asarray(v.value) for v in forward.variables]
        one, changed = forward.shapes(values, self._sequences(1))
        several, _ = forward.shapes(values, self._sequences(_TRIAL_STEPS))
        leaves = zip(jax.tree.leaves(one), jax.tree.leaves(several), strict=True)
        timed = [a.shape != b.shape for a, b in leaves]
        self.output_tree = jax.tree.structure(one)
        self.one_output = jax.tree_util.treedef_is_leaf(self.output_tree)

        flat, self.layers_tree = jax.tree.flatten(forward.initial)
        num_layer_states = len(flat)
        # What a cell assigns to in its step goes on from step to step, as states do.
        self.initial = [np.asarray(leaf) for leaf in (*flat, *(values[i] for i in changed))]

        def step(fixed: list[Any], carry: list[Any], *inputs: Any) -> list[Any]:
            given = list(fixed)
            for index, value in zip(changed, carry[num_layer_states:], strict=True):
                given[index] = value
            states = self.layers_tree.unflatten(carry[:num_layer_states])
            outputs, states, new = forward(given, states, [jnp.expand_dims(x, 1) for x in inputs])
            leaves = zip(jax.tree.leaves(outputs), timed, strict=True)
            steps = [y[:, 0] if each else y for y, each in leaves]
            return [*jax.tree.leaves(states), *(new[index] for index in changed), *steps]

        self.beginning, self.runner = self._compile(step, values)
        self._try_out(forward, values, timed)

    def _sequences(self, steps: int) -> list[Any]:
        return [
            jax.ShapeDtypeStruct((shape[0], steps, *shape[1:]), dtype)
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        ]

    def _compile(
        self, step: Callable[..., Any], values: list[np.ndarray]
    ) -> "tuple[NativeFrame | _HeldStates, str]":
        pairs = zip(self.shapes, self.dtypes, strict=True)
        inputs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in pairs]
        closed = jax.make_jaxpr(step)(values, self.initial, *inputs)
        platform = machine.default().platform
        if platform != "cpu":
            reason = f"runs on {platform}"
        elif self.batch_size > NATIVE_ROWS:
            reason = f"more than {NATIVE_ROWS} rows"
        else:
            try:
                from recurrax.models import native_step

                return native_step.compile_step(closed, values, self.initial), "native"
            except (Unsupported, ImportError, OSError) as error:  # of llvmlite, where it is missing
                reason = str(error)
            try:
                if self.batch_size <= NUMPY_ROWS:
                    run = host_step.compile_step(closed, values)
                    return _HeldStates(run, self.initial), f"numpy ({reason})"
            except Unsupported as unsupported:
                reason = str(unsupported)
        fixed = [jnp.asarray(value) for value in values]
        compiled = jax.jit(jaxpr_as_fun(closed))
        run = functools.partial(compiled, *fixed)
        return _HeldStates(run, self.initial), f"xla ({reason})"

    def _try_out(self, forward: "_Forward", values: list[np.ndarray], timed: list[bool]) -> None:
        """Raise ValueError where streaming a few steps gives something else than the model does."""
        generator = np.random.default_rng(0)
        xs = [
            (generator.random((shape[0], _TRIAL_STEPS, *shape[1:])) * 2).astype(dtype)
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        ]
        whole = jax.tree.leaves(jax.jit(forward.outputs)(values, forward.initial, xs))
        place, last = self.beginning.copy(), []
        for t in range(_TRIAL_STEPS):
            last = place.step([x[:, t] for x in xs])
        for y, y_t, is_timed in zip(whole, last, timed, strict=True):
            expected = np.asarray(y[:, -1] if is_timed else y, np.float64)
            if not np.allclose(expected, y_t, _TRIAL_TOLERANCE, _TRIAL_TOLERANCE):
                raise ValueError(
                    f"Model {forward.model.name!r} cannot be streamed: on a sequence it gives "
                    "something else than step by step, so a layer looks at several steps at once "
                    "(Flatten, pooling, attention, convolution over time). Stream the part before "
                    "it."
                )

    def inputs(self, x_t: Any) -> list[np.ndarray]:
        """`x_t` as the arrays that the step takes."""
        # `map` and one check for all: a step is to take no longer than it must.
        if self.check_values is not None:
            self.check_values(x_t)
        given = x_t if len(self.shapes) > 1 else (x_t,)
        leaves = list(map(np.asarray, given, self.dtypes))
        if [x.shape for x in leaves] != self.shapes or len(given) != len(leaves):
            shapes = ", ".join(map(str, self.shapes))
            raise ValueError(
                f"A step of this stream expected an input of shape {shapes}, (batch, ...) "
                f"without a time axis, but got {', '.join(str(np.shape(x)) for x in given)}: pass "
                "x[:, t], or make the stream with another batch_size."
            )
        return leaves


class _Forward:
    """A model as a pure function of its variables' values, its layers' states and its inputs."""

    def __init__(self, model: Any, batch_size: int) -> None:
        self.model = model
        self.variables = model.variables
        self.recurrent = [layer for layer in model.flatten_layers() if isinstance(layer, RNN)]
        self.initial = {each.name: each.get_initial_state(batch_size) for each in self.recurrent}

    def __call__(self, values: Any, states: Any, inputs: Any) -> tuple[Any, Any, list[Any]]:
        carried = {id(layer): states[layer.name] for layer in self.recurrent}
        with StatelessScope(zip(self.variables, values, strict=True)) as scope, carrying(carried):
            outputs = self.model(inputs[0] if len(inputs) == 1 else inputs, training=False)
        new = [scope.get_current_value(v) for v in self.variables]
        return outputs, {layer.name: carried[id(layer)] for layer in self.recurrent}, new

    def outputs(self, values: Any, states: Any, inputs: Any) -> Any:
        """What the model returns."""
        return self(values, states, inputs)[0]

    def shapes(self, values: Any, inputs: Any) -> tuple[Any, list[int]]:
        """The shapes of the outputs, and which variables a call changes."""
        changed: list[int] = []

        def call(values: Any, states: Any, inputs: Any) -> Any:
            outputs, _, new = self(values, states, inputs)
            pairs = zip(new, values, strict=True)
            changed.extend(i for i, (after, before) in enumerate(pairs) if after is not before)
            return outputs

        return jax.eval_shape(call, values, self.initial, inputs), changed


def _symbolic_inputs(model: Any) -> Sequence[Any]:
    symbols = getattr(model, "inputs", None) if model.built else None
    if not symbols:
        raise ValueError(
            f"Model {model.name!r} cannot be streamed before its input's shape is known: build a "
            "Sequential or functional model, beginning with an Input, or call it on data first."
        )
    return symbols


def _step_shape(model: Any, shape: Any, batch_size: int) -> tuple[int, ...]:
    if len(shape) < 2 or None in shape[2:]:
        raise ValueError(
            f"Model {model.name!r} takes input of shape {shape}, but a stream needs (batch, "
            "timesteps, ...) with every size after the second known: give the model such an Input."
        )
    return (batch_size, *shape[2:])


def _check_goes_forward(model: Any) -> None:
    for layer in model.flatten_layers():
        if isinstance(layer, RNN) and layer.go_backwards:
            raise ValueError(
                f"Model {model.name!r} cannot be streamed: layer {layer.name!r} runs from the last "
                "step to the first, so it needs the whole sequence. Use predict() on the sequence."
            )


def _shapes(state: Any) -> Any:
    return jax.tree.map(np.shape, state)
