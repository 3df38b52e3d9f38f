"""Cells written for one sample, `W @ x`, under `vmap`: turned into rows, and the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import opened

import recurrax
from recurrax.loop.turned import turned

BATCH, STEPS, FEATURES, UNITS = 3, 5, 4, 6


def cell(weights, states, x):
    """An LSTM as Equinox writes it, with a bias that stands among the columns."""
    kernel, recurrent, bias = weights
    h, c = states
    i, f, g, o = jnp.split(kernel @ x + recurrent @ h + bias, 4)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def inside(scan, weights, xs):
    """The samples side by side in each step."""
    states = (jnp.zeros((BATCH, UNITS)),) * 2

    def step(states, x):
        new = jax.vmap(lambda s, x: cell(weights, s, x))(states, x)
        return new, new[0]

    return scan(step, states, xs.swapaxes(0, 1))[1].swapaxes(0, 1)


def outside(scan, weights, xs):
    """A loop for each sample."""

    def one(xs):
        def step(states, x):
            new = cell(weights, states, x)
            return new, new[0]

        return scan(step, (jnp.zeros(UNITS),) * 2, xs)[1]

    return jax.vmap(one)(xs)


def given():
    draw = np.random.default_rng(0)
    shapes = (4 * UNITS, FEATURES), (4 * UNITS, UNITS), (4 * UNITS,), (BATCH, STEPS, FEATURES)
    *weights, xs = (jnp.asarray(draw.normal(size=s) * 0.5, "float32") for s in shapes)
    return weights, xs


def loops(closed):
    """The bodies of all loops in a program."""
    for eqn in opened(closed).eqns:
        if eqn.primitive.name == "loop":
            yield eqn.params["jaxpr"]
        for inner in eqn.params.values():
            if eqn.primitive.name != "loop" and hasattr(inner, "jaxpr"):
                yield from loops(inner)


@pytest.mark.parametrize("run", [inside, outside])
def test_weight_first_cells_agree_with_lax_and_hold_no_transpose_in_their_loop(run):
    weights, xs = given()

    def gradients(scan):
        return jax.jit(jax.grad(lambda *args: jnp.sum(run(scan, *args) ** 2), argnums=(0, 1)))

    ours, theirs = gradients(recurrax.scan)(weights, xs), gradients(jax.lax.scan)(weights, xs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    (body,) = loops(jax.make_jaxpr(lambda *args: run(recurrax.scan, *args))(weights, xs))
    names = [eqn.primitive.name for eqn in body.jaxpr.eqns]
    assert "dot_general" in names
    assert "transpose" not in names


def test_a_cell_of_equinox_gets_the_native_runner_as_any_other():
    weights, xs = given()
    states = (jnp.zeros((BATCH, UNITS)),) * 2

    def step(states, x):
        new = jax.vmap(lambda s, x: cell(weights, s, x))(states, x)
        return new, new[0]

    assert recurrax.explain(step, states, xs.swapaxes(0, 1)).runner == "native"


def test_a_product_that_is_needed_both_ways_is_left_alone():
    def both(w, x):
        columns = w @ x.T
        return columns.T, jnp.cumsum(columns, axis=1)

    closed = jax.make_jaxpr(both)(jnp.ones((4, 3)), jnp.ones((2, 3)))
    assert turned(closed) is closed
