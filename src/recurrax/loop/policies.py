"""Policies: what a loop keeps and does again under `jax.checkpoint(policy=...)` around it.

What the policy saves of each step, values with a name for example, leaves the first loop as further
ys; the loop that is done again for the backward pass reads them in the place of the work that made
them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from recurrax.loop import compat, jaxprs
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, JaxprEqn, Literal, Var
from recurrax.loop.fed import fed_loop_p
from recurrax.loop.primitive import loop_p

Divided = tuple[JaxprEqn | None, JaxprEqn | None, list[bool], list[bool], list[Var]]


def _divided(
    saveable: Callable[..., Any], unknown: Sequence[bool], at_hand: Sequence[bool], eqn: JaxprEqn
) -> Divided:
    """The first loop and the one done again; which results are unknown, and made again; what is
    kept."""
    pairs = zip(eqn.invars, at_hand, strict=True)
    new = [v for v, here in pairs if not here and not isinstance(v, Literal)]
    every, none = [True] * len(eqn.outvars), [False] * len(eqn.outvars)
    if any(unknown):
        return None, eqn, every, every, new
    params = dict(eqn.params)
    body = Body(params["jaxpr"], params["num_consts"], params["num_carry"])
    m, num_seen = body.num_carry, len(params.get("seen", ()))
    asked = [True] * m + [False] * body.num_ys
    first, again, made, num_kept = compat.divided_by_policy(body.jaxpr.jaxpr, asked, saveable)
    if num_kept == 0 and all(made):
        return eqn, eqn, none, every, new
    stacks = jaxprs.stacked([v.aval for v in again.invars[:num_kept]], params["length"])
    kept = [Var(aval) for aval in stacks]
    seen = len(eqn.outvars) - num_seen
    params["jaxpr"] = ClosedJaxpr(first, body.jaxpr.consts)
    outvars = [*eqn.outvars[:seen], *kept, *eqn.outvars[seen:]]
    known = eqn.replace(params=params, outvars=outvars)
    if not any(made[m:]) and not num_seen:  # the last carry is kept too: it is that of one step
        return known, None, none, none, []

    again = compat.replaced(again, invars=[*again.invars[num_kept:], *again.invars[:num_kept]])
    closed = jaxprs.without_dead_code(ClosedJaxpr(again, body.jaxpr.consts))
    number = {k: k for k in range(body.num_xs)}
    after = (k for k, is_made in enumerate(made[m:]) if is_made)
    number |= {body.num_xs + k: body.num_xs + num_kept + i for i, k in enumerate(after)}
    swapped = tuple(number[k] for k in params["swapped"] if k in number)
    end = len(body.jaxpr.in_avals)
    made = [*made, *[True] * num_seen]
    staged = eqn.replace(
        params={**params, "jaxpr": closed, "swapped": swapped},
        invars=[*eqn.invars[:end], *kept, *eqn.invars[end:]],
        outvars=[v for v, is_made in zip(eqn.outvars, made, strict=True) if is_made],
    )
    return known, staged, none, made, [*new, *kept]


def _without_unread(used: Sequence[bool], eqn: JaxprEqn) -> tuple[list[bool], JaxprEqn | None]:
    """Which arguments the loop reads if only the results `used` are read, and that loop.

    A loop that is divided writes some ys for nobody.
    """
    if not any(used) and not eqn.effects:
        return [False] * len(eqn.invars), None
    params = dict(eqn.params)
    m, num_seen = params["num_carry"], len(params.get("seen", ()))
    end = len(eqn.outvars) - num_seen
    read = [True] * m + list(used[m:end])
    num_xs = Body(params["jaxpr"], params["num_consts"], m).num_xs
    number = {k: k for k in range(num_xs)}
    number |= {num_xs + k: num_xs + sum(read[m : m + k]) for k in range(end - m) if read[m + k]}
    params["swapped"] = tuple(number[k] for k in params["swapped"] if k in number)
    params["jaxpr"] = _with_outputs(params["jaxpr"], tuple(read))
    every = zip(eqn.outvars, [*read, *[True] * num_seen], strict=True)
    outvars = [v for v, is_read in every if is_read]
    return [True] * len(eqn.invars), eqn.replace(params=params, outvars=outvars)


@functools.lru_cache(maxsize=256)
def _with_outputs(closed: ClosedJaxpr, read: tuple[bool, ...]) -> ClosedJaxpr:
    if all(read):
        return closed
    outvars = [v for v, is_read in zip(closed.jaxpr.outvars, read, strict=True) if is_read]
    fewer = compat.replaced(closed.jaxpr, outvars=outvars)
    return jaxprs.without_dead_code(ClosedJaxpr(fewer, closed.consts))


for _primitive in (loop_p, fed_loop_p):
    compat.define_policy_rule(_primitive, _divided)
    compat.define_dce(_primitive, _without_unread)
