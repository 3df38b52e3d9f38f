"""LSTM, GRU and SimpleRNN against Keras's, over all their options."""

import keras
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.layers.against_keras import compare, draw, same_weights

import recurrax

LAYERS = ("LSTM", "GRU", "SimpleRNN")
BATCH, STEPS, FEATURES, UNITS = 3, 4, 3, 4


@st.composite
def cases(draw_from):
    name = draw_from(st.sampled_from(LAYERS))
    boolean = st.booleans()
    options = {
        "activation": draw_from(st.sampled_from(["tanh", "softsign", None])),
        "use_bias": draw_from(boolean),
        "return_sequences": draw_from(boolean),
        "return_state": draw_from(boolean),
        "go_backwards": draw_from(boolean),
        "unroll": draw_from(st.sampled_from([False, False, True])),
        "zero_output_for_mask": draw_from(boolean),
    }
    if name != "SimpleRNN":
        activation = st.sampled_from(["sigmoid", "hard_sigmoid"])
        options["recurrent_activation"] = draw_from(activation)
    if name == "GRU":
        options["reset_after"] = draw_from(boolean)
    if name == "LSTM":
        options["unit_forget_bias"] = draw_from(boolean)
    if draw_from(boolean):
        options |= {"dropout": 0.3, "recurrent_dropout": 0.2, "seed": 5}
    called = {"training": draw_from(boolean)}
    if draw_from(boolean):
        called["mask"] = draw_from(st.sampled_from(["anywhere", "padded"]))
    if draw_from(boolean):
        called["initial_state"] = True
    return name, options, called


def _mask(kind):
    if kind == "padded":
        return np.arange(STEPS)[None, :] < np.array([[STEPS], [1], [2]])
    mask = np.random.default_rng(3).random((BATCH, STEPS)) < 0.6
    # Keras's loop gives the initial state, its unrolled loop zeros, before the first unmasked step.
    mask[:, [0, -1]] = True
    return mask


@settings(max_examples=16, phases=[Phase.generate])
@given(cases())
def test_every_option_agrees(case):
    name, options, called = case
    if options["unroll"] and options["zero_output_for_mask"]:
        options["zero_output_for_mask"] = False  # Keras's unrolled loop knows nothing of it
    ours = getattr(recurrax.layers, name)(UNITS, **options)
    theirs = getattr(keras.layers, name)(UNITS, **options)
    shape = (BATCH, STEPS, FEATURES)
    ours.build(shape)
    theirs.build(shape)
    same_weights(ours, theirs)
    if "mask" in called:
        called["mask"] = _mask(called["mask"])
    if "initial_state" in called:
        number = 2 if name == "LSTM" else 1
        called["initial_state"] = [draw((BATCH, UNITS), i) for i in range(number)]
    compare(ours, theirs, draw(shape), **called)


@pytest.mark.parametrize("name", LAYERS)
def test_a_cell_agrees_and_takes_a_bare_state(name):
    ours = getattr(recurrax.layers, f"{name}Cell")(UNITS)
    theirs = getattr(keras.layers, f"{name}Cell")(UNITS)
    ours.build((BATCH, FEATURES))
    theirs.build((BATCH, FEATURES))
    same_weights(ours, theirs)
    x, states = draw((BATCH, FEATURES)), [draw((BATCH, UNITS), i) for i in range(2)]
    states = states if name == "LSTM" else states[:1]
    compare(ours, theirs, x, states=states)
    if name != "LSTM":
        output, state = ours(x, states[0])
        assert output.shape == state.shape == (BATCH, UNITS)
        np.testing.assert_allclose(output, theirs(x, states[0])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_is_off_outside_training(name):
    layer = getattr(recurrax.layers, name)(UNITS, dropout=0.5, recurrent_dropout=0.5)
    x = draw((BATCH, STEPS, FEATURES))
    np.testing.assert_array_equal(layer(x), layer(x))
    assert not np.array_equal(layer(x, training=True), layer(x, training=True))


@pytest.mark.parametrize("name", LAYERS)
def test_one_dropout_mask_serves_all_steps(name):
    """With the state's share at 0, a constant input gives a constant dropped input."""
    cell = getattr(recurrax.layers, f"{name}Cell")(UNITS, dropout=0.5, seed=1)
    seen = []

    class Watch(type(cell)):
        def project_input(self, x, masks=None):
            seen.append(x)
            return super().project_input(x, masks)

    watched = Watch(UNITS, dropout=0.5, seed=1)
    layer = recurrax.layers.RNN(watched, unroll=True, runner="lax")
    layer.build((2, 3, 50))
    with recurrax.StatelessScope():
        layer.call(np.ones((2, 3, 50), np.float32), training=True)
    assert seen
    assert {variable.name for variable in layer.non_trainable_variables} == {"seed_generator_state"}
