"""What a kernel's handler expects of the structures that XLA calls it with."""

import direct
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import body_of

from recurrax.loop.native.target import host
from recurrax.loop.runners import native

UNIMPLEMENTED = 12


@pytest.fixture(scope="module")
def engine():
    body = body_of(lambda c, s, x: ((s[0] * 2,), ()), (), (jnp.ones((2, 3)),), ())
    step = native._lowered(body)
    code = direct.compiled(step, reverse=False, length=4, threads=1, target=host())
    return direct.link(code)


def called(engine, **sizes):
    array = np.ones((2, 3), np.float32)
    pair = [(array.ctypes.data, array.shape)]
    return direct.call(engine, pair, pair, **sizes), array


@pytest.mark.parametrize("structure", [None, "frame", "api"])
def test_a_newer_minor_version_adds_fields(engine, structure):
    larger = {} if structure is None else {structure: 1 << 12}
    error, array = called(engine, **larger)
    assert error is None and (array == 2**4).all()


@pytest.mark.parametrize(
    "sizes",
    [{"frame": 112}, {"api": 136}, {"args": 48}, {"rets": 48}, {"args": 32}],
)
def test_other_structures_are_refused_and_nothing_is_written(engine, sizes):
    error, array = called(engine, **sizes)
    assert error == UNIMPLEMENTED and (array == 1).all()
