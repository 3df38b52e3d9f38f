"""Random cells, values and all gradients, against `jax.lax.scan`."""

import functools

import interpreter
import jax
import jax.numpy as jnp
import pytest
from direct import SSE, Loops
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_cells import cells, strange_cells, values_and_gradients
from recurrences import AS_USERS_HAVE_IT, assert_same

import recurrax
from recurrax.loop.native.target import host

TOLERANCE = {jnp.float32: 2e-5, jnp.float64: 1e-10}
# Narrower code is compiled far longer: one cell in five has it.
TARGETS = [host()] * 4 + [SSE] if host().is_x86 else [host()]


@pytest.mark.timeout(1200)  # the longest test by far, on a slow machine too
@settings(max_examples=500, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(
    cell=cells,
    dtype=st.sampled_from([jnp.float32, jnp.float64]),
    threads=st.sampled_from([1, 3]),
    target=st.sampled_from(TARGETS),
)
def test_passes_and_native_kernels_keep_values_and_gradients(cell, dtype, threads, target):
    """Forward and backward bodies are compiled natively, and nothing else is compiled at all.

    The widths of the cells are less than a vector, one vector, or several, by dtype and target.
    """
    native = Loops(threads, target)
    with jax.enable_x64(dtype == jnp.float64):
        ours = interpreter.run(
            functools.partial(values_and_gradients, recurrax.scan, cell, dtype), loops=native
        )
        theirs = interpreter.run(functools.partial(values_and_gradients, jax.lax.scan, cell, dtype))
        assert_same(ours, theirs, TOLERANCE[dtype])
    assert native.taken == 2 and native.refused == []


@pytest.mark.parametrize(("runner", "number"), [("native", 4), ("xla", 16)])
def test_runners_keep_values_and_gradients(runner, number):
    """The same in float32, the whole program compiled with XLA's full effort, by each runner."""
    seen = []

    @settings(max_examples=number, phases=[Phase.generate], database=None)
    @given(cell=cells)
    def collect(cell):
        seen.append(cell)

    collect()
    ours = functools.partial(recurrax.scan, runner=runner)
    for cell in seen:
        assert_same(
            jax.jit(
                lambda cell=cell: values_and_gradients(ours, cell, jnp.float32),
                compiler_options=AS_USERS_HAVE_IT,
            )(),
            interpreter.run(
                lambda cell=cell: values_and_gradients(jax.lax.scan, cell, jnp.float32)
            ),
            2e-5,
        )


@pytest.mark.parametrize("around", [None, "a", "b"], ids=["plain", "named", "nothing kept"])
def test_what_stays_one_thing_in_a_step(around):
    """Effects, callbacks, draws, inner loops and checkpoints, also under a policy for names."""

    def within(scan, *args, **how):
        if around is None:
            return scan(*args, **how)
        policy = jax.checkpoint_policies.save_only_these_names(around)
        f, *args = args
        return jax.checkpoint(lambda *args: scan(f, *args, **how), policy=policy)(*args)

    @settings(max_examples=12, phases=[Phase.generate], database=None)
    @given(cell=strange_cells)
    def check(cell):
        run = [
            functools.partial(
                values_and_gradients, functools.partial(within, scan), cell, jnp.float32
            )
            for scan in (recurrax.scan, jax.lax.scan)
        ]
        assert_same(interpreter.run(run[0]), interpreter.run(run[1]), 5e-5)

    check()
