"""The net under the compiler: a loop that a pass fails on is `jax.lax.scan`'s.

A warning says so. `RECURRAX_STRICT=1` raises what failed instead, for those who mend it.
"""

import os
import threading
import traceback
import warnings
from collections.abc import Callable, Hashable
from typing import TypeVar

STRICT = "RECURRAX_STRICT"
BY_LAX = "by jax.lax.scan"

Error = TypeVar("Error", bound=Exception)
Result = TypeVar("Result")

_MARK = "_recurrax_stated"
_said: set[Hashable] = set()
_lock = threading.Lock()


def stated(error: Error) -> Error:
    """`error`, marked as meant for the caller: it passes through the net.

    What is said of wrong arguments is such an error, and what the caller's own function raises.
    """
    setattr(error, _MARK, True)
    return error


def guarded(
    attempt: Callable[[], Result], instead: Callable[[], Result], what: str, by: str
) -> Result:
    """`attempt()`; where it fails, `instead()` and a warning that doing `what` failed.

    Args:
        attempt: passes of the compiler.
        instead: the same by plainer means. An error of the caller's comes again from here.
        what: is done, in words for people.
        by: which means those are, in words for people.
    """
    if os.environ.get(STRICT, "0") not in ("", "0"):
        return attempt()
    try:
        return attempt()
    except Exception as error:
        if hasattr(error, _MARK):
            raise
        failure = f"{what} failed with {type(error).__name__}: {error}"
        place = type(error), _innermost(error)
    found = instead()
    _warn(failure, by, place)
    return found


def _innermost(error: Exception) -> Hashable:
    """The line that an error comes from: its text may hold numbers that are new each time."""
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    return frame.f_code, line


def _warn(failure: str, by: str, place: Hashable) -> None:
    with _lock:
        if place in _said:
            return
        _said.add(place)
    warnings.warn(
        f"recurrax: {failure}. It is done {by} instead, with the same results. This is a fault of "
        "recurrax: please report it, with the traceback that the program gives where the "
        f"environment has {STRICT}=1.",
        RuntimeWarning,
        stacklevel=3,
    )
