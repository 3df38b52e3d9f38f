"""A loop over xs that are products with a weight, held together with them.

`x_t @ W` is made before the loop for all steps at once. As one operation, the loop and those
products have one backward pass (`gradient.py`), in which the gradients of x and W may be made while
the backward loop runs.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array

from recurrax.loop import jaxprs, plan, products, together
from recurrax.loop.body import Body, Multiplied, Products
from recurrax.loop.compat import JaxprEqn
from recurrax.loop.jaxprs import Atom
from recurrax.loop.machine import Machine
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
    seen: tuple[int, ...] = (),
    **how: Any,
) -> tuple[list[Array], list[Array], list[Array]]:
    """`loop` over `xs`, of which those of `feds` are first multiplied with a weight each.

    Returns:
        The last carry, the ys, and the products of the feds `seen`.
    """
    if not feds:
        return *loop(body, consts, carry, xs, **how), []
    if body.jaxpr.effects:
        apart = [True] * len(feds)
        return _after_some(apart, body, consts, carry, xs, weights, feds, seen, **how)
    outputs = fed_loop_p.bind(
        *consts,
        *carry,
        *xs,
        *weights,
        jaxpr=body.jaxpr,
        num_consts=body.num_consts,
        num_carry=body.num_carry,
        feds=tuple(feds),
        seen=seen,
        **how,
    )
    m, n = body.num_carry, body.num_carry + body.num_ys
    return outputs[:m], outputs[m:n], outputs[n:]


def _after_some(
    apart: Sequence[bool],
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    xs: Sequence[Array],
    weights: Sequence[Array],
    feds: Sequence[Fed],
    seen: Sequence[int],
    *,
    swapped: tuple[int, ...],
    machine: Machine | None = None,
    **how: Any,
) -> tuple[list[Array], list[Array], list[Array]]:
    """The same, with some of the products made `apart` from the loop, before it."""
    xs, left = list(xs), []
    for fed, w, is_apart in zip(feds, weights, apart, strict=True):
        if is_apart:
            by = {"precision": fed.precision, "runner": how["runner"]}
            if machine is not None:  # lowered
                by |= {"transposed": fed.transposed, "swapped": fed.x in swapped}
                by |= {"machine": machine}
                xs[fed.x] = plan.product(xs[fed.x], w, **by)
            else:
                xs[fed.x] = products.product(xs[fed.x], w.T if fed.transposed else w, **by)
        else:
            left.append((fed, w))
    swapped = apart_from(swapped, list(itertools.compress(feds, apart)))
    feds_left, weights_left = [f for f, _ in left], [w for _, w in left]
    still_seen = [feds[k] for k in seen if not apart[k]]
    again = tuple(feds_left.index(f) for f in still_seen)
    given = consts, carry, xs, weights_left, feds_left, again
    last, ys, made = run(body, *given, swapped=swapped, **how)
    found = {f.x: product for f, product in zip(still_seen, made, strict=True)}
    return last, ys, [found.get(feds[k].x, xs[feds[k].x]) for k in seen]


def apart_from(swapped: tuple[int, ...], feds: Sequence[Fed]) -> tuple[int, ...]:
    """The swapped stacks that are none of what is multiplied: products are not swapped."""
    return tuple(k for k in swapped if all(f.x != k for f in feds))


def opened(body: Body) -> Body:
    """`body` with products apart that feed loops inside it, where no carry of `body` reaches them.

    So they may move out of it, and need not be made again at every step.
    """
    jaxpr = body.jaxpr.jaxpr
    if not any(eqn.primitive is fed_loop_p for eqn in jaxpr.eqns):
        return body
    carry = zip(jaxpr.invars[body.num_consts : body.first_x], jaxpr.outvars, strict=False)
    reached = {v for v, after in carry if v is not after}

    def is_reached(atoms: Sequence[Atom]) -> bool:
        return any(v in reached for v in jaxprs.variables(atoms))

    def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
        if not is_reached(eqn.invars):
            return None
        reached.update(eqn.outvars)
        return _apart(eqn, operands, is_reached) if eqn.primitive is fed_loop_p else None

    def flat(*args: Any) -> list[Any]:
        return jaxprs.called(body.jaxpr, args, rule, inline=())

    closed = jax.make_jaxpr(flat)(*body.jaxpr.in_avals)
    return Body(closed, body.num_consts, body.num_carry)


def _apart(
    eqn: JaxprEqn, operands: Sequence[Any], is_reached: Callable[[Sequence[Atom]], bool]
) -> list[Any]:
    """A loop after those of its products that are not reached."""
    how = dict(eqn.params)
    body = Body(how.pop("jaxpr"), how.pop("num_consts"), how.pop("num_carry"))
    feds, seen = how.pop("feds"), how.pop("seen")
    *_, x_atoms, weight_atoms = body.shared_out(eqn.invars)
    consts, carry, xs, weights = body.shared_out(operands)
    still = [not is_reached([x_atoms[f.x], w]) for f, w in zip(feds, weight_atoms, strict=True)]
    last, ys, made = _after_some(still, body, consts, carry, xs, weights, feds, seen, **how)
    return [*last, *ys, *made]


def _in_parts(*args, jaxpr, num_consts, num_carry, feds, seen, **how) -> list[Array]:
    body = Body(jaxpr, num_consts, num_carry)
    consts, carry, xs, weights = body.shared_out(args)
    # Where some are seen, the others may still be held together with the loop.
    apart = [k in seen or not seen for k in range(len(feds))]
    last, ys, made = _after_some(apart, body, consts, carry, xs, weights, feds, seen, **how)
    return [*last, *ys, *made]


def leaders(body: Body, feds: Sequence[Fed]) -> list[Multiplied]:
    """The products as what leads the loop, with the weights as its other arrays."""
    first = body.num_xs + body.num_ys
    return [Multiplied(f.x, first + k, f.transposed, f.precision) for k, f in enumerate(feds)]


def _at_once(
    *args,
    jaxpr,
    num_consts,
    num_carry,
    feds,
    seen,
    length,
    reverse,
    unroll,
    runner,
    machine,
    swapped,
) -> list[Array] | None:
    del unroll
    body = Body(jaxpr, num_consts, num_carry)
    consts, carry, xs, weights = body.shared_out(args)
    where = {"length": length, "reverse": reverse, "runner": runner, "machine": machine}
    products = Products(weights, leaders=leaders(body, feds), seen=seen, swapped=swapped)
    return plan.run_accompanied(body, consts, carry, xs, products, **where)


def _abstract_eval(*_, jaxpr, num_consts, num_carry, feds, seen, length, **params):
    del params
    avals = [jaxprs.strong(a) for a in jaxpr.out_avals]
    made = [jaxprs.strong(jaxpr.in_avals[num_consts + num_carry + feds[k].x]) for k in seen]
    return [*avals[:num_carry], *jaxprs.stacked([*avals[num_carry:], *made], length)]


def _batched(given, *, jaxpr, num_consts, num_carry, feds, seen, **params):
    del params
    marks, by_weight = list(given[: len(jaxpr.in_avals)]), given[len(jaxpr.in_avals) :]
    for fed, mark in zip(feds, by_weight, strict=True):
        marks[num_consts + num_carry + fed.x] |= mark
    made = [marks[num_consts + num_carry + feds[k].x] for k in seen]
    return [*depends(jaxpr.jaxpr, marks, num_consts, num_carry)[1], *made]


fed_loop_p = together.primitive(
    "fed_loop", _in_parts, _at_once, _abstract_eval, _batched, of_loop=True
)
