"""Masks travel with the array they belong to, since neither arrays nor tracers take attributes."""

import contextlib
import weakref
from typing import Any

from recurrax.layers.graph import is_symbolic

_masks: dict[int, tuple[weakref.ref, Any]] = {}


def set_mask(x: Any, mask: Any) -> None:
    """Attach `mask`, boolean of shape (batch, timesteps), to the array `x`; None takes it off."""
    key = id(x)
    if mask is None:
        _masks.pop(key, None)
    else:
        _masks[key] = (weakref.ref(x, lambda _: _masks.pop(key, None)), mask)
        with contextlib.suppress(AttributeError):
            x._keras_mask = mask  # what Keras's guide to masking prints


def get_mask(x: Any) -> Any:
    """The mask attached to `x`, or None."""
    found = _masks.get(id(x))
    if found is not None and found[0]() is x:
        return found[1]
    return x._keras_mask if is_symbolic(x) else None
