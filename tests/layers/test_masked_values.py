"""What stands at masked steps reaches neither outputs nor gradients, be it NaN or infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.layers.against_keras import assert_close, draw, outputs_and_gradients

import recurrax as keras
from recurrax import layers
from recurrax.loop.plan import RUNNERS

BATCH, STEPS, FEATURES, UNITS = 4, 5, 3, 4
MASKS = {
    "padded behind": np.arange(STEPS) < np.array([[5], [2], [3], [1]]),
    "padded in front": np.arange(STEPS) >= np.array([[0], [3], [2], [4]]),
    "holes": np.array([[1, 0, 1, 0, 1], [0, 1, 0, 0, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool),
}
BAD = {"NaN": np.nan, "infinity": np.inf, "-infinity": -np.inf, "huge": 3e38}


class LogCell(layers.Layer):
    """Undefined at 0; its output is none of its states."""

    state_size, output_size = UNITS, 2

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], UNITS), name="kernel")

    def call(self, inputs, states):
        unit = inputs / jnp.sqrt(jnp.sum(inputs**2, axis=-1, keepdims=True))
        new = jnp.tanh(jnp.log(jnp.abs(unit)) @ self.kernel.value + 0.5 * states[0])
        return 3 * new[:, :2], [new]


MAKE = {
    "LSTM": lambda **o: layers.LSTM(UNITS, **o),
    "GRU": lambda **o: layers.GRU(UNITS, **o),
    "GRU, reset before": lambda **o: layers.GRU(UNITS, reset_after=False, **o),
    "SimpleRNN": lambda **o: layers.SimpleRNN(UNITS, **o),
    "own cell": lambda **o: layers.RNN(LogCell(), **o),
    "stacked": lambda **o: layers.RNN([layers.LSTMCell(UNITS), layers.GRUCell(3)], **o),
    "ConvLSTM1D": lambda **o: layers.ConvLSTM1D(2, 2, **o),
    "Bidirectional": lambda **o: layers.Bidirectional(layers.GRU(UNITS, **o)),
    "dropout": lambda **o: layers.LSTM(UNITS, dropout=0.3, recurrent_dropout=0.2, seed=1, **o),
}


def _inputs(name, mask, bad):
    shape = (BATCH, STEPS, FEATURES, 2) if name == "ConvLSTM1D" else (BATCH, STEPS, FEATURES)
    x = draw(shape)
    return x, np.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, np.float32(bad))


def _assert_same_but_at_masked_steps(layer, name, mask, bad, **called):
    plain, spoilt = _inputs(name, mask, bad)
    a, _, (of_weights, of_inputs) = outputs_and_gradients(layer, plain, mask=mask, **called)
    b, _, (weights, inputs) = outputs_and_gradients(layer, spoilt, mask=mask, **called)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves((weights, inputs)))
    assert any(np.asarray(g).any() for g in weights)
    assert_close((b, weights, inputs), (a, of_weights, of_inputs), rtol=1e-5, atol=1e-6)
    assert not np.asarray(inputs)[~mask].any()


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", MAKE)
def test_every_runner(name, runner):
    if (name, runner) == ("ConvLSTM1D", "native"):
        runner = None  # it has no convolutions: the plan chooses
    layer = MAKE[name](return_sequences=True, runner=runner)
    layer.build((None, STEPS, FEATURES, 2) if name == "ConvLSTM1D" else (None, None, FEATURES))
    for mask, bad in zip(MASKS.values(), BAD.values(), strict=False):
        _assert_same_but_at_masked_steps(layer, name, mask, bad, training=name == "dropout")


@settings(max_examples=12, phases=[Phase.generate])
@given(
    name=st.sampled_from(list(MAKE)),
    mask=st.sampled_from(list(MASKS)),
    bad=st.sampled_from(list(BAD)),
    options=st.fixed_dictionaries(
        {
            "return_sequences": st.booleans(),
            "return_state": st.booleans(),
            "go_backwards": st.booleans(),
            "unroll": st.sampled_from([False, False, True]),
            "zero_output_for_mask": st.booleans(),
            "segments": st.sampled_from([None, 2]),
        }
    ),
    given_state=st.booleans(),
    training=st.booleans(),
)
def test_every_option(name, mask, bad, options, given_state, training):
    layer = MAKE[name](**options)
    layer.build((None, STEPS, FEATURES, 2) if name == "ConvLSTM1D" else (None, None, FEATURES))
    called = {"training": training}
    if given_state and name in ("LSTM", "GRU", "SimpleRNN", "own cell"):
        called["initial_state"] = [draw((BATCH, UNITS), i) for i in range(1 + (name == "LSTM"))]
    _assert_same_but_at_masked_steps(layer, name, MASKS[mask], BAD[bad], **called)


def test_a_stateful_layer_goes_on():
    mask = MASKS["padded behind"]
    plain, spoilt = _inputs("LSTM", mask, np.nan)
    layer = layers.LSTM(UNITS, stateful=True)
    layer.build(plain.shape)
    results = []
    for x in (plain, spoilt):
        layer.reset_state()
        results.append([np.asarray(layer(x, mask=mask)) for _ in range(2)])
        results[-1] += [s.numpy() for s in layer.states]
    assert_close(results[1], results[0], rtol=1e-6, atol=1e-6)


def test_a_structure_of_inputs_may_hold_integers():
    class Both(layers.Layer):
        state_size = UNITS

        def build(self, shapes):
            self.kernel = self.add_weight((FEATURES, UNITS), name="kernel")
            self.table = self.add_weight((7, UNITS), name="table")

        def call(self, inputs, states):
            x, ids = inputs
            new = jnp.tanh(x @ self.kernel.value + self.table.value[ids] + states[0])
            return new, [new]

    mask = MASKS["holes"]
    plain, spoilt = _inputs("", mask, np.nan)
    layer, ids = layers.RNN(Both()), draw((BATCH, STEPS), low=7)

    def gradient(x):
        def loss(trainable):
            return layer.stateless_call(trainable, [], [x, ids], mask=mask)[0].sum()

        return jax.grad(loss)([v.value for v in layer.trainable_variables])

    layer([plain, ids])
    assert_close(gradient(spoilt), gradient(plain), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.inf, -np.inf])
def test_masking_sets_masked_steps_to_0(value):
    mask = MASKS["holes"]
    outputs = layers.Masking(value)(_inputs("", mask, value)[1])
    np.testing.assert_array_equal(np.asarray(outputs)[~mask], 0)


def test_a_model_trains_on_them():
    """Its weights stay finite, and are those of the same batch padded with zeros."""
    mask = MASKS["padded in front"]
    plain, spoilt = _inputs("", mask, np.nan)
    inputs, given_mask = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    weights = []
    for x in (plain, spoilt):
        keras.utils.set_random_seed(0)
        hidden = layers.Bidirectional(layers.LSTM(UNITS))(inputs, mask=given_mask)
        model = keras.Model([inputs, given_mask], layers.Dense(1)(hidden))
        model.compile("adam", "mse")
        model.fit([x, mask], draw((BATCH, 1), 3), epochs=3, verbose=0)
        weights.append(model.get_weights())
    assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-6)
