"""Split: what moves before the loop, what stays inside it, what moves after it.

Work on `consts` alone is done once. Products of `x` alone and the like, with all they need, are
done before the loop for all steps together: `x_t @ W` is one product with time and rows folded.
Products that only feed `y`, and what follows them, are done after the loop, likewise together. The
rest is the core. Elementwise work on `x` stays in it: it is cheaper done on what is in the cache
than written to memory for all steps and read again (a layer-norm LSTM trains a quarter faster so).
So do look-ups in a table that is the same at every step.

Memory rule: one step of a value that moves may take at most `GROWTH` times the memory of one step
of the loop itself (`x_t`, carry and `y_t` together); larger ones stay inside, where they live for
one step only. Random draws, effects and callbacks always stay; control flow does unless it depends
on `consts` alone.
"""

import dataclasses
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.loop import convolutions, fed, jaxprs, look_ups, operations, products
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, JaxprEqn, Literal, Var
from recurrax.loop.interning import interned
from recurrax.loop.jaxprs import Atom

GROWTH = 8

# A draw must not depend on where it stands (some generators draw other numbers under `vmap`);
# batching control flow would run branches that no step takes.
_CONTROL = {"cond", "while"}
_STAYS = _CONTROL | {"custom_partitioning", "rng_bit_generator"}
# They only lay a value out over more elements: cheaper to do again than to read.
_SPREADS = {"broadcast_in_dim", "iota"}
# As cheap inside the loop as before it.
_CHEAP = operations.ELEMENTWISE | operations.REDUCTIONS | operations.LAYOUT


class Kind(IntEnum):
    """What a value depends on; a value that mixes kinds has the largest."""

    CONST = 0
    X = 1
    STATE = 2


@dataclasses.dataclass(frozen=True)
class Fold:
    """A plain product of `x`, for all steps together, and a weight: (k, n), or (n, k) where
    `transposed`."""

    x: Var
    weight: Var
    transposed: bool
    precision: Any


@dataclasses.dataclass(frozen=True)
class Split:
    """A step in four parts. Atoms tell where each part reads and writes.

    `once`: consts -> derived consts. `before`: (consts, x) -> x-only values, for one step; it ends
    with `feeds`, products with a weight that only the core reads, and `ahead` is the rest of it.
    `core`: the body that is left. `after`: (consts, x, values of the core) -> y, for one step.
    """

    step: Body
    once: ClosedJaxpr
    before: ClosedJaxpr
    ahead: ClosedJaxpr
    feeds: dict[Var, Fold]
    core: Body
    after: ClosedJaxpr
    # Variables of the step behind the flat arguments and results of the parts.
    invariant: tuple[int, ...]
    core_consts: tuple[Var, ...]
    core_carry: tuple[int, ...]
    core_xs: tuple[Var, ...]
    core_ys: tuple[Var, ...]
    kinds: dict[Var, Kind]


def split(step: Body) -> Split:
    """Sort the equations of `step` into the parts of a `Split`."""
    step = fed.opened(step)
    jaxpr = step.jaxpr.jaxpr
    m, n = step.num_consts, step.num_consts + step.num_carry
    const_vars, carry_vars, x_vars = jaxpr.invars[:m], jaxpr.invars[m:n], jaxpr.invars[n:]
    carry_out, y_out = jaxpr.outvars[: step.num_carry], jaxpr.outvars[step.num_carry :]

    # A carry that the step hands on unchanged is a const.
    invariant = tuple(i for i, v in enumerate(carry_vars) if carry_out[i] is v)
    moving = tuple(i for i in range(step.num_carry) if i not in invariant)

    kinds = dict.fromkeys(const_vars, Kind.CONST)
    kinds.update(
        {v: Kind.CONST if i in invariant else Kind.STATE for i, v in enumerate(carry_vars)}
    )
    kinds.update(dict.fromkeys(x_vars, Kind.X))
    per_step = jaxprs.nbytes(v.aval for v in [*x_vars, *(carry_vars[i] for i in moving), *y_out])
    limit = GROWTH * per_step

    moves: dict[int, Kind] = {}
    for eqn in jaxpr.eqns:
        kind = max((kinds[v] for v in jaxprs.variables(eqn.invars)), default=Kind.CONST)
        outgrows = kind == Kind.X and jaxprs.nbytes(v.aval for v in eqn.outvars) > limit
        if outgrows or _stays(eqn, kind):
            kind = Kind.STATE
        moves[id(eqn)] = kind
        kinds.update(dict.fromkeys(eqn.outvars, kind))

    late = _late(jaxpr.eqns, kinds, moves, [carry_out[i] for i in moving], limit)
    after = [e for e in jaxpr.eqns if id(e) in late]
    read_outside = [*y_out, *(a for e in after for a in e.invars)]
    early = _early(jaxpr.eqns, kinds, moves, read_outside)
    once = [e for e in jaxpr.eqns if id(e) in early and moves[id(e)] == Kind.CONST]
    before = [e for e in jaxpr.eqns if id(e) in early and moves[id(e)] == Kind.X]
    inside = [e for e in jaxpr.eqns if id(e) not in early and id(e) not in late]

    made_inside = {v for e in inside for v in e.outvars} | {carry_vars[i] for i in moving}
    made_after = {v for e in after for v in e.outvars}
    core_carry_out = [carry_out[i] for i in moving]
    # What leaves the loop: ys made inside, and what the work after it reads.
    leaving = [v for v in jaxprs.variables(read_outside) if v in made_inside]
    inside = _live(inside, [*core_carry_out, *leaving])
    reads = jaxprs.variables([*(a for e in inside for a in e.invars), *core_carry_out])
    external = [v for v in reads if v not in made_inside]
    core_consts = [v for v in external if kinds[v] == Kind.CONST]
    core_xs = [v for v in external if kinds[v] == Kind.X]
    core = Body(
        jaxprs.subjaxpr(
            jaxpr,
            [*core_consts, *(carry_vars[i] for i in moving), *core_xs],
            [*core_carry_out, *leaving],
            inside,
        ),
        len(core_consts),
        len(moving),
    )
    early_outputs = [v for e in (*once, *before) for v in e.outvars]
    crossing = set(core_consts) | set(core_xs)
    crossing_out = jaxprs.variables(read_outside)
    crossing.update(crossing_out)
    crossing.update(jaxprs.variables(a for e in before for a in e.invars))
    derived = [v for v in early_outputs if v in crossing and kinds[v] == Kind.CONST]
    early_xs = [v for v in early_outputs if v in crossing and kinds[v] == Kind.X]
    read_again = {*crossing_out, *jaxprs.variables(a for e in before for a in e.invars)}
    feeds: dict[Var, Fold] = {}
    for eqn in before:
        fold = _fold(eqn, kinds)
        if fold is not None and eqn.outvars[0] in core_xs and eqn.outvars[0] not in read_again:
            feeds[eqn.outvars[0]] = fold
    ahead = [e for e in before if e.outvars[0] not in feeds]
    base = [*const_vars, *(carry_vars[i] for i in invariant)]
    before_reads = _external(before)
    after_reads = _external(after)
    return Split(
        step=step,
        once=jaxprs.subjaxpr(jaxpr, base, derived, once),
        before=jaxprs.subjaxpr(jaxpr, before_reads, early_xs, before),
        ahead=jaxprs.subjaxpr(
            jaxpr, _external(ahead), [v for v in early_xs if v not in feeds], ahead
        ),
        feeds=feeds,
        core=interned(core),
        after=jaxprs.subjaxpr(
            jaxpr, after_reads, [v for v in jaxprs.variables(y_out) if v in made_after], after
        ),
        invariant=invariant,
        core_consts=tuple(core_consts),
        core_carry=moving,
        core_xs=tuple(core_xs),
        core_ys=tuple(leaving),
        kinds=kinds,
    )


def _fold(eqn: JaxprEqn, kinds: dict[Var, Kind]) -> Fold | None:
    """An equation as a product that folds time and rows, if it is one."""
    if not products.is_plain(eqn):
        return None
    x, weight = (v for v in eqn.invars if not isinstance(v, Literal))
    if kinds[x] != Kind.X or kinds[weight] != Kind.CONST:
        return None
    return Fold(x, weight, products.weight_is_transposed(eqn), eqn.params["precision"])


def _stays(eqn: JaxprEqn, kind: Kind = Kind.STATE) -> bool:
    """Whether `eqn`, which depends on what `kind` says, is to be done at every step."""
    name = eqn.primitive.name
    if name in operations.TYPES_OF_DEVICES:
        return False
    collective = "axis_name" in eqn.params or ("axes" in eqn.params and name.startswith("p"))
    return (
        bool(eqn.effects)
        or jaxprs.holds(eqn, operations.OPAQUE)
        or (name in _STAYS and (kind != Kind.CONST or name not in _CONTROL))
        or name.startswith(("random_", "threefry"))
        or collective
    )


def _spreads(eqn: JaxprEqn) -> bool:
    """Whether `eqn` only lays out its operand over more elements."""
    inputs = sum(jaxprs.aval(v).size for v in jaxprs.variables(eqn.invars))
    return eqn.primitive.name in _SPREADS and jaxprs.aval(eqn.outvars[0]).size > inputs


def _early(
    eqns: Sequence[JaxprEqn], kinds: dict[Var, Kind], moves: dict[int, Kind], read: Sequence[Atom]
) -> set[int]:
    """Ids of the equations to run before the loop.

    Spreads, cheap work on `x` and look-ups of rows move only if something outside the loop reads
    them: other work that moves, or `read`. What a look-up needs to know its row moves.
    """
    wanted = set(jaxprs.variables(read))
    early = set()
    for eqn in reversed(eqns):
        kind = moves[id(eqn)]
        idle = _spreads(eqn) or (kind == Kind.X and eqn.primitive.name in _CHEAP)
        looks_up = look_ups.look_up(eqn) if kind == Kind.X else None
        table, index = looks_up or (None, None)
        idle = idle or (table is not None and kinds[table] == Kind.CONST)
        if kind != Kind.STATE and (not idle or any(v in wanted for v in eqn.outvars)):
            early.add(id(eqn))
            wanted.update(jaxprs.variables(eqn.invars))
        elif index is not None:
            wanted.add(index)
    return early


def _late(
    eqns: Sequence[JaxprEqn],
    kinds: dict[Var, Kind],
    moves: dict[int, Kind],
    carry_out: Sequence[Atom],
    limit: int,
) -> set[int]:
    """Ids of the equations to run after the loop: y-only products and what follows them."""
    inside = set(jaxprs.variables(carry_out))
    free = set()
    for eqn in reversed(eqns):
        if moves[id(eqn)] != Kind.STATE:
            continue
        stacked = [
            v.aval for v in jaxprs.variables([*eqn.invars, *eqn.outvars]) if kinds[v] != Kind.CONST
        ]
        outgrows = any(jaxprs.nbytes([aval]) > limit for aval in stacked)
        if _stays(eqn) or outgrows or any(v in inside for v in eqn.outvars):
            inside.update(jaxprs.variables(eqn.invars))
        else:
            free.add(id(eqn))
    late: set[int] = set()
    follows: set[Var] = set()
    for eqn in eqns:
        follows_late = any(v in follows for v in jaxprs.variables(eqn.invars))
        if id(eqn) in free and (eqn.primitive.name in operations.PRODUCTS or follows_late):
            late.add(id(eqn))
            follows.update(eqn.outvars)
    return late


def _live(eqns: Sequence[JaxprEqn], wanted: Sequence[Atom]) -> list[JaxprEqn]:
    """The equations that `wanted` depends on, and those with effects."""
    needed = set(jaxprs.variables(wanted))
    live = []
    for eqn in reversed(eqns):
        if eqn.effects or any(v in needed for v in eqn.outvars):
            live.append(eqn)
            needed.update(jaxprs.variables(eqn.invars))
    return live[::-1]


def _external(eqns: Sequence[JaxprEqn]) -> list[Var]:
    """What `eqns` read and do not make."""
    made = {v for e in eqns for v in e.outvars}
    return [v for v in jaxprs.variables(a for e in eqns for a in e.invars) if v not in made]


def run(
    parts: Split,
    consts: Sequence[Any],
    carry: Sequence[Any],
    xs: Sequence[Any],
    *,
    length: int,
    reverse: bool,
    unroll: int | bool,
    runner: str | None,
    batch_major: bool = False,
) -> tuple[list[Any], list[Any]]:
    """Run all parts; `batch_major` tells that xs and ys lie as (batch, time, ...) elsewhere."""
    jaxpr = parts.step.jaxpr.jaxpr
    env = begun(parts, consts, carry, xs)
    _over_time(parts, parts.ahead, env, runner)
    feeds = [(k, parts.feeds[v]) for k, v in enumerate(parts.core_xs) if v in parts.feeds]
    last, ys, _ = fed.run(
        parts.core,
        [env[v] for v in parts.core_consts],
        [carry[i] for i in parts.core_carry],
        [env[parts.feeds[v].x if v in parts.feeds else v] for v in parts.core_xs],
        [env[fold.weight] for _, fold in feeds],
        [fed.Fed(k, fold.transposed, fold.precision) for k, fold in feeds],
        length=length,
        reverse=reverse,
        unroll=unroll,
        runner=runner,
        swapped=_passed_on(parts) if batch_major else (),
    )
    carry = list(carry)
    for i, c in zip(parts.core_carry, last, strict=True):
        carry[i] = c
    # From here on a variable of the core stands for its values at all steps.
    env.update(zip(parts.core_ys, ys, strict=True))
    stacked = set(parts.core_ys) | {v for v, k in parts.kinds.items() if k == Kind.X}
    _over_time(parts, parts.after, env, runner, stacked)
    stacked.update(jaxprs.variables(parts.after.jaxpr.outvars))
    outputs = []
    for atom in jaxpr.outvars[parts.step.num_carry :]:
        value = jaxprs.read(env, atom)
        if isinstance(atom, Literal) or atom not in stacked:
            value = jnp.broadcast_to(value, (length, *jaxprs.aval(atom).shape))
        outputs.append(value)
    return carry, outputs


def _passed_on(parts: Split) -> tuple[int, ...]:
    """The xs and ys of the core, or what is multiplied for an x, that are those of the step."""
    step = parts.step.jaxpr.jaxpr
    ys = jaxprs.variables(step.outvars[parts.step.num_carry :])
    outside = {*step.invars[parts.step.first_x :], *ys}
    xs = [parts.feeds[v].x if v in parts.feeds else v for v in parts.core_xs]
    return tuple(k for k, v in enumerate((*xs, *parts.core_ys)) if v in outside)


def begun(
    parts: Split, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]
) -> dict[Var, Any]:
    """The arguments of the step, and what is made of its consts alone."""
    env: dict[Var, Any] = dict(
        zip(parts.step.jaxpr.jaxpr.invars, [*consts, *carry, *xs], strict=True)
    )
    outputs = jaxprs.evaluate(parts.once.jaxpr, _inputs(parts.once, env))
    env.update(zip(parts.once.jaxpr.outvars, outputs, strict=True))
    return env


def _inputs(part: ClosedJaxpr, env: dict[Var, Any]) -> dict[Var, Any]:
    return {v: env[v] for v in part.jaxpr.invars}


def _over_time(
    parts: Split,
    part: ClosedJaxpr,
    env: dict[Var, Any],
    runner: str | None,
    stacked: set[Var] | None = None,
) -> None:
    """Run `part` for all steps together, and put what it makes into `env`."""
    if not part.jaxpr.eqns:
        return
    if stacked is None:
        stacked = {v for v, k in parts.kinds.items() if k == Kind.X}

    def fold_product(eqn, operands):
        if products.is_plain(eqn) and parts.kinds[eqn.invars[1]] == Kind.CONST:
            a, w = operands
            w = w.T if products.weight_is_transposed(eqn) else w
            return [products.product(a, w, precision=eqn.params["precision"], runner=runner)]
        return [convolutions.convolved(eqn, *operands)] if convolutions.is_one(eqn) else None

    def one_step(*args):
        inner = dict(zip(part.jaxpr.invars, args, strict=True))
        return jaxprs.evaluate(part.jaxpr, inner, fold_product)

    axes = [0 if v in stacked else None for v in part.jaxpr.invars]
    outputs = jax.vmap(one_step, in_axes=axes)(*(env[v] for v in part.jaxpr.invars))
    env.update(zip(part.jaxpr.outvars, outputs, strict=True))
