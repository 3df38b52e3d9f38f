"""Freed memory kept for the next call (`tune_memory`)."""

import ctypes
import os
import sys

KEPT = 1 << 30
# Older versions of glibc take no more, half of what the arena of a thread holds.
_KEPT_BY_OLD = 32 << 20
_TOP_PAD = 64 << 20
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_state: dict[str, bool | None] = {"wanted": None, "done": None}


def tune_memory(on: bool = True) -> bool:
    """Ask the C library to keep freed memory for the next call, in the whole process.

    glibc gives large blocks back to the system as soon as they are freed. A step of training frees
    tens of megabytes and asks for them again a moment later, and the system clears each page anew.
    This asks glibc for two things: to keep up to 1 GiB of freed memory (`M_MMAP_THRESHOLD`,
    `M_TRIM_THRESHOLD`, `M_TOP_PAD`), and to have all threads that begin from now on share one arena
    (`M_ARENA_MAX`), as an arena of a thread's own cannot keep more than 64 MiB.

    A training step of an LSTM at (64, 100, 256, 256) then has no page faults instead of 706, and
    takes 6 % less processor time, for 35 MiB more held; at (32, 1000, 64, 128) it has none instead
    of 2,101, and takes 22 % less, for 250 MiB more, if this is called before JAX starts its
    threads: those that have an arena keep it. A model as small as the demo's gains nothing. What
    it costs elsewhere: one thread at a time is in the arena, so threads that allocate blocks of
    40 kB wait for each other on many cores; on two, malloc takes them a fifth longer
    (`benchmarks/tuning.py`).

    `fit`, `evaluate`, `predict` and their single steps call it for you on a CPU, unless it was
    called with `False` before. `recurrax.scan`, layers and `import recurrax` never do: whoever
    trains with loops of their own calls it, best right after the import, before JAX starts its
    threads. Where glibc is tuned through the environment (`MALLOC_...` or `GLIBC_TUNABLES`) and
    where there is another C library, it does nothing.

    Args:
        on: `False` if nothing of recurrax shall ask; what has been asked for stays.

    Returns:
        Whether glibc does so.
    """
    _state["wanted"] = on
    return on and tuned()


def tune_unless_refused() -> None:
    """What training calls: `tune_memory()`, unless the user has decided."""
    if _state["wanted"] is None:
        tuned()


def tuned() -> bool:
    """Ask, once; whether it was granted."""
    if _state["done"] is None:
        _state["done"] = _ask()
    return bool(_state["done"])


def _ask() -> bool:
    tuned = any(n.startswith("MALLOC_") for n in os.environ) or "GLIBC_TUNABLES" in os.environ
    if tuned or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, KEPT) or mallopt(_M_MMAP_THRESHOLD, _KEPT_BY_OLD)
    others = ((_M_TRIM_THRESHOLD, KEPT), (_M_TOP_PAD, _TOP_PAD), (_M_ARENA_MAX, 1))
    return bool(kept) and all(mallopt(*option) for option in others)
