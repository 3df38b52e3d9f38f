"""Freed memory is kept, so that a loop's large results are not faulted in at every call."""

import os
import subprocess
import sys

PROGRAM = """
import resource, jax, jax.numpy as jnp, recurrax
f = jax.jit(lambda x: recurrax.scan(lambda c, x: (c + x, c * 2 + x), x[0], x)[1].sum())
x = jnp.ones((1200, 16, 1024))  # 75 MiB: more than the arena of a thread can hold
for _ in range(8):  # the heap grows at the first
    f(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    f(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


PAGES = 10 * 1200 * 16 * 1024 * 4 / 4096  # of ten results


def faults(**environment: str) -> int:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(said.stdout)


def test_large_results_are_not_faulted_in_at_every_call():
    assert faults() < 0.3 * PAGES


def test_whoever_tunes_the_allocator_is_left_alone():
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > 0.7 * PAGES
