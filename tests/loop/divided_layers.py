"""Cells and layers over arrays that devices hold parts of."""

import jax
import jax.numpy as jnp
import numpy as np
from divided import ROWS, case, check, collectives, compiled, kernels, mesh_of, put
from named_weights import Weights, prepare
from published_cells import CELLS
from recurrences import UNITS

import recurrax


def cell_program(step, scan):
    def loss(held, carry, xs):
        weights = Weights(dict(held))
        outputs = scan(lambda c, x: step(weights, c, x), carry, xs)
        floats = [y for y in jax.tree.leaves(outputs) if jnp.issubdtype(y.dtype, jnp.floating)]
        return sum(jnp.sin(y + 0.1 * i).sum() for i, y in enumerate(floats)), outputs

    return jax.value_and_grad(loss, argnums=(0, 2), has_aux=True)


@case
def published_cells():
    chosen = (
        *("clockwork", "slstm", "mlstm", "turing_machine", "selective", "delta_net"),
        *("trained_memory", "ode_rnn", "kalman", "window_attention", "convolutional"),
        *("greedy_decoder",),
    )
    mesh = mesh_of(3)
    for step in CELLS:
        if step.__name__ not in chosen:
            continue
        held, init, xs = prepare(step)
        init = jax.tree.map(lambda a: jnp.concatenate([a, a]) if np.ndim(a) else a, init)
        xs = jnp.concatenate([xs, 0.9 * xs], axis=1)
        expected = jax.jit(cell_program(step, jax.lax.scan))(held, init, xs)
        rows = jax.tree.map(lambda a: put(a, mesh, *["a"] * bool(np.ndim(a))), init)
        args = put(held, mesh), rows, put(xs, mesh, None, "a")
        text, *_ = compiled(cell_program(step, recurrax.scan), args, expected)
        assert not collectives(text)["all-gather"], step
        assert bool(kernels(text)) == (step.__name__ != "convolutional"), step


class NormalisedCell(recurrax.layers.Layer):
    """A cell of a user's: it is normalised, and its gates have a bias."""

    def __init__(self, units, **how):
        super().__init__(**how)
        self.units = self.state_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")
        self.gain = self.add_weight(shape=(self.units,), initializer="ones", name="gain")
        self.built = True

    def call(self, inputs, states):
        z = inputs @ self.kernel.value + states[0] @ self.recurrent.value
        z = (z - z.mean(-1, keepdims=True)) * jax.lax.rsqrt(z.var(-1, keepdims=True) + 1e-3)
        h = jnp.tanh(z * self.gain.value)
        return h, [h]


def layers():
    make = recurrax.layers
    yield "LSTM", make.LSTM(UNITS, return_sequences=True)
    yield "GRU", make.GRU(UNITS, return_sequences=True)
    yield "SimpleRNN", make.SimpleRNN(UNITS)
    yield "Bidirectional", make.Bidirectional(make.LSTM(UNITS, return_sequences=True))
    yield "a cell of a user's", make.RNN(NormalisedCell(UNITS), return_sequences=True)
    yield "ConvLSTM1D", make.ConvLSTM1D(UNITS, 3, padding="same", return_sequences=True)
    yield "stacked", make.RNN([make.LSTMCell(UNITS), make.GRUCell(UNITS)])


@case
def layers_that_train():
    """A step of training, with masks and without: values, weights and how they lie."""
    rng = np.random.default_rng(0)
    series = jnp.asarray(rng.normal(size=(ROWS, 6, 3)), jnp.float32)
    mask = jnp.arange(6) < rng.integers(1, 7, (ROWS, 1))
    mesh = mesh_of(4)
    for name, layer in layers():
        convolutional = name.startswith("Conv")
        x = jnp.stack([series] * 2, 2) if convolutional else series
        layer.build(x.shape)
        weights = [jnp.asarray(v.value) for v in layer.trainable_variables]
        others = [jnp.asarray(v.value) for v in layer.non_trainable_variables]
        for masked in (False, True) if name in ("LSTM", "Bidirectional") else (False,):

            def train(weights, x, mask, layer=layer, others=others, masked=masked):
                def loss(weights):
                    how = {"mask": mask} if masked else {}
                    y, _ = layer.stateless_call(weights, others, x, **how)
                    return jnp.square(y - 0.5).sum(), y

                (value, y), dw = jax.value_and_grad(loss, has_aux=True)(weights)
                return value, y, jax.tree.map(lambda w, d: w - 0.01 * d, weights, dw)

            expected = jax.jit(train)(weights, x, mask)
            parts = put(weights, mesh), put(x, mesh, "a"), put(mask, mesh, "a")
            try:
                check(train, parts, 4, expected=expected, native=not convolutional)
            except AssertionError as error:
                raise AssertionError(f"{name}, masked={masked}") from error


@case
def an_embedding_and_its_gradient():
    layer, table = recurrax.layers.GRU(UNITS), jnp.ones((7, 3)) * jnp.arange(7.0)[:, None]
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 7, (ROWS, 6)))
    layer.build((ROWS, 6, 3))
    weights = [table, *(jnp.asarray(v.value) for v in layer.trainable_variables)]

    def gradient(weights, ids):
        def loss(weights):
            y, _ = layer.stateless_call(weights[1:], [], weights[0][ids])
            return jnp.square(y).sum(), y

        return jax.grad(loss, has_aux=True)(weights)

    mesh = mesh_of(4)
    parts = put(weights, mesh), put(ids, mesh, "a")
    check(gradient, parts, 4, expected=jax.jit(gradient)(weights, ids))
