"""`scan`: the one entrance to the loop."""

from collections.abc import Callable
from typing import Any

import jax


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Run `f(carry, x) -> (carry, y)` over the leading axis of `xs`, as `jax.lax.scan` does.

    Args:
        f: one step. The carry it returns has the structure, shapes and dtypes of `init`.
        init: the carry before the first step, a pytree of arrays.
        xs: a pytree of arrays of shape `(length, ...)`, or None with `length` given.
        length: number of steps; needed only when `xs` holds no array.
        reverse: run from the last step to the first; `ys` stays in the order of `xs`.
        unroll: steps laid out one after another in one turn of the compiled loop.

    Returns:
        The carry after the last step, and the `y` of every step stacked to `(length, ...)`.
    """
    return jax.lax.scan(f, init, xs, length=length, reverse=reverse, unroll=unroll)
