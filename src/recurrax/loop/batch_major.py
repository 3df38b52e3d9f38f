"""A whole recurrence as one JAX primitive, over arrays that begin with (batch, time).

Layers hold their sequences so; loops run over time first. Until a program is compiled, the
transposes, the work before the loop, the loop and the work after it are one operation, so that a
runner may take all of it and read and write such arrays where they lie. Differentiated or batched,
it is its parts.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from recurrax.loop import jaxprs, look_ups, plan, split, together
from recurrax.loop.body import Body, Feed
from recurrax.loop.compat import Literal, Var
from recurrax.loop.primitive import depends
from recurrax.loop.step import Step

_Product = tuple[Var, Var | None, bool]


def swapped(x: Any) -> Any:
    """(batch, time, ...) as (time, batch, ...) or the other way round; (time,) stays."""
    return jnp.swapaxes(x, 0, 1) if jnp.ndim(x) > 1 else x


def suits(traced: Step, arrays: Sequence[Array], runner: str | None) -> bool:
    """Whether it pays to hold a loop over `arrays` together until it is compiled."""
    sizes = [n for a in (*arrays, *traced.init) for n in jnp.shape(a)]
    return (
        runner in (None, "native")
        and not traced.body.jaxpr.effects
        and all(isinstance(n, int) for n in sizes)
        and any(isinstance(a, Tracer) for a in (*traced.consts, *traced.init, *arrays))
        and _feeds(_parts(traced.body, traced.length)) is not None
    )


def run(
    traced: Step,
    arrays: Sequence[Array],
    *,
    reverse: bool,
    unroll: int | bool,
    runner: str | None,
) -> tuple[list[Any], list[Any]]:
    """Run `traced` over `arrays`, (batch, time, ...) each; ys come back so too."""
    outputs = batch_major_p.bind(
        *traced.consts,
        *traced.init,
        *arrays,
        jaxpr=traced.body.jaxpr,
        num_consts=traced.body.num_consts,
        num_carry=traced.body.num_carry,
        length=traced.length,
        reverse=reverse,
        unroll=unroll,
        runner=runner,
    )
    return outputs[: traced.body.num_carry], outputs[traced.body.num_carry :]


@functools.lru_cache(maxsize=256)
def _parts(body: Body, length: int) -> split.Split:
    return split.split(look_ups.worked_ahead(body, length))


def _feeds(parts: split.Split) -> list[_Product] | None:
    """Which x each x of the core is, and the weight it is multiplied with.

    None where there is other work before the loop, or any after it.
    """
    if parts.ahead.jaxpr.eqns or parts.after.jaxpr.eqns:
        return None
    jaxpr = parts.step.jaxpr.jaxpr
    first_x = parts.step.num_consts + parts.step.num_carry
    found: dict[Var, _Product] = {x: (x, None, False) for x in jaxpr.invars[first_x:]}
    for made, fold in parts.feeds.items():
        if jaxprs.aval(fold.x).ndim != 2:
            return None
        found[made] = (fold.x, fold.weight, fold.transposed)
    made = set(parts.core_ys)
    ys = jaxpr.outvars[parts.step.num_carry :]
    if any(isinstance(y, Literal) or y not in made for y in ys):
        return None
    return [found[x] for x in parts.core_xs] or None


def _in_parts(*args, jaxpr, num_consts, num_carry, length, reverse, unroll, runner) -> list[Any]:
    """The recurrence as what it consists of."""
    n = num_consts + num_carry
    carry, ys = split.run(
        _parts(Body(jaxpr, num_consts, num_carry), length),
        args[:num_consts],
        args[num_consts:n],
        [swapped(x) for x in args[n:]],
        length=length,
        reverse=reverse,
        unroll=unroll,
        runner=runner,
        batch_major=True,
    )
    return [*carry, *(swapped(y) for y in ys)]


def _as_a_whole(*args, jaxpr, num_consts, num_carry, length, reverse, unroll, runner, machine):
    """The recurrence run by one kernel, or None where no runner has one for it."""
    del unroll
    parts = _parts(Body(jaxpr, num_consts, num_carry), length)
    feeds = _feeds(parts)
    if feeds is None:
        return None
    n = num_consts + num_carry
    env = split.begun(parts, args[:num_consts], args[num_consts:n], args[n:])
    found = plan.run_batch_major(
        parts.core,
        [env[v] for v in parts.core_consts],
        [args[num_consts + i] for i in parts.core_carry],
        [Feed(env[x], None if w is None else env[w], turned) for x, w, turned in feeds],
        length=length,
        reverse=reverse,
        runner=runner,
        machine=machine,
    )
    if found is None:
        return None
    last, ys = found
    carry = list(args[num_consts:n])
    for i, c in zip(parts.core_carry, last, strict=True):
        carry[i] = c
    env.update(zip(parts.core_ys, ys, strict=True))
    return [*carry, *(env[y] for y in parts.step.jaxpr.jaxpr.outvars[num_carry:])]


def _abstract_eval(*_, jaxpr, num_carry, length, **params):
    del params
    avals = [jaxprs.strong(a) for a in jaxpr.out_avals]
    ys = jaxprs.stacked(avals[num_carry:], length)
    return [*avals[:num_carry], *(a.update(shape=(*a.shape[1::-1], *a.shape[2:])) for a in ys)]


def _batched(given, *, jaxpr, num_consts, num_carry, **params):
    del params
    return depends(jaxpr.jaxpr, given, num_consts, num_carry)[1]


batch_major_p = together.primitive(
    "loop_batch_major", _in_parts, _as_a_whole, _abstract_eval, _batched
)
