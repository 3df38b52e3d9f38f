"""Gradients kept from growing too large."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array


def clip(
    grads: list[Any],
    norm: float | None = None,
    value: float | None = None,
    global_norm: float | None = None,
) -> list[Any]:
    """Gradients limited by their own norms, by value, or by the norm of all of them."""

    def scaled(g: Array, limit: float, squares: Array) -> Array:
        return g * limit / jnp.maximum(jnp.sqrt(squares), limit)

    each: Callable[[Array], Array]
    if norm:
        each = lambda g: scaled(g, norm, jnp.sum(jnp.square(g)))  # noqa: E731
    elif value:
        each = lambda g: jnp.clip(g, -value, value)  # noqa: E731
    elif global_norm:
        total = sum(jnp.sum(jnp.square(g)) for g in grads if g is not None)
        each = lambda g: scaled(g, global_norm, jnp.asarray(total))  # noqa: E731
    else:
        return grads
    return [None if g is None else each(g) for g in grads]
