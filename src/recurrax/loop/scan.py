"""`scan`: the one entrance to the loop."""

from collections.abc import Callable
from typing import Any

import jax

from recurrax.loop import gradient as _gradient  # noqa: F401 (gives the loop its derivative)
from recurrax.loop import split, step
from recurrax.loop.primitive import loop


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    runner: str | None = None,
    segments: int | str | None = None,
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
    if runner == "lax":
        return jax.lax.scan(f, init, xs, length=length, reverse=reverse, unroll=unroll)
    traced = step.trace(f, init, xs, length)

    def run(body, consts, carry, xs):
        return loop(
            body,
            consts,
            carry,
            xs,
            length=traced.length,
            reverse=reverse,
            unroll=unroll,
            runner=runner,
        )

    carry, ys = split.run(
        split.split(traced.body),
        traced.consts,
        traced.init,
        traced.xs,
        length=traced.length,
        runner=runner,
        loop=run,
    )
    return jax.tree.unflatten(traced.carry_tree, carry), jax.tree.unflatten(traced.y_tree, ys)
