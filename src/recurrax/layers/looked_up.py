"""Where an embedding's output came from travels with it: a loop over it can look up by itself.

A loop that does its own look-ups multiplies the table, not each row that it takes out of it
(`recurrax.loop.look_ups`).
"""

import weakref
from typing import Any, NamedTuple

from jax import Array


class LookUp(NamedTuple):
    """The rows of `table` that the integers `ids` pick, clipped to the table."""

    table: Array
    ids: Array


_known: dict[int, tuple[weakref.ref, LookUp]] = {}


def note(x: Array, table: Array, ids: Array) -> None:
    """Note that `x` is rows of `table`, picked by `ids`."""
    key = id(x)
    _known[key] = (weakref.ref(x, lambda _: _known.pop(key, None)), LookUp(table, ids))


def look_up_of(x: Any) -> LookUp | None:
    """The look-up that gave `x`, where it is known."""
    found = _known.get(id(x))
    return found[1] if found is not None and found[0]() is x else None
