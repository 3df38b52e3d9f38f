"""Every recurrent layer and option through the native runner, and which of them it hands back.

Values and gradients of one program, its loops once as native kernels and once in Python.
"""

import interpreter
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from direct import Loops
from recurrences import assert_same
from tests.layers.against_keras import draw

from recurrax import layers

BATCH, STEPS, FEATURES, UNITS = 3, 4, 3, 4
MASK = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]], bool)
PADDED = np.arange(STEPS)[None, :] < np.array([[STEPS], [1], [2]])
BUILTIN = {"LSTM": layers.LSTM, "GRU": layers.GRU, "SimpleRNN": layers.SimpleRNN}


class Nested(layers.Layer):
    """A cell of nested states: a layer norm, a number for each row, a count of steps."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size = [(2, UNITS), [(1,), (1,)]]
        self.output_size = UNITS
        self.dense = layers.Dense(UNITS, activation="tanh")
        self.norm = layers.LayerNormalization()

    def build(self, shape):
        self.dense.build((shape[0], shape[-1] + UNITS))
        self.norm.build((shape[0], UNITS))

    def get_initial_state(self, batch_size=None):
        return [jnp.zeros((batch_size, 2, UNITS)), [jnp.zeros((batch_size, 1))] * 2]

    def call(self, x, states):
        memory, (top, count) = states
        new = self.norm(self.dense(jnp.concatenate([x, memory[:, 0]], -1)))
        top = jnp.maximum(top, new.max(-1, keepdims=True))
        memory = jnp.stack([new / (1 + top**2), 0.5 * memory[:, 1] + new], 1)
        return memory[:, 1], [memory, [top, count + 1]]


class WithConstants(layers.SimpleRNNCell):
    def call(self, inputs, states, training=False, constants=None):
        output, states = super().call(inputs, states, training)
        return output + constants[0], states


class Statistics(layers.Layer):
    """A cell that counts its steps in a variable of its own, and adds a loss at each."""

    state_size = FEATURES

    def build(self, shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, states):
        self.seen.assign_add(1.0)
        self.add_loss(jnp.square(states[0]).mean())
        new = jnp.tanh(x + states[0]) / self.seen.value
        return new, [new]


def both(direction="concat"):
    return lambda: layers.Bidirectional(layers.GRU(UNITS, return_sequences=True), direction)


RETURNED = {"return_sequences": True, "return_state": True}
DROPPED = {"dropout": 0.3, "recurrent_dropout": 0.2, "seed": 5}
OPTIONS = {
    "plain": {},
    "no bias": {"use_bias": False},
    "sequences and states": RETURNED,
    "backwards": {"go_backwards": True, **RETURNED},
    "stateful": {"stateful": True},
    "unrolled": {"unroll": True},
    "segments": {"segments": 2},
    "dropout": DROPPED,
    "mask": {"return_sequences": True},
    "zeros for the mask": {"return_sequences": True, "zero_output_for_mask": True},
    "initial state": {},
    "mixed_bfloat16": {"dtype": "mixed_bfloat16"},
    "bfloat16": {"dtype": "bfloat16"},
    "mixed_float16": {"dtype": "mixed_float16"},
    "float64": {"dtype": "float64"},
}
ACTIVATIONS = [
    *("celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
    *("linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu"),
    *("softmax", "softplus", "softsign", "tanh"),
]
CASES = {
    **{
        f"{name}, {option}": lambda make=make, o=o: make(UNITS, **o)
        for name, make in BUILTIN.items()
        for option, o in OPTIONS.items()
    },
    **{
        f"{name}, {a}": lambda make=make, a=a: make(UNITS, activation=a)
        for name, make in (("SimpleRNN", layers.SimpleRNN),)
        for a in ACTIVATIONS
    },
    "GRU, reset before": lambda: layers.GRU(UNITS, reset_after=False),
    "GRU, implementation": lambda: layers.GRU(UNITS, implementation=1),
    "GRU, gates": lambda: layers.GRU(UNITS, recurrent_activation="hard_sigmoid"),
    "LSTM, gates": lambda: layers.LSTM(UNITS, recurrent_activation="softsign"),
    "LSTM, forget bias": lambda: layers.LSTM(UNITS, unit_forget_bias=False),
    **{f"Bidirectional, {m}": both(m) for m in ("sum", "mul", "concat", "ave", None)},
    "stacked cells": lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2, **DROPPED)]),
    "stacked, nested": lambda: layers.RNN(
        layers.StackedRNNCells([layers.StackedRNNCells([layers.LSTMCell(2)]), Nested()])
    ),
    "nested states": lambda: layers.RNN(Nested(), return_sequences=True),
    "nested states, mask": lambda: layers.RNN(Nested(), return_sequences=True),
    "constants": lambda: layers.RNN(WithConstants(UNITS)),
    "variables": lambda: layers.RNN(Statistics(), return_sequences=True),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.LSTM(2)),
    "ConvLSTM1D": lambda: layers.ConvLSTM1D(2, 2, padding="same"),
    "ConvLSTM2D": lambda: layers.ConvLSTM2D(2, 2, **RETURNED),
    "ConvLSTM3D": lambda: layers.ConvLSTM3D(2, 2),
}
RANKS = {"ConvLSTM1D": 2, "ConvLSTM2D": 3, "ConvLSTM3D": 4, "TimeDistributed": 2}
REFUSED = {name: "`conv_general_dilated`" for name in RANKS if name.startswith("Conv")}
# A bfloat16 step is rounded once natively, and after each operation in Python.
TOLERANCE = {"mixed_bfloat16": 0.03, "bfloat16": 0.03, "mixed_float16": 4e-3, "float64": 1e-12}


def _called(name, layer):
    option = name.split(", ")[-1]
    called = {"training": "dropout" in name or "stacked" in name or "variables" in name}
    if option == "mask":
        called["mask"] = MASK
    if option == "zeros for the mask":
        called["mask"] = PADDED
    if option == "initial state":
        called["initial_state"] = [
            0.5 * draw((BATCH, UNITS), i) for i in range(len(layer.state_size))
        ]
    if option == "constants":
        called["constants"] = [draw((BATCH, UNITS))]
    return {k: v for k, v in called.items() if v is not False}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    option = name.split(", ")[-1]
    with jax.enable_x64(option == "float64"):
        layer = CASES[name]()
        shape = (BATCH, STEPS, *[FEATURES] * RANKS.get(name, 1))
        layer.build(shape)
        scale = 0.1 if option == "exponential" else 0.4
        layer.set_weights([scale * draw(w.shape, i) for i, w in enumerate(layer.weights)])
        called = _called(name, layer)
        state = [v.value for v in layer.non_trainable_variables]

        def loss(trainable, x):
            outputs, updated = layer.stateless_call(trainable, state, x, **called)
            leaves = [y for y in jax.tree.leaves(outputs) if jnp.issubdtype(y.dtype, jnp.floating)]
            total = sum(
                (y * draw(y.shape, 99 + i).astype(y.dtype)).sum() for i, y in enumerate(leaves)
            )
            return total.astype(jnp.float32), (outputs, updated)

        x = jnp.asarray(draw(shape), "float64" if option == "float64" else "float32")
        trainable = [v.value for v in layer.trainable_variables]
        program = interpreter.traced(jax.grad(loss, (0, 1), has_aux=True), trainable, x)
        native = Loops()
        ours, theirs = program(native), program()
    assert_same(ours, theirs, TOLERANCE.get(option, 2e-6))
    if name in REFUSED:
        assert [REFUSED[name] in why for why in native.refused] == [True, True]
    else:
        assert native.refused == [] and native.taken >= 2
