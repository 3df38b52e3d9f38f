"""Huge pages are asked for where whole ones lie inside a result, and nowhere else."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import jax, jax.numpy as jnp
import llvmlite.binding as llvm
import recurrax

advised = []

@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
def madvise(start, size, advice):
    advised.append((start, start + size))
    return 0

llvm.add_symbol("madvise", ctypes.cast(madvise, ctypes.c_void_p).value)
sizes = [(1, 100), (3, 50_001), (1100, 1001), (1000, 2049)]
for steps, units in sizes:
    xs = jnp.ones((steps, units))
    _, ys = recurrax.scan(lambda c, x: (c + x, c * x), xs[0], xs, runner="native")
    start = ys.block_until_ready().unsafe_buffer_pointer()
    ours = start, start + ys.nbytes
    huge = 2 << 20
    inside = -(-ours[0] // huge) * huge, ours[1] // huge * huge
    assert advised == ([inside] if inside[0] < inside[1] else []), (advised, ours)
    print(len(advised), end=" ")
    advised.clear()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no advice is given")
def test_only_whole_pages_of_a_result_are_advised():
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"RECURRAX_CACHE_DIR": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == ["0", "0", "1", "1"]
