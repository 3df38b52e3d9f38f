"""The runner that is always right: `jax.lax.scan`, on every device.

On the CPU it hands XLA the loop in the form that it runs best; what each form gains was measured
(benchmarks/README.md).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from recurrax.loop import jaxprs
from recurrax.loop.body import Body
from recurrax.loop.compat import Jaxpr, JaxprEqn, Var, jaxpr_as_fun

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
    on_cpu: bool = True,
) -> tuple[list[Array], list[Array]]:
    """Run `body` with `jax.lax.scan`, in the form that suits the CPU if it is to run `on_cpu`."""
    if length > 0 and on_cpu:
        return _run_on_cpu(body, consts, carry, xs, length, reverse, unroll)
    step = jaxpr_as_fun(body.jaxpr)

    def scan_step(carry, x):
        outputs = step(*consts, *carry, *x)
        return outputs[: body.num_carry], outputs[body.num_carry :]

    return lax.scan(scan_step, list(carry), list(xs), length=length, reverse=reverse, unroll=unroll)


def _run_on_cpu(body, consts, carry, xs, length, reverse, unroll):
    """Run `body` with its ys in the place of its xs, where their types agree.

    A fresh stack is filled with zeros before the loop and costs a page fault every 4 KiB; the
    stack of an x that has been read is memory at hand. (XLA copies it once where it is still
    needed afterwards.) So that nothing reads the stack but after the last write to it, or XLA
    would copy all of it at each step, such an x is fetched one step ahead and carried.
    """
    step = _with_turned_weights(body, consts)
    pairs = _pairs(body)
    place_of = {x: y for y, x in pairs.items()}
    x_vars = body.jaxpr.jaxpr.invars[body.num_consts + body.num_carry :]
    # XLA fuses the reading of x_t into the elementwise work on it. Where that work is then cut
    # into parts (gates), the result is not vectorised; an x_t that is carried is plain memory.
    ahead = [i for i, v in enumerate(x_vars) if i in place_of or _is_cut(body.jaxpr.jaxpr, v)]
    others = [i for i in range(len(xs)) if i not in ahead]
    fresh = [i for i in range(body.num_ys) if i not in pairs]

    def at(turn):
        return length - 1 - turn if reverse else turn

    def scan_step(state, rest):
        turn, carry, first, stacks = state
        x = dict(zip(ahead, first, strict=True)) | dict(zip(others, rest, strict=True))
        outputs = step([*carry, *(x[i] for i in range(len(xs)))])
        ys = outputs[body.num_carry :]
        stacks = {
            i: lax.dynamic_update_index_in_dim(
                stack, ys[i], at(turn), 0, allow_negative_indices=False
            )
            for i, stack in stacks.items()
        }
        # The last step fetches for nobody.
        coming = at(jnp.minimum(turn + 1, length - 1))
        first = [
            lax.dynamic_index_in_dim(
                stacks[place_of[i]] if i in place_of else xs[i],
                coming,
                keepdims=False,
                allow_negative_indices=False,
            )
            for i in ahead
        ]
        return (turn + 1, outputs[: body.num_carry], first, stacks), [ys[i] for i in fresh]

    start = [xs[i][length - 1 if reverse else 0] for i in ahead]
    stacks = {y: xs[x] for y, x in pairs.items()}
    (_, carry, _, stacks), ys = lax.scan(
        scan_step,
        (jnp.int32(0), list(carry), start, stacks),
        [xs[i] for i in others],
        length=length,
        reverse=reverse,
        unroll=unroll,
    )
    stacks = stacks | dict(zip(fresh, ys, strict=True))
    return carry, [stacks[i] for i in range(body.num_ys)]


def _pairs(body: Body) -> dict[int, int]:
    """For a y the x whose stack it may take: each x once, of the same type."""
    n = body.num_consts + body.num_carry
    free = {i: jaxprs.strong(a) for i, a in enumerate(body.jaxpr.in_avals[n:])}
    pairs = {}
    for y, out in enumerate(body.jaxpr.out_avals[body.num_carry :]):
        x = next((i for i, a in free.items() if a == jaxprs.strong(out)), None)
        if x is not None:
            pairs[y] = x
            del free[x]
    return pairs


def _with_turned_weights(body: Body, consts: Sequence[Array]) -> Callable[[Sequence[Any]], list]:
    """One step as a function of carry and x; weights that it multiplies transposed lie so.

    XLA's product of a small matrix takes up to twice as long if it has to transpose the weight,
    and it would do so at each step. The barrier keeps the transposed weight in memory.
    """
    jaxpr = body.jaxpr.jaxpr
    weights = dict(zip(jaxpr.invars[: body.num_consts], consts, strict=True))
    transposed = [e for e in jaxpr.eqns if _multiplies_transposed(e, weights)]
    turned = {
        w: lax.optimization_barrier(weights[w].T)
        for w in dict.fromkeys(e.invars[1] for e in transposed)
    }

    def rule(eqn, operands):
        if not any(eqn is e for e in transposed):
            return None
        ((contract_a, _), batch) = eqn.params["dimension_numbers"]
        params = eqn.params | {"dimension_numbers": ((contract_a, (0,)), batch)}
        return [eqn.primitive.bind(operands[0], turned[eqn.invars[1]], **params)]

    def step(arguments):
        return jaxprs.called(body.jaxpr, [*consts, *arguments], rule, inline=())

    return step


def _multiplies_transposed(eqn: JaxprEqn, weights: dict[Var, Array]) -> bool:
    if eqn.primitive.name != "dot_general" or eqn.invars[1] not in weights:
        return False
    (_, contracted), batch = eqn.params["dimension_numbers"]
    return batch == ((), ()) and contracted == (1,) and jaxprs.aval(eqn.invars[1]).ndim == 2


def _is_cut(jaxpr: Jaxpr, x: Var) -> bool:
    """Whether `x`, or elementwise work on it, is cut into parts."""
    reached = {x}
    for eqn in jaxpr.eqns:
        if any(v in reached for v in jaxprs.variables(eqn.invars)):
            if eqn.primitive.name in _CUTS:
                return True
            reached.update(v for v in eqn.outvars if jaxprs.aval(v).shape == jaxprs.aval(x).shape)
    return False


def product(a: Array, w: Array, *, precision=None, transposed: bool = False, **how: Any) -> Array:
    """`(..., k)` times `(k, n)`, or `(n, k)` where `transposed`: inputs and a weight, all time
    steps together. What else is asked for (`plan.product`) is XLA's own affair.
    """
    del how
    w = w.T if transposed else w
    return jnp.matmul(rows(a), w, precision=precision).reshape(*a.shape[:-1], w.shape[1])


def gather(a: Array, dz: Array, start: int, width: int, *, precision=None, **how: Any) -> Array:
    """`(..., k)` and `width` columns of dz from `start` on to `(k, width)`: the sum over leading
    axes of outer products. What else is asked for (`plan.gather`) is XLA's own affair.
    """
    del how
    dz = lax.slice_in_dim(dz, start, start + width, axis=-1)
    # The barrier keeps the transpose a transpose: XLA is faster at a plain product.
    return jnp.matmul(lax.optimization_barrier(rows(a).T), rows(dz), precision=precision)


def add_up(index: Array, dz: Array, *, count: int) -> Array:
    """Integers `(...)` and `(..., n)` to `(count, n)`: row k sums the `dz` whose index is k."""
    return jnp.zeros((count, dz.shape[-1]), dz.dtype).at[index].add(dz, mode="drop")


def rows(a: Array) -> Array:
    """`a` with all its leading axes as one."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
