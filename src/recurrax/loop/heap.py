"""Freed memory kept for the next call.

glibc gives large blocks straight back to the system when they are freed. A training step frees tens
of megabytes (pre-activations, their cotangents) and asks for them again a moment later: the system
clears every page anew, which took a tenth of the step's time. The process keeps up to `KEPT` bytes
instead, in one arena: a thread's own holds 64 MiB at most, and what is larger goes back to the
system, which took a quarter of the processor time of a training step of 1,000. Whoever tunes
glibc's allocator through the environment is left alone.
"""

import ctypes
import functools
import os
import sys

KEPT = 1 << 30
# The heap of a thread is given back unless as much again is wanted on top.
_TOP_PAD = 64 << 20
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def share_one_arena() -> bool:
    """Ask the C library for one arena for all threads; whether it will.

    A thread keeps the arena that it began with, so this comes before JAX starts its threads.
    """
    return _set((_M_ARENA_MAX, 1))


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory; whether it will."""
    return _set((_M_MMAP_THRESHOLD, KEPT), (_M_TRIM_THRESHOLD, KEPT), (_M_TOP_PAD, _TOP_PAD))


def _set(*options: tuple[int, int]) -> bool:
    tuned = any(n.startswith("MALLOC_") for n in os.environ) or "GLIBC_TUNABLES" in os.environ
    if tuned or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*option) for option in options)
