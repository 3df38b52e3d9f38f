"""Segments: a long loop whose backward pass keeps little.

The loop is cut into segments, each run as a loop of its own. Only the carries at their borders are
kept; in the backward pass a segment is run again, forward and then back (Chen et al. 2016,
"Training Deep Nets with Sublinear Memory Cost"). With √T segments of √T steps what is kept grows
with √T, for about a third more time.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def count(segments: int | str, length: int) -> int:
    """How many segments to cut `length` steps into: `segments`, or √length for "auto".

    Raises:
        ValueError: `segments` is neither "auto" nor a number from 1 to `length`.
    """
    if segments == "auto":
        return max(1, math.isqrt(length))
    if not isinstance(segments, int) or isinstance(segments, bool) or segments < 1:
        raise ValueError(
            f'scan expects segments="auto" or a positive int, got segments={segments!r}.'
        )
    if segments > max(1, length):
        raise ValueError(
            f"scan cannot cut {length} steps into segments={segments}; "
            f'use segments="auto" or at most {length}.'
        )
    return segments


def run(
    segment: Callable[[Any, Any, int], tuple[Any, Any]],
    init: Any,
    xs: Any,
    *,
    length: int,
    segments: int,
    reverse: bool,
) -> tuple[Any, Any]:
    """Run `segment(carry, xs, length)` over `xs` cut into `segments` parts of one size.

    Where the size does not divide `length`, a shorter segment follows the last one (in time; it
    runs first where `reverse`).
    """
    size = length // segments
    whole = size * segments
    again = jax.checkpoint(segment, static_argnums=2, prevent_cse=False)

    def many(carry):
        cut = jax.tree.map(lambda x: x[:whole].reshape(segments, size, *x.shape[1:]), xs)
        carry, ys = jax.lax.scan(
            lambda carry, xs: again(carry, xs, size), carry, cut, length=segments, reverse=reverse
        )
        return carry, jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)

    def rest(carry):
        return jax.checkpoint(segment, static_argnums=2)(
            carry, jax.tree.map(lambda x: x[whole:], xs), length - whole
        )

    if whole == length:
        return many(init)
    if reverse:
        carry, last = rest(init)
        carry, first = many(carry)
    else:
        carry, first = many(init)
        carry, last = rest(carry)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)
