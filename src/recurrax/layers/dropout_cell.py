"""Dropout inside a recurrent cell: one mask for all steps of a loop."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


class _Context(threading.local):
    keeping = False


_context = _Context()


class DropoutRNNCell:
    """Mixed into a cell, gives it masks that are the same at every step of a loop.

    The cell has attributes `dropout` and `recurrent_dropout`, the shares to drop, and
    `seed_generator`; it may have `dropout_mask_count`, for lists of so many masks. In training its
    `call` multiplies its input and state by the masks. Outside of a loop, a step called on its own
    draws its own masks.
    """

    dropout: Any = 0.0
    recurrent_dropout: Any = 0.0
    dropout_mask_count: int | None = None
    seed_generator: Any
    _dropout_mask: Any = None
    _recurrent_dropout_mask: Any = None

    def get_dropout_mask(self, step_input: Array | jax.ShapeDtypeStruct) -> Any:
        """The mask of the input, of its shape; None where nothing is dropped."""
        return self._mask("_dropout_mask", step_input, self.dropout)

    def get_recurrent_dropout_mask(self, step_input: Array | jax.ShapeDtypeStruct) -> Any:
        """The mask of the state, of its shape; None where nothing is dropped."""
        return self._mask("_recurrent_dropout_mask", step_input, self.recurrent_dropout)

    def reset_dropout_mask(self) -> None:
        """Forget the mask of the input."""
        self._dropout_mask = None

    def reset_recurrent_dropout_mask(self) -> None:
        """Forget the mask of the state."""
        self._recurrent_dropout_mask = None

    def _mask(self, kept_as: str, like: Array | jax.ShapeDtypeStruct, rate: float) -> Any:
        mask = getattr(self, kept_as)
        if mask is None and rate > 0:
            count = self.dropout_mask_count
            drawn = [self._draw(like, rate) for _ in range(count or 1)]
            mask = drawn[0] if count is None else drawn
            if _context.keeping:
                setattr(self, kept_as, mask)
        return mask

    def _draw(self, like: Array | jax.ShapeDtypeStruct, rate: float) -> Array:
        kept = jax.random.bernoulli(self.seed_generator.next(), 1 - rate, like.shape)
        scale = 1 / (1 - rate) if rate < 1 else 0.0
        return jnp.where(kept, scale, 0.0).astype(like.dtype)


@contextlib.contextmanager
def keeping_masks(cells: list[DropoutRNNCell]) -> Iterator[None]:
    """Inside, a mask once drawn is used again; afterwards all masks are forgotten."""
    outer, _context.keeping = _context.keeping, True
    try:
        yield
    finally:
        _context.keeping = outer
        for cell in cells:
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()


def draw_again(cells: list[DropoutRNNCell]) -> None:
    """Draw anew the masks that a trace left behind, outside of it."""
    for cell in cells:
        for kept_as, rate in (
            ("_dropout_mask", cell.dropout),
            ("_recurrent_dropout_mask", cell.recurrent_dropout),
        ):
            traced = jax.tree.leaves(getattr(cell, kept_as))
            setattr(cell, kept_as, None)
            if traced:
                like = jax.ShapeDtypeStruct(traced[0].shape, traced[0].dtype)
                cell._mask(kept_as, like, rate)  # pyright: ignore[reportArgumentType]
