"""States: returned, given, kept across batches, reset, read and assigned."""

import jax.numpy as jnp
import numpy as np
import pytest
from tests.layers.against_keras import draw

import recurrax as keras
from recurrax import layers

BATCH, STEPS, FEATURES = 2, 6, 3
X = draw((BATCH, STEPS, FEATURES))
MAKE = {
    "LSTM": lambda **o: layers.LSTM(4, **o),
    "GRU": lambda **o: layers.GRU(4, **o),
    "SimpleRNN": lambda **o: layers.SimpleRNN(4, **o),
    "stacked": lambda **o: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], **o),
    "conv": lambda **o: layers.ConvLSTM1D(2, 2, padding="same", **o),
}


def _x(name, x=X):
    return x[..., None] if name == "conv" else x


@pytest.mark.parametrize("name", MAKE)
def test_a_stateful_layer_goes_on_where_it_ended(name):
    x = _x(name)
    stateful = MAKE[name](stateful=True)
    plain = MAKE[name]()
    stateful(x)
    plain(x)
    plain.set_weights(stateful.get_weights())
    stateful.reset_state()
    stateful(x[:, :2])
    np.testing.assert_allclose(stateful(x[:, 2:]), plain(x), rtol=1e-6, atol=1e-6)
    stateful.reset_states()
    np.testing.assert_allclose(stateful(x), plain(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MAKE)
def test_returned_states_begin_the_next_call(name):
    x = _x(name)
    layer = MAKE[name](return_state=True)
    _, *states = layer(x[:, :2])
    second, *_ = layer(x[:, 2:], initial_state=states)
    np.testing.assert_allclose(second, layer(x)[0], rtol=1e-6, atol=1e-6)


def test_states_are_read_and_assigned():
    layer = layers.LSTM(4, stateful=True)
    assert layer.states is None
    layer(X)
    before = [np.asarray(s) for s in layer.states]
    first = np.asarray(layer(X))
    layer.states = before
    np.testing.assert_array_equal(layer(X), first)
    layer.states[0].assign(before[0])
    layer.states[1].assign(before[1])
    np.testing.assert_array_equal(layer(X), first)
    layer.reset_state()
    assert not any(np.asarray(s).any() for s in layer.states)


def test_a_reset_goes_back_to_the_cells_own_start():
    class Cell(layers.Layer):
        state_size = output_size = 2

        def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
            return [jnp.full((batch_size, 2), 5.0, dtype)]

        def call(self, inputs, states):
            return states[0] + 1, [states[0] + 1]

    layer = layers.RNN(Cell(), stateful=True)
    assert layer(X)[0, 0] == 5 + STEPS
    assert layer(X)[0, 0] == 5 + 2 * STEPS
    layer.reset_state()
    assert layer(X)[0, 0] == 5 + STEPS


def test_initial_state_wins_over_kept_states_for_that_call():
    layer = layers.GRU(4, stateful=True)
    layer(X)
    zeros = np.zeros((BATCH, 4), np.float32)
    fresh = np.asarray(layer(X, initial_state=zeros))
    layer.reset_state()
    np.testing.assert_allclose(layer(X), fresh, rtol=1e-6)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_model_resets_its_states_nested_and_bidirectional_ones_too(wrap):
    inner = layers.LSTM(3, stateful=True)
    inputs = keras.Input(batch_shape=(BATCH, STEPS, FEATURES))
    layer = layers.Bidirectional(inner) if wrap else inner
    model = keras.Sequential([keras.Model(inputs, layer(inputs)), layers.Dense(2)])
    first = np.asarray(model(X))
    assert not np.allclose(model(X), first)
    model.reset_states()
    np.testing.assert_allclose(model(X), first, rtol=1e-6)


def test_bidirectional_states():
    layer = layers.Bidirectional(layers.GRU(4, stateful=True, return_state=True))
    layer(X)
    assert [s.shape for s in layer.states] == [(BATCH, 4)] * 2
    layer.reset_state([np.ones((BATCH, 4)), np.zeros((BATCH, 4))])
    assert np.asarray(layer.states[0]).all()
    given = [draw((BATCH, 4), 1), draw((BATCH, 4), 2)]
    _, forward, backward = layer(X, initial_state=given)
    np.testing.assert_allclose(
        forward, layer.forward_layer(X, initial_state=given[0])[1], rtol=1e-6
    )
    np.testing.assert_allclose(
        backward, layer.backward_layer(X, initial_state=given[1])[1], rtol=1e-6
    )


def test_states_of_an_encoder_begin_a_decoder():
    source, target = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    encoder = layers.LSTM(4, return_state=True)
    decoder = layers.LSTM(4, return_sequences=True)
    _, h, c = encoder(source)
    model = keras.Model([source, target], decoder(target, initial_state=[h, c]))
    y = draw((BATCH, 4, FEATURES), 3)
    _, *states = encoder(X)
    np.testing.assert_allclose(
        model([X, y]), decoder(y, initial_state=states), rtol=1e-6, atol=1e-6
    )


def test_fit_evaluate_and_predict_keep_states():
    inputs = keras.Input(batch_shape=(BATCH, STEPS, FEATURES))
    layer = layers.GRU(3, stateful=True)
    model = keras.Model(inputs, layers.Dense(1)(layer(inputs)))
    model.compile("sgd", "mse")
    model.fit(X, np.ones((BATCH, 1)), batch_size=BATCH, epochs=1, verbose=0)
    after_fit = np.asarray(layer.states[0])
    assert after_fit.any()
    model.predict(X, batch_size=BATCH, verbose=0)
    assert not np.array_equal(after_fit, layer.states[0])


class TestErrors:
    def test_initial_state_of_another_number_or_shape(self):
        layer = layers.LSTM(4)
        with pytest.raises(ValueError, match=r"initial_state of 'lstm.*one array for each state"):
            layer(X, initial_state=[np.zeros((BATCH, 4))])
        with pytest.raises(ValueError, match=r"float32\(2, 4\)"):
            layer(X, initial_state=[np.zeros((BATCH, 5)), np.zeros((BATCH, 4))])
        with pytest.raises(ValueError, match="forward layer, then those of the backward layer"):
            layers.Bidirectional(layers.GRU(4))(X, initial_state=[np.zeros((BATCH, 4))])

    def test_a_stateful_layer_without_a_batch_size(self):
        with pytest.raises(ValueError, match=r"batch size must be known.*batch_shape="):
            layers.LSTM(4, stateful=True)(keras.Input((STEPS, FEATURES)))

    def test_a_stateful_layer_given_another_batch_size(self):
        layer = layers.LSTM(4, stateful=True)
        layer(X)
        with pytest.raises(ValueError, match="batch size of 2, but got a batch of 1"):
            layer(X[:1])

    def test_states_to_reset_to_of_another_shape_change_nothing(self):
        layer = layers.LSTM(4, stateful=True)
        with pytest.raises(ValueError, match="has no states to reset"):
            layer.reset_state()
        layer(X)
        before = [np.asarray(s) for s in layer.states]
        with pytest.raises(ValueError, match="states of shapes"):
            layer.reset_state([np.zeros((BATCH, 4)), np.zeros((BATCH, 5))])
        for state, value in zip(layer.states, before, strict=True):
            np.testing.assert_array_equal(state, value)
