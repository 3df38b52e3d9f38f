"""Gates are kept as what their activations made, where nothing else reads what goes into them."""

import jax
import jax.numpy as jnp
import pytest
from interpreter import opened
from recurrences import assert_same, lstm

import recurrax

H, F, B, T = 3, 2, 4, 6


def loops_of(f, w, init, xs):
    def loss(w, init, xs):
        last, ys = recurrax.scan(lambda c, x: f(w, c, x), init, xs)
        return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves((last, ys)))

    closed = opened(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1, 2)))(w, init, xs))
    return [eqn.params["jaxpr"] for eqn in closed.eqns if eqn.primitive.name == "loop"]


def count(body, *names):
    return sum(e.primitive.name in names for e in body.eqns)


def test_the_backward_loop_of_an_lstm_does_no_gate_again():
    w = {"kernel": jnp.ones((F, 4 * H)), "recurrent": jnp.ones((H, 4 * H))}
    w["bias"] = jnp.zeros(4 * H)
    init, xs = (jnp.zeros((B, H)), jnp.zeros((B, H))), jnp.ones((T, B, F))
    forward, backward = loops_of(lambda w, c, x: lstm(w)(c, x), w, init, xs)
    assert count(forward, "logistic", "tanh") == 5
    assert count(backward, "logistic", "tanh") == 1  # the tanh of the new cell state


def cell(gates):
    """One step that makes a new state of `gates(z)`, z the sum of two products."""

    def step(w, h, x):
        h = gates(x @ w["kernel"] + h @ w["recurrent"], h)
        return h, h

    return step


def _kept_whole(z, h):
    return jnp.tanh(z)[:, :H] + h


def _read_twice(z, h):
    return jax.nn.sigmoid(z)[:, :H] * jnp.tanh(z)[:, H:]


def _in_pieces(z, h):
    a, b = jnp.split(z, 2, -1)
    return jax.nn.sigmoid(a) * h + jnp.tanh(b)


def _uneven_pieces(z, h):
    a, b = jnp.split(z, [1], -1)
    return jax.nn.sigmoid(a) * h + jnp.tanh(b)[:, :H]


def _one_piece_bare(z, h):
    a, b = jnp.split(z, 2, -1)
    return jax.nn.sigmoid(a) * h + b


def _a_piece_twice(z, h):
    a, b = jnp.split(z, 2, -1)
    return jax.nn.sigmoid(a) * h + jnp.tanh(a) * jnp.tanh(b)


CELLS = {
    "whole": (_kept_whole, 0),
    "read twice": (_read_twice, 2),
    "pieces": (_in_pieces, 0),
    "uneven pieces": (_uneven_pieces, 0),
    "one piece bare": (_one_piece_bare, 1),
    "a piece twice": (_a_piece_twice, 3),
}


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_lax_and_only_others_are_done_again(name):
    gates, again = CELLS[name]
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        w = {
            "kernel": jax.random.normal(keys[0], (F, 2 * H)),
            "recurrent": jax.random.normal(keys[1], (H, 2 * H)),
        }
        h, xs = jax.random.normal(keys[2], (B, H)), jax.random.normal(keys[3], (T, B, F))
        _, backward = loops_of(cell(gates), w, h, xs)
        assert count(backward, "logistic", "tanh") == again

        def loss(scan, w, h, xs):
            last, ys = scan(lambda c, x: cell(gates)(w, c, x), h, xs)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(last**2)

        ours, theirs = (
            jax.grad(lambda *a, s=scan: loss(s, *a), argnums=(0, 1, 2))(w, h, xs)
            for scan in (recurrax.scan, jax.lax.scan)
        )
        assert_same(ours, theirs, 1e-10)
        if name == "pieces":  # second order takes long: once will do

            def again(scan, h):
                return jnp.sum(jax.grad(lambda h: loss(scan, w, h, xs))(h) ** 2)

            twice = [
                jax.grad(lambda h, s=scan: again(s, h))(h) for scan in (recurrax.scan, jax.lax.scan)
            ]
            assert_same(*twice, 1e-10)
