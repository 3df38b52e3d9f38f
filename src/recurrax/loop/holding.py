"""What a compiled program needs in memory as long as it may run, besides its own code."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

_now = threading.local()
_for_ever: set[Any] = set()


@contextlib.contextmanager
def collected() -> Iterator[list[Any]]:
    """Collects what is held inside, for who can keep it as long as the program."""
    before = getattr(_now, "held", None)
    _now.held = found = []
    try:
        yield found
    finally:
        _now.held = before


def hold(needed: Any) -> None:
    """Let the program that is being lowered hold on to `needed`; where there is none, for ever."""
    held = getattr(_now, "held", None)
    if held is None:
        _for_ever.add(needed)
    else:
        held.append(needed)
