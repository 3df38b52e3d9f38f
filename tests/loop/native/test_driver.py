"""Many loops at once, on one pool, for a long time."""

import concurrent.futures
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import body_of, draw, run_native


def model(units, batch):
    """A compiled loop, its arguments and what it gives."""
    consts, carry = (draw(1, units, units, scale=0.3),), (draw(2, batch, units),)
    xs = (draw(3, 4, batch, units),)
    body = body_of(lambda c, s, x: ((jnp.tanh(s[0] @ c[0] + x[0]),), (s[0],)), consts, carry, xs)
    call = jax.jit(lambda consts, carry, xs: run_native(body, consts, carry, xs))
    return call, (consts, carry, xs), jax.tree.map(np.asarray, call(consts, carry, xs))


def call_often(models, times):
    for k in range(times):
        call, arguments, expected = models[k % len(models)]
        for ours, theirs in zip(
            jax.tree.leaves(call(*arguments)), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("times", [50, pytest.param(800, marks=pytest.mark.long)])
def test_threads_that_share_the_pool_never_wait_for_ever(times):
    """8 Python threads call 4 models of many tiles; every result is that of a lone call."""
    models = [model(units, batch) for units, batch in ((8, 64), (24, 33), (5, 100), (40, 17))]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(call_often, models, times) for _ in range(8)]:
            done.result(timeout=240)


def test_loops_inside_one_program_run_together():
    """Two directions, as a Bidirectional has them, and a batch of loops under vmap."""
    consts, carry = (draw(1, 8, 8, scale=0.3),), (draw(2, 40, 8),)
    xs = (draw(3, 5, 40, 8),)
    body = body_of(lambda c, s, x: ((jnp.tanh(s[0] @ c[0] + x[0]),), (s[0],)), consts, carry, xs)

    def both(xs):
        forward = run_native(body, consts, carry, (xs,))
        backward = run_native(body, consts, carry, (xs,), reverse=True)
        return forward[1][0] + backward[1][0]

    one = both(xs[0])
    many = jax.jit(jax.vmap(both))(jnp.stack([xs[0]] * 3))
    for row in many:
        np.testing.assert_allclose(row, one, rtol=1e-6)


def _resident():
    text = pathlib.Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * 4096


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat():
    call, arguments, _ = model(24, 33)
    for _ in range(500):
        call(*arguments)
    before = _resident()
    for _ in range(10_000):
        call(*arguments)
    jax.block_until_ready(call(*arguments))
    assert _resident() - before < 8 << 20
