"""The trials of recurrax and of Keras: one code for both."""

import functools
from typing import Any

import jax
import numpy as np
from trial import UNITS, X, close, refused


def _cell(keras: Any) -> Any:
    """A cell in the style of Keras."""

    class Leaky(keras.layers.Layer):
        state_size = output_size = UNITS

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], UNITS), name="kernel")

        def call(self, x: Any, states: Any) -> Any:
            h = 0.5 * states[0] + keras.ops.tanh(keras.ops.matmul(x, self.kernel))
            return h, [h]

    return keras.saving.register_keras_serializable("capabilities")(Leaky)()


def cell(keras: Any) -> str:
    layer = keras.layers.RNN(_cell(keras))
    mask = np.arange(6)[None] < np.array([[4], [6]])
    masked = close(layer(X, mask=mask)[0], layer(X[:1, :4])[0])
    both = keras.layers.Bidirectional(keras.layers.RNN(_cell(keras)))(X)
    return "yes" if masked and both.shape == (2, 2 * UNITS) else "no"


def mask(keras: Any) -> str:
    layers = [keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.LSTM(UNITS)]
    model = keras.Sequential(layers)
    return "yes" if close(model(np.array([[1, 2, 0]])), model(np.array([[1, 2]]))) else "no"


def dropout(keras: Any) -> str:
    layer = keras.layers.LSTM(UNITS, recurrent_dropout=0.5)
    return "no" if close(layer(X, training=True), layer(X)) else "yes"


def stream(keras: Any) -> str:
    layer = keras.layers.LSTM(UNITS)
    model = keras.Sequential([keras.Input((None, 3)), layer])
    whole = model(X)
    if hasattr(model, "stream"):
        stream = model.stream(2)
        return "yes" if close([stream.step(X[:, t]) for t in range(6)][-1], whole) else "no"
    states = layer.get_initial_state(2)
    for t in range(6):
        y, states = layer.cell(X[:, t], states)
    return "by hand" if close(y, whole) else "no"


def segments(keras: Any) -> str:
    plain = keras.layers.LSTM(UNITS, return_state=True)
    plain.build(X.shape)
    weights = [v.value for v in plain.trainable_variables]

    def run(layer: Any, weights: Any, x: Any, *states: Any) -> Any:
        given = {"initial_state": list(states)} if states else {}
        return layer.stateless_call(weights, _others(layer), x, **given)[0]

    expected = jax.grad(lambda w: run(plain, w, X)[0].sum())(weights)
    if not refused(lambda: keras.layers.LSTM(UNITS, segments="auto"), TypeError, ValueError):
        cut = keras.layers.LSTM(UNITS, return_state=True, segments="auto")
        cut.build(X.shape)
        got = jax.grad(lambda w: run(cut, w, X)[0].sum())(weights)
        return "yes" if all(map(close, got, expected)) else "no"
    piece = jax.checkpoint(functools.partial(run, plain))

    def pieces(weights: Any) -> Any:
        _, h, c = piece(weights, X[:, :3])
        return piece(weights, X[:, 3:], h, c)[0].sum()

    return "by hand" if all(map(close, jax.grad(pieces)(weights), expected)) else "no"


def states(keras: Any) -> str:
    layer = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True)
    if keras.__name__ == "recurrax":
        from recurrax import view

        found = view.states(layer, X)[layer.name]
        return "yes" if {"c", "forget_gate"} <= set(found) else "no"
    every = [y for y in layer(X) if y.shape[:2] == (2, 6)]
    return "no" if len(every) == 1 else "yes"  # h alone


def outside(keras: Any) -> str:
    model = keras.Sequential([keras.layers.Embedding(5, 3), keras.layers.LSTM(UNITS)])
    outside = np.array([[99, 99]])
    if refused(lambda: model.predict(outside, verbose=0), ValueError, IndexError):
        return "an error"
    got = model.predict(outside, verbose=0)
    return "NaN, silently" if np.isnan(got).any() else "something, silently"


def forward_mode(keras: Any) -> str:
    def derivative() -> Any:
        layer = keras.layers.LSTM(UNITS)
        layer.build(X.shape)
        weights = [v.value for v in layer.trainable_variables]
        call = functools.partial(layer.stateless_call, weights, _others(layer))
        return jax.jvp(lambda x: call(x)[0], (X,), (np.ones_like(X),))

    return "no" if refused(derivative, TypeError) else "yes"


def _others(layer: Any) -> list[Any]:
    return [v.value for v in layer.non_trainable_variables]
