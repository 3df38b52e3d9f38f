"""Random cells, values and all gradients, against `jax.lax.scan`."""

import functools

import interpreter
import jax
import jax.numpy as jnp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_cells import cells, values_and_gradients
from recurrences import assert_same

import recurrax


@settings(max_examples=500, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(cell=cells)
def test_passes_keep_values_and_gradients(cell):
    with jax.enable_x64(True):
        ours, theirs = (
            interpreter.run(functools.partial(values_and_gradients, scan, cell, jnp.float64))
            for scan in (recurrax.scan, jax.lax.scan)
        )
        assert_same(ours, theirs, 1e-10)


@pytest.mark.parametrize("runner", ["native", "xla"])
def test_runners_keep_values_and_gradients(runner):
    """The same in float32, compiled, through each runner: many cells in one program."""
    seen = []

    @settings(max_examples=16, phases=[Phase.generate], database=None)
    @given(cell=cells)
    def collect(cell):
        seen.append(cell)

    collect()
    ours = functools.partial(recurrax.scan, runner=runner)
    for cell in seen:
        assert_same(
            jax.jit(lambda cell=cell: values_and_gradients(ours, cell, jnp.float32))(),
            interpreter.run(
                lambda cell=cell: values_and_gradients(jax.lax.scan, cell, jnp.float32)
            ),
            2e-5,
        )
