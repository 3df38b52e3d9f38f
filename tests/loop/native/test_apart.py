"""A helper that comes where the caller runs goes to another processor."""

import ctypes
import os
import sys

import direct
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import body_of, draw

from recurrax.loop.native.target import host

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nobody is moved elsewhere")


def helped(monkeypatch):
    """Run a loop of two tiles whose helper begins on the caller's processor; returns where it was
    before and after it."""
    here, there = [], []
    processor = ctypes.CDLL(None).sched_getcpu

    def help_at_once(request):
        here.append(processor())
        request.contents.task(request.contents.data)
        there.append(processor())

    monkeypatch.setitem(direct.POOL, "schedule", type(direct._run_at_once)(help_at_once))
    consts, carry, xs = (draw(1, 8, 8),), (draw(2, 32, 8),), (draw(3, 5, 32, 8),)
    body = body_of(lambda c, s, x: ((jnp.tanh(s[0] @ c[0] + x[0]),), (s[0],)), consts, carry, xs)
    args = (*consts, *carry, *xs)
    results = direct.run(body, args, reverse=False, length=5, threads=2, target=host())
    alone = direct.run(body, args, reverse=False, length=5, threads=1, target=host())
    for ours, expected in zip(results, alone, strict=True):
        np.testing.assert_array_equal(ours, expected)
    return here[0], there[0]


def test_a_helper_leaves_the_callers_processor_and_may_come_back(monkeypatch):
    allowed = os.sched_getaffinity(0)
    moves = [helped(monkeypatch) for _ in range(10)]
    # Where others keep the machine busy, Linux may move the thread back before it looks.
    assert any(before != after for before, after in moves) == (len(allowed) > 1)
    assert os.sched_getaffinity(0) == allowed


def test_a_helper_with_nowhere_to_go_stays(monkeypatch):
    allowed = os.sched_getaffinity(0)
    only = min(allowed)
    os.sched_setaffinity(0, {only})
    try:
        assert helped(monkeypatch) == (only, only)
        assert os.sched_getaffinity(0) == {only}
    finally:
        os.sched_setaffinity(0, allowed)
