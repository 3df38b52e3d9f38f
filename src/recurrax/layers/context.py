"""Where in a nest of calls this thread is: how deep, and whether in training."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from recurrax.variable import autocast, name_scope


class _Context(threading.local):
    depth = 0
    training: bool | None = None


_context = _Context()
_settings = [0]


def depth() -> int:
    """How many calls of layers enclose this point."""
    return _context.depth


def training() -> bool | None:
    """The `training` of the enclosing call, None outside of any."""
    return _context.training


def settings() -> int:
    """Grows whenever a setting of a built layer changes."""
    return _settings[0]


def settings_changed() -> None:
    """What was compiled for a layer's earlier settings is not used again."""
    if _context.depth == 0:
        _settings[0] += 1


@contextlib.contextmanager
def entered(layer: Any, training: bool) -> Iterator[None]:
    """Inside, `layer.call` runs."""
    outer = _context.training
    _context.depth, _context.training = _context.depth + 1, training
    try:
        policy = layer.dtype_policy
        mixed = policy.compute_dtype != policy.variable_dtype
        with name_scope(layer.name), autocast(policy.compute_dtype if mixed else None):
            yield
    finally:
        _context.depth, _context.training = _context.depth - 1, outer
