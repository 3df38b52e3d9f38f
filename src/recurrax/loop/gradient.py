"""Gradient: differentiation rules of the loop primitive.

The forward loop is the body with a few more outputs (`kept.py`); the backward loop is a body too
(`backward.py`). No gradient of a weight is accumulated inside the loop: the cotangents of the
products leave the backward loop, and after it all steps and rows are contracted at once. Gradients
of biases and gains are added up in it for each row, and over rows after it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from recurrax.loop import (
    backward,
    compat,
    custom,
    fallback,
    fed,
    forward_mode,
    jaxprs,
    residuals,
    together,
)
from recurrax.loop.backward import Backward, Joint
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, Literal, Primitive, UndefinedPrimal, Var, jaxpr_as_fun
from recurrax.loop.fallback import stated
from recurrax.loop.fed import Fed, fed_loop_p
from recurrax.loop.finishing import (
    Feeding,
    after_the_loop,
    feeding_after,
    held_swapped,
    read_after,
    result_of,
    trail_feeding,
    trail_use,
)
from recurrax.loop.moving import moving
from recurrax.loop.primitive import by_lax, loop_p
from recurrax.loop.trailing import Trail


class NoWayBack(Exception):
    """A step has no derivative in reverse mode, for JAX neither: an open loop, a callback."""


@dataclasses.dataclass(frozen=True, eq=False)
class Derivative:
    """A body ready for reverse mode, for gradients of the inputs `wanted`.

    `forward` is the body with the values `extras` as further ys. `consts` and `stacks` are what
    the backward loop and the contractions after it read: indices of consts, and of the stacks in
    the order of `Joint` (carry before each step, x, kept values). `moves` marks the carries and ys
    that the wanted inputs move.
    """

    wanted: tuple[bool, ...]
    moves: tuple[bool, ...]
    joint: Joint
    forward: Body
    extras: tuple[Var, ...]
    consts: tuple[int, ...]
    stacks: tuple[Var, ...]

    @property
    def stack_vars(self) -> list[Var]:
        """The values behind the xs of the joint body, cotangents of the ys left out."""
        return [*self.joint.step.jaxpr.jaxpr.invars[self.joint.step.num_consts :], *self.joint.kept]


@functools.lru_cache(maxsize=256)
def derivative(body: Body, wanted: tuple[bool, ...]) -> Derivative:
    """Prepare both loops of `body` for gradients of the `wanted` inputs.

    Raises:
        NoWayBack: something that they move has no derivative in reverse mode.
    """
    try:
        both, outputs = _joint(body, wanted)
    except Exception as error:
        if _has_way_back(body, wanted):
            raise
        raise stated(NoWayBack(str(error))) from error
    body = both.step
    jaxpr = body.jaxpr.jaxpr
    m, n = body.num_consts, body.num_consts + body.num_carry
    everything = backward.backward(
        both, [wanted[m + i] for i in both.moving_carry], [False] * len(both.moving_ys)
    )
    stack_vars = [*jaxpr.invars[m:], *both.kept]
    read = {stack_vars[i] for i in everything.reads if i < len(stack_vars)}
    others = {u.other for u in both.uses if u.other is not None} - set(both.others)
    needed = [v for v in dict.fromkeys([*stack_vars, *others]) if v in read | others]
    given = {*jaxpr.invars[n:], *jaxprs.variables(jaxpr.outvars[body.num_carry :])}
    extras = [v for v in needed if v not in given]
    forward = compat.replaced(jaxpr, outvars=[*jaxpr.outvars, *extras])
    return Derivative(
        wanted=wanted,
        moves=tuple(outputs),
        joint=both,
        forward=custom.differentiated(
            dataclasses.replace(body, jaxpr=ClosedJaxpr(forward, body.jaxpr.consts)),
            moving(body, wanted),
        ),
        extras=tuple(extras),
        consts=everything.consts,
        stacks=tuple(needed),
    )


def _joint(body: Body, wanted: tuple[bool, ...]) -> tuple[Joint, list[bool]]:
    """One step forward and back, and which carries and ys the wanted inputs move."""
    body = residuals.opened(body, moving(body, wanted))
    moves = moving(body, wanted)
    outputs = [not isinstance(v, Literal) and v in moves for v in body.jaxpr.jaxpr.outvars]
    # The cotangent of a carry that moves at the first step alone is handed back too.
    for k, v in enumerate(body.jaxpr.jaxpr.invars[body.num_consts : body.first_x]):
        outputs[k] = outputs[k] or v in moves
    return backward.joint(body, wanted, outputs), outputs


def _has_way_back(body: Body, wanted: Sequence[bool]) -> bool:
    """Whether JAX by itself has a derivative of one step in reverse mode."""
    floats = [jaxprs.is_float(a) for a in body.jaxpr.out_avals]

    def back(*args: Any) -> Any:
        def of_wanted(*values: Any) -> list[Any]:
            moved = iter(values)
            given = (next(moved) if w else x for x, w in zip(args, wanted, strict=True))
            made = jaxpr_as_fun(body.jaxpr)(*given)
            return [y for y, is_float in zip(made, floats, strict=True) if is_float]

        made, vjp = jax.vjp(of_wanted, *(x for x, w in zip(args, wanted, strict=True) if w))
        return vjp(made)

    try:
        jax.make_jaxpr(back)(*body.jaxpr.in_avals)
    except Exception:
        return False
    return True


@functools.lru_cache(maxsize=256)
def backward_of(d: Derivative, zero_ys: tuple[bool, ...]) -> Backward:
    """The backward loop of `d`, where the cotangents of some float ys are zero."""
    m = d.joint.step.num_consts
    return backward.backward(d.joint, [d.wanted[m + i] for i in d.joint.moving_carry], zero_ys)


tangent_p = Primitive("loop_tangent")
tangent_p.multiple_results = True


_by_lax = together.jvp_of(by_lax)


def _jvp(primals, tangents, **params):
    return _differentiated(_jvp_by_loops, _by_lax, fallback.BY_LAX, primals, tangents, params)


def _differentiated(by_loops, plainly, by, primals, tangents, params):
    """What the rule `by_loops` gives, or else the one that goes `plainly`."""

    def instead():
        return plainly(primals, tangents, **params)

    def attempt():
        return by_loops(primals, tangents, **params)

    try:
        return fallback.guarded(attempt, instead, "differentiating a loop", by)
    except NoWayBack:  # as JAX has it: forward mode, and an error in reverse where it is asked for
        return instead()


def _jvp_by_loops(primals, tangents, *, jaxpr, num_consts, num_carry, **how):
    body = Body(jaxpr, num_consts, num_carry)
    wanted = tuple(not compat.is_zero(t) for t in tangents)
    outputs, d, read = _forward(body, primals, wanted, how)
    moving = [t for t, w in zip(tangents, wanted, strict=True) if w]
    return outputs, _tangents(outputs, [*read, *moving], derivative=d, feedings=(), **how)


_fed_by_parts = compat.jvp_of(fed_loop_p)


def _fed_jvp(primals, tangents, **params):
    if params["seen"]:  # a forward loop differentiated once more
        return _fed_by_parts(primals, tangents, **params)
    how = _fed_jvp_by_loops, _fed_by_parts, "part by part"
    return _differentiated(*how, primals, tangents, params)


def _fed_jvp_by_loops(primals, tangents, *, jaxpr, num_consts, num_carry, feds, seen, **how):
    del seen
    body = Body(jaxpr, num_consts, num_carry)
    n, end = num_consts + num_carry, len(jaxpr.in_avals)
    weights = primals[end:]
    moves = [not compat.is_zero(t) for t in tangents]
    feedings = tuple(
        Feeding(f, moves[n + f.x], moves[end + k])
        for k, f in enumerate(feds)
        if moves[n + f.x] or moves[end + k]
    )
    wanted = moves[:end]
    for f in feedings:
        wanted[n + f.fed.x] = True
    outputs, d, read = _forward(body, primals[:end], tuple(wanted), how, weights, feds)

    still = [f for f in feds if all(f is not feeding.fed for feeding in feedings)]
    how["swapped"] = fed.apart_from(how["swapped"], still)
    through = {n + f.fed.x for f in feedings}
    moving = [t for i, t in enumerate(tangents[:end]) if moves[i] and i not in through]
    number = {f: end + k for k, f in enumerate(feds)}
    for f in feedings:
        x, weight = n + f.fed.x, number[f.fed]
        read += [primals[x]] * f.of_weight + [primals[weight]] * f.of_x
        moving += [tangents[x]] * f.of_x + [tangents[weight]] * f.of_weight
    return outputs, _tangents(outputs, [*read, *moving], derivative=d, feedings=feedings, **how)


def _forward(
    body: Body,
    primals: Sequence[Any],
    wanted: tuple[bool, ...],
    how: dict[str, Any],
    weights: Sequence[Any] = (),
    feds: Sequence[Fed] = (),
) -> tuple[list[Array], Derivative, list[Array]]:
    """Run the loop so that its derivative can follow; returns also what that reads."""
    d = derivative(body, wanted)
    jaxpr = d.joint.step.jaxpr
    m, n = body.num_consts, body.first_x
    x_vars = jaxpr.jaxpr.invars[n:]
    again = tuple(k for k, f in enumerate(feds) if x_vars[f.x] in d.stacks)
    given = primals[:m], primals[m:n], primals[n:], weights, feds
    carry, ys, made = fed.run(d.forward, *given, again, **how)
    y_vars = [*jaxpr.jaxpr.outvars[body.num_carry :], *d.extras]
    stacked = {v: y for v, y in zip(y_vars, ys, strict=True) if not isinstance(v, Literal)}
    stacked.update(zip(x_vars, primals[n:], strict=True))
    stacked.update((x_vars[feds[k].x], product) for k, product in zip(again, made, strict=True))
    read = [*(primals[i] for i in d.consts), *(stacked[v] for v in d.stacks)]
    return [*carry, *ys[: body.num_ys]], d, read


def _tangents(
    outputs: Sequence[Array], arguments: Sequence[Any], derivative: Derivative, **params: Any
) -> list[Any]:
    avals = tuple(jaxprs.strong(jax.typeof(a)) for a in arguments)
    _try_way_back(avals, derivative=derivative, **params)
    linear = iter(tangent_p.bind(*arguments, derivative=derivative, **params))
    return [
        next(linear) if moves else compat.Zero(jax.typeof(y).to_tangent_aval())
        for y, moves in zip(outputs, derivative.moves, strict=True)
    ]


@functools.lru_cache(maxsize=256)
def _try_way_back(avals: Sequence[Any], **params: Any) -> None:
    """Trace the backward pass in its plainer form, which the net falls into, before it is needed:
    here a loop that fails can still be `lax.scan`'s."""
    count = len(avals) - _num_moving(**params)
    unknown = [UndefinedPrimal(a) for a in avals[count:]]

    def back(cts: Sequence[Any], *read: Any) -> list[Any]:
        made = _transposed(cts, *read, *unknown, **params, apart=True)[count:]
        return [compat.instantiate_zeros(ct) for ct in made]

    jax.make_jaxpr(back)(_tangent_avals(**params), *avals[:count])


def _tangent_avals(*_, derivative, length, **params):
    del params
    body = derivative.joint.step
    avals = [jaxprs.strong(a) for a in body.jaxpr.out_avals]
    avals = [*avals[: body.num_carry], *jaxprs.stacked(avals[body.num_carry :], length)]
    return [a for a, moves in zip(avals, derivative.moves, strict=True) if moves]


def _transpose(cts, *args, **params):
    def instead():
        return _transposed(list(map(compat.instantiate_zeros, cts)), *args, **params, apart=True)

    return fallback.guarded(
        lambda: _transposed(cts, *args, **params), instead, "turning a loop round", "part by part"
    )


def _transposed(
    cts, *args, derivative, feedings, length, reverse, unroll, runner, swapped, apart=False
):
    """The backward pass; the products after its loop `apart` from it, or together with it."""
    d: Derivative = derivative
    both, body = d.joint, d.joint.step
    num_moving = len(both.moving_carry)
    consts = dict(zip(d.consts, args, strict=False))
    stacks = dict(zip(d.stacks, args[len(d.consts) :], strict=False))
    beside = iter(args[len(d.consts) + len(d.stacks) :])
    y_cts = cts[num_moving:]
    how = {"length": length, "reverse": not reverse, "unroll": unroll, "runner": runner}
    b = backward_of(d, tuple(map(compat.is_zero, y_cts)))

    xs = {i: stacks[v] for i, v in enumerate(d.stack_vars) if v in stacks}
    xs.update({len(d.stack_vars) + i: ct for i, ct in enumerate(y_cts)})
    carry = [compat.instantiate_zeros(ct) for ct in cts[:num_moving]]
    carry += [jaxprs.zeros(body.jaxpr.in_avals[i]) for i in both.accumulated]
    carry += [jaxprs.zeros(a) for a in both.sums]
    trail = Trail(b.body, [xs[i] for i in b.xs])
    trail.hold_swapped(held_swapped(both, b, feedings, stacks, y_cts, swapped))
    if apart:
        trailed = [None] * len(both.uses)
        of_fed = []
        wanted = range(b.body.num_ys)
    else:
        trailed = [trail_use(trail, use, both, b, xs, stacks) for use in both.uses]
        of_fed = [
            trail_feeding(trail, f, both, b, xs, beside, f.fed.x in swapped) for f in feedings
        ]
        wanted = read_after(both, b, feedings, trailed)
    last, ys, made = trail.run(
        [consts[i] for i in b.consts], [carry[i] for i in b.carry], wanted, **how
    )
    results = [result_of(r, xs, ys) for r in b.results]
    last = dict(zip(b.carry, last, strict=True))
    d_xs, taps, again = _split(results, [len(both.wanted_xs), both.num_taps])
    stacks.update(zip(both.others, again, strict=True))

    gradients: dict[int, Any] = {}
    m, n = body.num_consts, body.num_consts + body.num_carry
    for place, i in enumerate(both.accumulated):
        gradients[i] = last.get(num_moving + place)
    first_sum = num_moving + len(both.accumulated)
    sums = [last.get(first_sum + place) for place in range(len(both.sums))]
    for place, i in enumerate(both.moving_carry):
        gradients[m + i] = last.get(place)
    gradients.update({n + i: dx for i, dx in zip(both.wanted_xs, d_xs, strict=True)})
    for use, product in zip(both.uses, trailed, strict=True):
        tap = sums[use.tap] if use.other is None else taps[use.tap]
        if product is not None:
            part = made[product]
        elif tap is not None:
            part = after_the_loop(body, use, tap, stacks, runner)
        else:
            continue
        before = gradients.get(use.const)
        gradients[use.const] = part if before is None else before + part
    through = {n + f.fed.x for f in feedings}
    found = [gradients.get(i) for i, w in enumerate(d.wanted) if w and i not in through]
    if apart:
        for f in feedings:
            found += feeding_after(f, d_xs[both.wanted_xs.index(f.fed.x)], beside, runner)
    for f, of_both in zip(feedings, of_fed, strict=not apart):
        asked = zip(of_both, (f.of_x, f.of_weight), strict=True)
        found += [None if k is None else made[k] for k, wanted in asked if wanted]
    avals = [a.aval for a in args if compat.is_undefined_primal(a)]
    found = [compat.Zero(a) if g is None else g for a, g in zip(avals, found, strict=True)]
    return [None] * (len(args) - len(found)) + found


def _split(values: Sequence[Any], sizes: Sequence[int]) -> tuple[Any, Any, Any]:
    first, second = sizes
    return values[:first], values[first : first + second], values[first + second :]


def _num_moving(*, derivative, feedings, **_):
    through = sum(f.of_x + f.of_weight for f in feedings)
    return sum(derivative.wanted) - len(feedings) + through


tangent_p.def_abstract_eval(_tangent_avals)
forward_mode.define(tangent_p, _transpose, _num_moving)
compat.define_jvp(loop_p, _jvp)
compat.define_jvp(fed_loop_p, _fed_jvp)
