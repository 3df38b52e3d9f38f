"""What became of the loops of a call, kept for who asks."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.loop import explain


class _Context(threading.local):
    found: dict[str, Any] | None = None


_context = _Context()


@contextlib.contextmanager
def explaining() -> Iterator[dict[str, Any]]:
    """Inside, each recurrent layer that is called leaves an `Explanation` under its name."""
    outer, _context.found = _context.found, {}
    try:
        yield _context.found
    finally:
        _context.found = outer


def keep(layer: Any, step: Any, init: Any, xs: Any, length: int) -> None:
    """Explain the loop over `xs`, (batch, timesteps, ...), that `layer` is about to run.

    Nothing is done unless somebody asks.
    """
    if _context.found is not None:
        xs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), xs)
        _context.found[layer.name] = explain(
            step, init, xs, length, runner=layer.runner, segments=layer.segments
        )
