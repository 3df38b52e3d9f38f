"""States handed to recurrent layers from outside the call, and handed out again after it."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class _Context(threading.local):
    states: dict[int, list[Any]] | None = None


_context = _Context()


@contextlib.contextmanager
def carrying(states: dict[int, list[Any]]) -> Iterator[None]:
    """Inside, recurrent layers begin with `states` (by the layer's id) and leave their last there.

    Such a call is one step of something longer, so it is run without a loop.
    """
    outer, _context.states = _context.states, states
    try:
        yield
    finally:
        _context.states = outer


def is_carrying() -> bool:
    return _context.states is not None


def carried(layer: Any) -> list[Any] | None:
    """The states that `layer` is to begin with; None where nothing is carried."""
    return None if _context.states is None else _context.states[id(layer)]


def carry(layer: Any, states: list[Any]) -> None:
    """Hand out the last states of `layer`."""
    assert _context.states is not None
    _context.states[id(layer)] = states
