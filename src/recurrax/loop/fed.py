"""A loop over xs that are products with a weight, held together with them.

`x_t @ W` is made before the loop for all steps at once. As one operation, the loop and those
products have one backward pass (`gradient.py`), in which the gradients of x and W may be made while
the backward loop runs.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax import Array

from recurrax.loop import jaxprs, plan, products, together
from recurrax.loop.body import Body, Multiplied
from recurrax.loop.primitive import depends, loop


@dataclasses.dataclass(frozen=True)
class Fed:
    """The body's x number `x` is what is given for it, times a weight: (k, n), or (n, k)
    where `transposed`."""

    x: int
    transposed: bool
    precision: Any


def run(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    xs: Sequence[Array],
    weights: Sequence[Array],
    feds: Sequence[Fed],
    **how: Any,
) -> tuple[list[Array], list[Array]]:
    """`loop` over `xs`, of which those of `feds` are first multiplied with a weight each."""
    if not feds or body.jaxpr.effects:
        return loop(body, consts, carry, multiplied(xs, weights, feds, how["runner"]), **how)
    outputs = fed_loop_p.bind(
        *consts,
        *carry,
        *xs,
        *weights,
        jaxpr=body.jaxpr,
        num_consts=body.num_consts,
        num_carry=body.num_carry,
        feds=tuple(feds),
        **how,
    )
    return outputs[: body.num_carry], outputs[body.num_carry :]


def multiplied(
    xs: Sequence[Array], weights: Sequence[Array], feds: Sequence[Fed], runner: str | None
) -> list[Array]:
    """What the loop runs over."""
    made = list(xs)
    for fed, w in zip(feds, weights, strict=True):
        w = w.T if fed.transposed else w
        made[fed.x] = products.product(xs[fed.x], w, precision=fed.precision, runner=runner)
    return made


def _in_parts(*args, jaxpr, num_consts, num_carry, feds, **how) -> list[Array]:
    body = Body(jaxpr, num_consts, num_carry)
    m, n = num_consts, num_consts + num_carry
    end = n + body.num_xs
    xs = multiplied(args[n:end], args[end:], feds, how["runner"])
    last, ys = loop(body, args[:m], args[m:n], xs, **how)
    return [*last, *ys]


def leaders(body: Body, feds: Sequence[Fed]) -> list[Multiplied]:
    """The products as what leads the loop, with the weights as its other arrays."""
    first = body.num_xs + body.num_ys
    return [Multiplied(f.x, first + k, f.transposed, f.precision) for k, f in enumerate(feds)]


def _at_once(
    *args, jaxpr, num_consts, num_carry, feds, length, reverse, unroll, runner
) -> list[Array] | None:
    del unroll
    body = Body(jaxpr, num_consts, num_carry)
    m, n = num_consts, body.first_x
    end = n + body.num_xs
    arrays = args[:m], args[m:n], args[n:end], args[end:]
    where = {"length": length, "reverse": reverse, "runner": runner}
    return plan.run_accompanied(body, *arrays, leaders(body, feds), (), **where)


def _abstract_eval(*_, jaxpr, num_carry, length, **params):
    del params
    avals = [jaxprs.strong(a) for a in jaxpr.out_avals]
    return [*avals[:num_carry], *jaxprs.stacked(avals[num_carry:], length)]


def _batched(given, *, jaxpr, num_consts, num_carry, feds, **params):
    del params
    marks, by_weight = list(given[: len(jaxpr.in_avals)]), given[len(jaxpr.in_avals) :]
    for fed, mark in zip(feds, by_weight, strict=True):
        marks[num_consts + num_carry + fed.x] |= mark
    return depends(jaxpr.jaxpr, marks, num_consts, num_carry)[1]


fed_loop_p = together.primitive("fed_loop", _in_parts, _at_once, _abstract_eval, _batched)
