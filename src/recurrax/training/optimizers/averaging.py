"""Moving averages of variables."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array


def averaged(
    values: list[Any], averages: Sequence[Array], updates: Any, momentum: float, every: int | None
) -> tuple[list[Any], list[Array]]:
    """The values, and their averages with them.

    Args:
        values: of the variables, after an update.
        averages: before it.
        updates: how many updates there were before it; the averages begin with the first.
        momentum: what share of the averages stays.
        every: after so many updates the values become their averages; None: they never do.
    """
    kept = jnp.where(updates == 0, 0.0, momentum)
    averages = [
        (kept * a + (1 - kept) * v).astype(a.dtype) for a, v in zip(averages, values, strict=True)
    ]
    if every:
        now = (updates + 1) % every == 0
        values = [jnp.where(now, a, v) for a, v in zip(averages, values, strict=True)]
    return values, averages
