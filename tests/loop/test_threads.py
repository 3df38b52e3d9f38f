"""Threads that trace, differentiate and run loops at the same time."""

import collections
import concurrent.futures
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax
from recurrax.loop import interning, machine, plan, step
from recurrax.loop.body import Body

THREADS = 8


@pytest.fixture
def restless():
    """Threads that take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(function, *each):
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, *each))


class Slow(collections.OrderedDict):
    """Another thread comes in between this and what follows."""

    def setdefault(self, key, default=None):
        found = super().setdefault(key, default)
        time.sleep(1e-4)
        return found


def test_bodies_are_interned_while_others_leave(restless, monkeypatch):
    monkeypatch.setattr(interning, "_LIMIT", 2)
    monkeypatch.setattr(interning, "_known", Slow())
    xs = jnp.ones((2, 3))
    bodies = [
        step.trace(lambda h, x, k=k: (h * k + x, None), xs[0], xs, None).body for k in range(40)
    ]
    for found in at_once(lambda k: interning.interned(bodies[k % 40]), range(400)):
        assert any(found is body for body in bodies)
    assert len(interning._known) <= 2


def test_threads_get_their_own_results(restless):
    w, xs = 0.5 * jnp.eye(4), jnp.ones((3, 2, 4)) / 7

    def run(k, scan=recurrax.scan):
        def loss(h):
            last, ys = scan(lambda h, x: (jnp.tanh(h @ w * (k % 3 + 1) + x), h + k), h, xs)
            return last.sum() + ys.sum()

        return np.stack(jax.value_and_grad(loss)(xs[0])[1])

    for k, ours in enumerate(at_once(run, range(24))):
        np.testing.assert_allclose(ours, run(k, jax.lax.scan), rtol=1e-5, atol=1e-6)


def test_one_program_with_other_consts_and_carries_is_another_loop():
    """Only the numbers of consts and carries tell these apart."""
    program = jax.make_jaxpr(lambda a, b, c: (a + c, b * 2))(*[jnp.ones(3)] * 3)
    how = {"length": 2, "reverse": False, "unroll": 1, "runner": "native"}
    how["machine"] = machine.default()
    a, b, c = jnp.ones(3), jnp.ones(3), jnp.ones((2, 3))
    (sums, doubled), _ = plan.run(Body(program, 0, 2), [], [a, b], [c], **how)
    assert sums.tolist() == [3.0] * 3 and doubled.tolist() == [4.0] * 3
    (again,), (ys,) = plan.run(Body(program, 0, 1), [], [a], [c, c], **how)
    assert again.tolist() == [3.0] * 3 and ys.shape == (2, 3)
    (last,), (ys,) = plan.run(Body(program, 1, 1), [a], [b], [c], **how)
    assert last.tolist() == [2.0] * 3
