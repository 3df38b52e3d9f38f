"""Products and sums of all steps together where XLA divides arrays over several devices.

To lay time and rows flat is to lose how the rows are divided: XLA would gather all of them on each
device first. Here the axes stay as they are.
"""

from typing import Any

from jax import Array, lax

from recurrax.loop.runners import xla


def product(a: Array, w: Array, *, precision=None, transposed: bool = False, **how: Any) -> Array:
    """`(..., k)` times `(k, n)`, or `(n, k)` where `transposed`; as `xla.product`."""
    del how
    sides = ((a.ndim - 1,), (1 if transposed else 0,))
    return lax.dot_general(a, w, (sides, ((), ())), precision=precision)


def gather(a: Array, dz: Array, start: int, width: int, *, precision=None, **how: Any) -> Array:
    """`(..., k)` and `width` columns of dz from `start` on to `(k, width)`; as `xla.gather`."""
    del how
    dz = lax.slice_in_dim(dz, start, start + width, axis=-1)
    leading = tuple(range(a.ndim - 1))
    return lax.dot_general(a, dz, ((leading, leading), ((), ())), precision=precision)


add_up = xla.add_up
