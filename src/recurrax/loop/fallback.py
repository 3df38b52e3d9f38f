"""The net under the compiler: a loop that a pass fails on is `jax.lax.scan`'s.

A warning says so. `RECURRAX_STRICT=1` raises what failed instead, for those who mend it.
"""

import os
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

STRICT = "RECURRAX_STRICT"

Error = TypeVar("Error", bound=Exception)
Result = TypeVar("Result")

_MARK = "_recurrax_stated"
_said: set[str] = set()
_lock = threading.Lock()


def stated(error: Error) -> Error:
    """`error`, marked as meant for the caller: it passes through the net.

    What is said of wrong arguments is such an error, and what the caller's own function raises.
    """
    setattr(error, _MARK, True)
    return error


def guarded(attempt: Callable[[], Result], instead: Callable[[], Result], what: str) -> Result:
    """`attempt()`; where it fails, `instead()` and a warning that doing `what` failed.

    Args:
        attempt: passes of the compiler.
        instead: the same by means of JAX alone. An error of the caller's comes again from here.
        what: is done, in words for people.
    """
    if os.environ.get(STRICT, "0") not in ("", "0"):
        return attempt()
    try:
        return attempt()
    except Exception as error:
        if hasattr(error, _MARK):
            raise
        failure = f"{what} failed with {type(error).__name__}: {error}"
    found = instead()
    _warn(failure)
    return found


def _warn(failure: str) -> None:
    with _lock:
        if failure in _said:
            return
        _said.add(failure)
    warnings.warn(
        f"recurrax: {failure}. The loop runs by jax.lax.scan instead, with the same results. This "
        "is a fault of recurrax: please report it, with the traceback that the program gives "
        f"where the environment has {STRICT}=1.",
        RuntimeWarning,
        stacklevel=3,
    )
