"""The runner that is always right: `jax.lax.scan`, on every device."""

from collections.abc import Sequence

import jax
from jax import Array
from jax.extend.core import jaxpr_as_fun

from recurrax.loop.body import Body


def run(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    xs: Sequence[Array],
    *,
    length: int,
    reverse: bool,
    unroll: int | bool = 1,
) -> tuple[list[Array], list[Array]]:
    """Run `body` with `jax.lax.scan`."""
    step = jaxpr_as_fun(body.jaxpr)

    def scan_step(carry, x):
        outputs = step(*consts, *carry, *x)
        return outputs[: body.num_carry], outputs[body.num_carry :]

    carry, ys = jax.lax.scan(
        scan_step, list(carry), list(xs), length=length, reverse=reverse, unroll=unroll
    )
    return carry, ys
