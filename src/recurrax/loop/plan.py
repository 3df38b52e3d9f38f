"""Plan: which runner runs a body, and why."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.loop import jaxprs
from recurrax.loop.body import Body
from recurrax.loop.runners import xla


def gather(a: Array, dz: Array, *, precision: Any, runner: str | None) -> Array:
    return jnp.matmul(a.T, dz, precision=precision)


def run(body: Body, consts, carry, xs, *, length, reverse, unroll, runner):
    body = Body(jaxprs.inlined(body.jaxpr, derivatives=True), body.num_consts, body.num_carry)
    return xla.run(body, consts, carry, xs, length=length, reverse=reverse, unroll=unroll)
