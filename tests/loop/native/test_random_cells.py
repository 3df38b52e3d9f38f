"""Random cells, values and all gradients, through the native runner."""

import functools

import interpreter
import jax
import jax.numpy as jnp
from against_xla import assert_close
from hypothesis import HealthCheck, Phase, given, settings
from random_cells import cells, values_and_gradients

import recurrax


@settings(max_examples=20, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(cell=cells)
def test_values_and_gradients(cell):
    native = functools.partial(recurrax.scan, runner="native")
    with jax.enable_x64(True):
        ours = jax.jit(lambda: values_and_gradients(native, cell, jnp.float64))()
        theirs = interpreter.run(
            functools.partial(values_and_gradients, jax.lax.scan, cell, jnp.float64)
        )
    assert_close(ours, theirs, 1e-10)
