"""States handed to recurrent layers from outside the call, and handed out again after it."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class _Context(threading.local):
    def __init__(self) -> None:
        self.states: dict[int, list[Any]] | None = None
        self.begun: set[int] = set()


_context = _Context()


@contextlib.contextmanager
def carrying(states: dict[int, list[Any]]) -> Iterator[None]:
    """Inside, recurrent layers begin with `states` (by the layer's id) and leave their last there.

    Such a call is one step of something longer, so it is run without a loop.
    """
    outer, begun = _context.states, _context.begun
    _context.states, _context.begun = states, set()
    try:
        yield
    finally:
        _context.states, _context.begun = outer, begun


def is_carrying() -> bool:
    return _context.states is not None


def carried(layer: Any) -> list[Any] | None:
    """The states that `layer` is to begin with; None where nothing is carried.

    Raises:
        ValueError: the layer has begun with them before, in the same step.
    """
    if _context.states is None:
        return None
    if id(layer) in _context.begun:
        raise ValueError(
            f"Layer {layer.name!r} is called more than once in its model, which so cannot go "
            "forward step by step: a layer has the states of one sequence. Give each call a layer "
            "of its own, with the same weights: layer.set_weights(other.get_weights())."
        )
    _context.begun.add(id(layer))
    return _context.states[id(layer)]


def carry(layer: Any, states: list[Any]) -> None:
    """Hand out the last states of `layer`."""
    assert _context.states is not None
    _context.states[id(layer)] = states
