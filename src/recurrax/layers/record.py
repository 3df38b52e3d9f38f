"""Values that a cell names while it runs, for who looks inside; free when nobody does."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any


class _Context(threading.local):
    found: dict[str, Any] | None = None
    shifts: Mapping[str, Any] | None = None
    prefix: str = ""


_context = _Context()


def record(name: str, value: Any) -> Any:
    """Keep `value` under `name` for an enclosing `recording()`; returns `value`.

    Inside `shifting()`, what was given there for `name` is added.
    """
    if _context.shifts is not None and name in _context.shifts:
        value = value + _context.shifts[name]
    if _context.found is not None:
        _context.found[_context.prefix + name] = value
    return value


def name_of_call(name: str) -> str:
    """What the values of a layer's call are recorded under: "name (2)" for its second call."""
    found, number, title = _context.found or {}, 1, name
    while any(key.startswith(f"{title}/") for key in found):
        number += 1
        title = f"{name} ({number})"
    return title


def is_recording() -> bool:
    return _context.found is not None


@contextlib.contextmanager
def recording() -> Iterator[dict[str, Any]]:
    """Collect what is recorded inside."""
    outer, _context.found = _context.found, {}
    try:
        yield _context.found
    finally:
        _context.found = outer


@contextlib.contextmanager
def shifting(shifts: Mapping[str, Any]) -> Iterator[None]:
    """Add `shifts` to the values recorded under their names: their gradients are the values'."""
    outer, _context.shifts = _context.shifts, shifts
    try:
        yield
    finally:
        _context.shifts = outer


@contextlib.contextmanager
def recorded_under(name: str) -> Iterator[None]:
    """What is recorded inside has `name.` in front: one of several cells in a stack."""
    outer, _context.prefix = _context.prefix, f"{_context.prefix}{name}."
    try:
        yield
    finally:
        _context.prefix = outer
