"""The backward body: one step's `jax.vjp`, with the products of the forward loop.

`Joint` is the whole program; `Backward` is what is left of it for given cotangents.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.loop import compat, gates, jaxprs, kept, look_ups, operations, residuals
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from recurrax.loop.jaxprs import Atom


@dataclasses.dataclass(frozen=True)
class Use:
    """One use of a const whose part of the gradient is finished after the backward loop.

    The const is operand `position` of `eqn`. In a product `other` is what it multiplies, in a
    look-up the indices, and `tap` numbers their cotangents, which leave the loop step by step.
    Elsewhere the const is repeated over rows, `other` is None, and `tap` numbers the `sums` of such
    a value's cotangents.
    """

    const: int
    eqn: JaxprEqn
    position: int
    tap: int
    other: Var | None


@dataclasses.dataclass(frozen=True, eq=False)
class Joint:
    """One step forward and back.

    `body` takes the consts; the cotangents of the carries that move, the gradients accumulated so
    far of the consts `accumulated`, and the `sums` so far; and as xs the carry, x, the kept
    values, the cotangents of the ys that move. It returns the new cotangents, gradients and sums;
    as ys the cotangents of the wanted xs, the taps, and the values `others`, done again for the
    uses that multiply them.
    """

    step: Body
    body: Body
    kept: tuple[Var, ...]
    uses: tuple[Use, ...]
    accumulated: tuple[int, ...]
    others: tuple[Var, ...]
    moving_carry: tuple[int, ...]
    moving_ys: tuple[int, ...]
    wanted_xs: tuple[int, ...]
    num_taps: int
    sums: tuple[Any, ...]


@jax.custom_jvp
def _with_tangent(value, tangent_of):
    """`value`, with the derivative of `tangent_of`."""
    del tangent_of
    return value


@_with_tangent.defjvp
def _(primals, tangents):
    return primals[0], tangents[1]


def _replaced(kept_value: Any, made_again: Any) -> Any:
    """The value that the forward loop kept, in place of the work that made it."""
    if jaxprs.is_float(kept_value):
        return _with_tangent(kept_value, made_again)
    return kept_value


class _Taps:
    """Where the gradient of each const is picked up.

    A tap is a zero added to a value: its cotangent is the value's. Taps stand at the products and
    look-ups, where they leave the backward loop for the work after it; and where a const is
    repeated over rows, where each row's are added up in the loop: a sum needs no memory for all
    steps. One step of the cotangent may be no larger than the largest value that the loop carries,
    keeps or hands out, or than that of a look-up; all other uses are `direct`.
    """

    def __init__(self, body: Body, wanted: Sequence[int], keep: Sequence[kept.Kept]):
        jaxpr = body.jaxpr.jaxpr
        consts = {jaxpr.invars[i]: i for i in wanted}
        held = [*jaxpr.invars[body.num_consts :], *jaxpr.outvars, *(k.value for k in keep)]
        self._limit = max((jaxprs.nbytes([v.aval]) for v in held), default=0)
        self.products: dict[Var, int] = {}
        self.spreads: dict[Var, int] = {}
        self.summed: list[Any] = []
        self.uses: list[Use] = []
        self.direct: set[Var] = set(jaxprs.variables(jaxpr.outvars)) & set(consts)
        self._at: dict[int, list[tuple[int, int, int | None]]] = {}
        # Values that are made of consts alone, inside the loop.
        still = set(jaxpr.invars[: body.num_consts])
        sums = {id(e): k.root for k in keep for e in k.eqns}

        for eqn in jaxpr.eqns:
            for position, v in enumerate(eqn.invars):
                if isinstance(v, Literal) or v not in consts:
                    continue
                if not self._pick_up(eqn, position, consts[v], still, sums.get(id(eqn))):
                    self.direct.add(v)
            if all(v in still for v in jaxprs.variables(eqn.invars)):
                still.update(eqn.outvars)

    def at(self, eqn: JaxprEqn) -> list[tuple[int, int, int | None]]:
        """(position, const, sum) of the operands of `eqn` whose gradient is picked up."""
        return self._at.get(id(eqn), [])

    def _pick_up(
        self, eqn: JaxprEqn, position: int, const: int, still: set[Var], root: Var | None
    ) -> bool:
        out = eqn.outvars[0]
        looked_up = look_ups.look_up(eqn)
        if looked_up is not None:
            tap = self.products.setdefault(out, len(self.products))
            self.uses.append(Use(const, eqn, position, tap, looked_up[1]))
            self._at.setdefault(id(eqn), []).append((position, const, None))
            return True
        if len(eqn.outvars) > 1 or jaxprs.nbytes([out.aval]) > self._limit:
            return False
        others = jaxprs.variables(a for i, a in enumerate(eqn.invars) if i != position)
        repeated = jaxprs.aval(eqn.invars[position]).shape != jaxprs.aval(out).shape
        other, own = None, None
        if eqn.primitive.name in operations.PRODUCTS:
            if root is None or len(others) != 1 or others[0] in still:
                return False
            other = others[0]
            tap = self.products.setdefault(root, len(self.products))
        elif eqn.primitive.name == "broadcast_in_dim":
            tap = self.spreads[out] = self._new_sum(out.aval)
        elif eqn.primitive.name in operations.ELEMENTWISE_OF_SEVERAL and (
            repeated or root is not None
        ):
            tap = own = self._new_sum(out.aval)
        else:
            return False
        self._at.setdefault(id(eqn), []).append((position, const, own))
        self.uses.append(Use(const, eqn, position, tap, other))
        return True

    def _new_sum(self, aval: Any) -> int:
        self.summed.append(jaxprs.strong(aval))
        return len(self.summed) - 1


def joint(body: Body, wanted: Sequence[bool], outputs: Sequence[bool]) -> Joint:
    """Trace one step of `body` forward and back, for gradients of the `wanted` inputs.

    Cotangents: those of `outputs`, carries and ys that move, and with each all carries behind it.
    """
    roots = tuple(k.root for k in kept.find(body.jaxpr.jaxpr))
    body = gates.joined(body, roots)
    jaxpr = body.jaxpr.jaxpr
    m, n = body.num_consts, body.num_consts + body.num_carry
    const_vars, carry_vars, x_vars = jaxpr.invars[:m], jaxpr.invars[m:n], jaxpr.invars[n:]
    y_out = jaxpr.outvars[body.num_carry :]
    moving_carry = tuple(i for i in range(body.num_carry) if outputs[i])
    moving_ys = tuple(i for i in range(body.num_ys) if outputs[body.num_carry + i])
    wanted_xs = tuple(i for i, w in enumerate(wanted[n:]) if w)
    wanted_consts = [i for i, w in enumerate(wanted[:m]) if w]

    keep = kept.find(jaxpr)
    taps_at = _Taps(body, wanted_consts, keep)
    at_hand = {*carry_vars, *x_vars, *(k.value for k in keep), *jaxprs.variables(y_out)}
    others = tuple(
        v for v in dict.fromkeys(u.other for u in taps_at.uses if u.other) if v not in at_hand
    )
    accumulated = tuple(i for i in wanted_consts if const_vars[i] in taps_at.direct)
    kept_of = {k.value: i for i, k in enumerate(keep)}
    gates_of = {k.value: k for k in keep if k.activations}

    def one_step(consts, carry, xs, kept_values):
        """The step as a function of what is differentiated."""

        def primal(diff_consts, diff_carry, diff_xs, taps, sums):
            env: dict[Var, Any] = dict(zip(jaxpr.invars, [*consts, *carry, *xs], strict=True))
            env.update(zip((const_vars[i] for i in accumulated), diff_consts, strict=True))
            env.update(zip((carry_vars[i] for i in moving_carry), diff_carry, strict=True))
            env.update(zip((x_vars[i] for i in wanted_xs), diff_xs, strict=True))

            def rule(eqn, operands):
                value = eqn.outvars[0] if eqn.outvars else None
                if value in gates_of:
                    k, made = gates_of[value], kept_values[kept_of[value]]
                    return [gates.kept_in_place(k.activations, made, env[k.root])]
                if residuals.is_kept(eqn):
                    return [kept_values[kept_of[eqn.outvars[0]]]]
                operands = list(operands)
                for position, const, own in taps_at.at(eqn):
                    operands[position] = consts[const]
                    if own is not None:
                        spread = jnp.broadcast_to(operands[position], sums[own].shape)
                        operands[position] = _with_tangent(spread, sums[own])
                outputs = jaxprs.bind(jaxpr, eqn, operands)
                if value in taps_at.spreads:
                    return [_with_tangent(outputs[0], sums[taps_at.spreads[value]])]
                if value in taps_at.products:
                    outputs = [outputs[0] + taps[taps_at.products[value]]]
                return [
                    _replaced(kept_values[kept_of[v]], y) if v in kept_of else y
                    for v, y in zip(eqn.outvars, outputs, strict=True)
                ]

            made = jaxprs.evaluate(jaxpr, env, rule, inline=())
            moving = [made[i] for i in moving_carry]
            moving += [made[body.num_carry + i] for i in moving_ys]
            return moving, [env[v] for v in others]

        diff = (
            [consts[i] for i in accumulated],
            [carry[i] for i in moving_carry],
            [xs[i] for i in wanted_xs],
            [jaxprs.zeros(v.aval) for v in taps_at.products],
            [jaxprs.zeros(a) for a in taps_at.summed],
        )
        _, vjp, again = jax.vjp(primal, *diff, has_aux=True)
        return vjp, again

    def flat(*args, run=lambda f, *args: f(*args)):
        totals = len(accumulated) + len(taps_at.summed)
        groups = [m, len(moving_carry), totals, len(carry_vars), len(x_vars), len(keep)]
        parts, start = [], 0
        for size in groups:
            parts.append(args[start : start + size])
            start += size
        consts, carry_cts, so_far, carry, xs, kept_values = parts
        vjp, again = run(one_step, consts, carry, xs, kept_values)
        d_consts, d_carry, d_xs, d_taps, d_sums = vjp([*carry_cts, *args[start:]])
        so_far = [total + d for total, d in zip(so_far, [*d_consts, *d_sums], strict=True)]
        return [*d_carry, *so_far, *d_xs, *d_taps, *again]

    before = [*const_vars, *(carry_vars[i] for i in moving_carry)]
    before += [const_vars[i] for i in accumulated]
    behind = [*carry_vars, *x_vars, *(k.value for k in keep), *(y_out[i] for i in moving_ys)]
    avals = [jaxprs.strong(v.aval) for v in before]
    avals += [*taps_at.summed, *(jaxprs.strong(v.aval) for v in behind)]
    closed = jax.make_jaxpr(flat)(*avals)
    if closed.effects:
        closed = jax.make_jaxpr(functools.partial(flat, run=jaxprs.without_printing))(*avals)
    closed = jaxprs.inlined(closed, checkpoints=True)
    num_carry = len(moving_carry) + len(accumulated) + len(taps_at.summed)
    return Joint(
        step=body,
        body=Body(closed, m, num_carry),
        kept=tuple(k.value for k in keep),
        uses=tuple(taps_at.uses),
        accumulated=accumulated,
        others=others,
        moving_carry=moving_carry,
        moving_ys=moving_ys,
        wanted_xs=wanted_xs,
        num_taps=len(taps_at.products),
        sums=tuple(taps_at.summed),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Backward:
    """A backward loop: a body, where its arguments come from, where its results go.

    An argument is an index into the consts, carry and xs of the joint body. A result is an index
    into `ys` of the body, or a `Piece` of one, or an `Argument` where a cotangent is handed on
    unchanged, or None where it is zero.
    """

    body: Body
    consts: tuple[int, ...]
    carry: tuple[int, ...]
    xs: tuple[int, ...]
    results: tuple["int | Piece | Argument | None", ...]

    @property
    def reads(self) -> set[int]:
        """The xs of the joint body that the loop or its results need."""
        return {*self.xs, *(r.index for r in self.results if isinstance(r, Argument))}


@dataclasses.dataclass(frozen=True)
class Argument:
    """A result that is one of the xs of the joint body as it stands."""

    index: int


@dataclasses.dataclass(frozen=True)
class Piece:
    """A result that is `width` features of y `index` from `start` on, and is not written twice."""

    index: int
    start: int
    width: int


def backward(joint: Joint, wanted_carry: Sequence[bool], zero_ys: Sequence[bool]) -> Backward:
    """What is left of the joint body.

    `wanted_carry` marks the carries whose final cotangent is wanted; `zero_ys` the float ys whose
    cotangents are zero.
    """
    body = joint.body
    first_ct = body.num_xs - len(joint.moving_ys)
    zeros = {first_ct + i for i, z in enumerate(zero_ys) if z}
    closed, zero_out = _without_zeros(body, first_ct, zeros)
    jaxpr = closed.jaxpr
    carry_out, y_out = jaxpr.outvars[: body.num_carry], jaxpr.outvars[body.num_carry :]
    xs = {v: i for i, v in enumerate(jaxpr.invars[body.num_consts + body.num_carry :])}

    leaving: list[Atom] = []
    results: list[int | Piece | Argument | None] = []
    first_tap = len(joint.wanted_xs)
    taps = range(first_tap, first_tap + joint.num_taps)
    for place, (atom, zero) in enumerate(zip(y_out, zero_out, strict=True)):
        if zero:
            results.append(None)
        elif not isinstance(atom, Literal) and atom in xs:
            results.append(Argument(xs[atom]))
        elif place in taps and (piece := _piece_of(jaxpr, atom, leaving)) is not None:
            results.append(piece)
        else:
            places = [i for i, v in enumerate(leaving) if v is atom]
            if not places:
                leaving.append(atom)
            results.append(places[0] if places else len(leaving) - 1)
    small = compat.replaced(jaxpr, outvars=[*carry_out, *leaving])
    carry_in = jaxpr.invars[body.num_consts : body.num_consts + body.num_carry]
    grows = [a is not z for a, z in zip(carry_in, carry_out, strict=True)]
    small, consts, carry, used_xs = jaxprs.pruned(
        Body(ClosedJaxpr(small, closed.consts), body.num_consts, body.num_carry),
        [*wanted_carry, *grows[len(joint.moving_carry) :]],
        [True] * len(leaving),
    )
    return Backward(small, tuple(consts), tuple(carry), tuple(used_xs), tuple(results))


def _piece_of(jaxpr: Jaxpr, atom: Atom, leaving: Sequence[Atom]) -> Piece | None:
    """Where `atom` stands in a y that joins it to others."""
    for eqn in jaxpr.eqns:
        joined = eqn.outvars[0] if eqn.primitive.name == "concatenate" else None
        places = [i for i, v in enumerate(leaving) if v is joined]
        if not places or eqn.params["dimension"] != jaxprs.aval(eqn.outvars[0]).ndim - 1:
            continue
        start = 0
        for v in eqn.invars:
            width = jaxprs.aval(v).shape[-1]
            if v is atom:
                return Piece(places[0], start, width)
            start += width
    return None


def _without_zeros(body: Body, first_ct: int, zeros: set[int]) -> tuple[ClosedJaxpr, list[bool]]:
    """The joint body where some cotangents are zero, and which of its ys are then zero.

    The joint body is linear in its cotangents, so an equation that reads no other cotangents than
    zero ones makes zero.
    """
    jaxpr = body.jaxpr.jaxpr
    num_ys = len(jaxpr.outvars) - body.num_carry
    if not zeros:
        return body.jaxpr, [False] * num_ys
    m, n = body.num_consts, body.num_consts + body.num_carry
    xs = jaxpr.invars[n:]
    zero = {xs[i] for i in zeros}
    linear = {*jaxpr.invars[m:n], *xs[first_ct:]}
    for eqn in jaxpr.eqns:
        reads = [v for v in jaxprs.variables(eqn.invars) if v in linear]
        if reads:
            linear.update(eqn.outvars)
            if all(v in zero for v in reads):
                zero.update(eqn.outvars)

    def flat(*args):
        env: dict[Var, Any] = dict(zip(jaxpr.constvars, body.jaxpr.consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))
        env.update({v: jaxprs.zeros(v.aval) for v in zero})

        def rule(eqn, operands):
            if any(v in zero for v in eqn.outvars):
                return [env[v] for v in eqn.outvars]
            if eqn.primitive.name in operations.SUMS:
                left, right = (not isinstance(v, Literal) and v in zero for v in eqn.invars)
                other = operands[1] if left else operands[0]
                if (left or right) and other.shape == jaxprs.aval(eqn.outvars[0]).shape:
                    return [other]
            return None

        return jaxprs.evaluate(jaxpr, env, rule, inline=())

    closed = jax.make_jaxpr(flat)(*body.jaxpr.in_avals)
    ys = jaxpr.outvars[body.num_carry :]
    return closed, [not isinstance(v, Literal) and v in zero for v in ys]
