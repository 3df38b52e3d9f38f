"""The trials of Flax NNX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from trial import UNITS, X, close, refused

ZEROS = (np.zeros((2, UNITS), "float32"),) * 2


def _lstm(nnx: Any) -> Any:
    return nnx.LSTMCell(3, UNITS, rngs=nnx.Rngs(0))


def cell(nnx: Any) -> str:
    class Leaky(nnx.RNNCellBase):
        num_feature_axes = 1

        def __init__(self) -> None:
            self.kernel = nnx.Param(jnp.ones((3, UNITS)))

        def initialize_carry(self, shape: Any, *_: Any, **__: Any) -> Any:
            return jnp.zeros((*shape[:-1], UNITS))

        def __call__(self, h: Any, x: Any) -> Any:
            h = 0.5 * h + jnp.tanh(x @ self.kernel[...])
            return h, h

    rnn = nnx.RNN(Leaky(), return_carry=True)
    masked = close(rnn(X, seq_lengths=np.array([4, 6]))[0][0], rnn(X[:1, :4])[0][0])
    both = nnx.Bidirectional(nnx.RNN(Leaky()), nnx.RNN(Leaky()))(X)
    return "yes" if masked and both.shape == (2, 6, 2 * UNITS) else "no"


def mask(nnx: Any) -> str:
    embedding = nnx.Embed(5, 3, rngs=nnx.Rngs(0))
    rnn = nnx.RNN(_lstm(nnx), return_carry=True)

    def last(ids: Any, **options: Any) -> Any:
        return rnn(embedding(np.array(ids)), **options)[0][1]

    alone = last([[1, 2]])
    if close(last([[1, 2, 0]]), alone):
        return "yes"
    return "by hand" if close(last([[1, 2, 0]], seq_lengths=np.array([2])), alone) else "no"


def dropout(nnx: Any) -> str:
    given = {"recurrent_dropout": 0.5, "rngs": nnx.Rngs(0)}
    return "no" if refused(lambda: nnx.LSTMCell(3, UNITS, **given), TypeError) else "yes"


def stream(nnx: Any) -> str:
    cell = _lstm(nnx)
    rnn = nnx.RNN(cell)
    if hasattr(rnn, "stream"):
        return "yes"
    carry = cell.initialize_carry((2, 3), nnx.Rngs(0))
    for t in range(6):
        carry, y = cell(carry, X[:, t])
    return "by hand" if close(y, rnn(X)[:, -1]) else "no"


def _function(nnx: Any) -> tuple[Any, Any]:
    """An LSTM as a pure function of its weights, the input and the carry; and the weights."""
    rnn = nnx.RNN(_lstm(nnx), return_carry=True)
    graph, weights, others = nnx.split(rnn, nnx.Param, ...)

    def run(weights: Any, x: Any, carry: Any = ZEROS) -> Any:
        return nnx.merge(graph, weights, others)(x, initial_carry=carry)

    return run, weights


def segments(nnx: Any) -> str:
    run, weights = _function(nnx)

    def pieces(weights: Any) -> Any:
        carry, _ = jax.checkpoint(run)(weights, X[:, :3])
        return jax.checkpoint(run)(weights, X[:, 3:], carry)[1][:, -1].sum()

    expected = jax.grad(lambda w: run(w, X)[1][:, -1].sum())(weights)
    same = jax.tree.map(close, jax.grad(pieces)(weights), expected)
    return "by hand" if jax.tree.all(same) else "no"


def states(nnx: Any) -> str:
    found = jax.tree.leaves(nnx.RNN(_lstm(nnx), return_carry=True)(X))
    every = [y for y in found if y.shape[:2] == (2, 6)]
    return "no" if len(every) == 1 else "yes"


def outside(nnx: Any) -> str:
    embedding = nnx.Embed(5, 3, rngs=nnx.Rngs(0))
    got = embedding(np.array([99]))
    return "NaN, silently" if np.isnan(got).any() else "something, silently"


def forward_mode(nnx: Any) -> str:
    run, weights = _function(nnx)

    def derivative() -> Any:
        return jax.jvp(lambda weights: run(weights, X), (weights,), (weights,))

    return "no" if refused(derivative, TypeError) else "yes"
