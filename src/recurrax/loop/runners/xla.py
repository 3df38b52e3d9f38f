"""The runner that is always right: `jax.lax.scan`, on every device."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Jaxpr, Var, jaxpr_as_fun

from recurrax.loop import jaxprs
from recurrax.loop.body import Body

_CUTS = {"slice", "split"}


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
    x_vars = body.jaxpr.jaxpr.invars[body.num_consts + body.num_carry :]
    # On the CPU, XLA fuses the reading of x_t into the elementwise work on it. Where that work is
    # then cut into parts (gates), the result is not vectorised; an x_t that the step before has
    # laid down as a carry is plain memory, and twice as fast.
    fetched = [
        length > 0 and jax.default_backend() == "cpu" and _is_cut(body.jaxpr.jaxpr, v)
        for v in x_vars
    ]
    ahead = [x for x, f in zip(xs, fetched, strict=True) if f]
    others = [x for x, f in zip(xs, fetched, strict=True) if not f]

    def scan_step(state, x):
        (carry, first), (coming, rest) = state, x
        first_iter, rest_iter = iter(first), iter(rest)
        x = [next(first_iter if f else rest_iter) for f in fetched]
        outputs = step(*consts, *carry, *x)
        first = [jax.lax.dynamic_index_in_dim(x, coming, keepdims=False) for x in ahead]
        return (outputs[: body.num_carry], first), outputs[body.num_carry :]

    start = [x[length - 1 if reverse else 0] for x in ahead]
    # The step that each step fetches for: the next one; the last fetches for nobody.
    coming = jnp.clip(jnp.arange(length) + (-1 if reverse else 1), 0, length - 1)
    (carry, _), ys = jax.lax.scan(
        scan_step,
        (list(carry), start),
        (coming if ahead else None, others),
        length=length,
        reverse=reverse,
        unroll=unroll,
    )
    return carry, ys


def _is_cut(jaxpr: Jaxpr, x: Var) -> bool:
    """Whether `x`, or elementwise work on it, is cut into parts."""
    reached = {x}
    for eqn in jaxpr.eqns:
        if any(v in reached for v in jaxprs.variables(eqn.invars)):
            if eqn.primitive.name in _CUTS:
                return True
            reached.update(v for v in eqn.outvars if jaxprs.aval(v).shape == jaxprs.aval(x).shape)
    return False


def product(a: Array, w: Array, *, precision=None) -> Array:
    """`(..., k)` times `(k, n)`: inputs and a weight, all time steps together."""
    return jnp.matmul(rows(a), w, precision=precision).reshape(*a.shape[:-1], w.shape[1])


def gather(a: Array, dz: Array, *, precision=None) -> Array:
    """`(..., k)` and `(..., n)` to `(k, n)`: the sum over leading axes of outer products."""
    # The barrier keeps the transpose a transpose: XLA is faster at a plain product.
    return jnp.matmul(jax.lax.optimization_barrier(rows(a).T), rows(dz), precision=precision)


def rows(a: Array) -> Array:
    """`a` with all its leading axes as one."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
