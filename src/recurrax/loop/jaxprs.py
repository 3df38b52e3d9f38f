"""Small tools on jaxprs that every pass of the compiler uses."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType

from recurrax.loop import compat
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

Atom = Var | Literal
Rule = Callable[[JaxprEqn, list[Any]], list[Any] | None]


def variables(atoms: Iterable[Atom]) -> list[Var]:
    """The variables among `atoms`, each once, in order."""
    return list(dict.fromkeys(a for a in atoms if not isinstance(a, Literal)))


def aval(atom: Atom) -> Any:
    """The type of `atom`: shape and dtype."""
    return atom.aval


def is_float(aval: Any) -> bool:
    """Whether a value of this type has a gradient."""
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def nbytes(avals: Iterable[Any]) -> int:
    """Bytes of arrays of these types; a random key counts as its four words."""
    return sum(a.size * getattr(a.dtype, "itemsize", 16) for a in avals)


def subjaxpr(
    jaxpr: Jaxpr, invars: Sequence[Var], outvars: Sequence[Atom], eqns: Sequence[JaxprEqn]
) -> ClosedJaxpr:
    """Some equations of `jaxpr` as a program of their own."""
    effects = set().union(*(e.effects for e in eqns))
    return ClosedJaxpr(
        compat.replaced(
            jaxpr,
            constvars=(),
            invars=list(invars),
            outvars=list(outvars),
            eqns=list(eqns),
            effects=effects,
        ),
        [],
    )


def bind(jaxpr: Jaxpr, eqn: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """Apply one equation of `jaxpr` to `operands`, one for each of its invars."""
    values = {v: x for v, x in zip(eqn.invars, operands, strict=True) if not isinstance(v, Literal)}
    return jaxpr_as_fun(subjaxpr(jaxpr, list(values), eqn.outvars, [eqn]))(*values.values())


def read(env: Mapping[Var, Any], atom: Atom) -> Any:
    return atom.val if isinstance(atom, Literal) else env[atom]


def evaluate(
    jaxpr: Jaxpr,
    env: dict[Var, Any],
    rule: Rule | None = None,
    inline: Container[str] = compat.PLAIN_CALLS,
) -> list[Any]:
    """Run `jaxpr` in `env`, calls named in `inline` opened up.

    `rule(eqn, operands)` may answer for a top-level equation; None leaves it as it is.
    """
    for eqn in jaxpr.eqns:
        operands = [read(env, a) for a in eqn.invars]
        outputs = rule(eqn, operands) if rule is not None else None
        if outputs is None and eqn.primitive.name in inline:
            inner = compat.called_program(eqn)
            assert inner is not None
            outputs = called(inner, operands, inline=inline)
        if outputs is None:
            outputs = bind(jaxpr, eqn, operands)
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(env, a) for a in jaxpr.outvars]


def called(
    closed: ClosedJaxpr,
    args: Sequence[Any],
    rule: Rule | None = None,
    inline: Container[str] = compat.PLAIN_CALLS,
) -> list[Any]:
    """The outputs of `closed` for `args`, run as `evaluate` does."""
    env = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(closed.jaxpr.invars, args, strict=True))
    return evaluate(closed.jaxpr, env, rule, inline)


def inlined(
    closed: ClosedJaxpr, *, checkpoints: bool = False, derivatives: bool = False
) -> ClosedJaxpr:
    """Open up the calls in `closed`: `jit` and, where asked, checkpoints or all of them.

    A checkpoint must stay until it has said what to keep, and a custom derivative as long as the
    program may be differentiated; a runner never does that, and sees plain equations only.
    """
    inline = compat.ALL_CALLS if derivatives else compat.PLAIN_CALLS
    if checkpoints:
        inline = inline | frozenset(compat.CHECKPOINTS)
    if not any(eqn.primitive.name in inline for eqn in closed.jaxpr.eqns):
        return closed

    def flat(*args):
        return called(closed, args, inline=inline)

    return without_dead_code(jax.make_jaxpr(flat)(*closed.in_avals))


def without_printing(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` without its `jax.debug.print` and the like."""
    flat, tree = jax.tree.flatten(args)

    def of_flat(*flat: Any) -> Any:
        return function(*jax.tree.unflatten(tree, flat))

    closed, shapes = jax.make_jaxpr(of_flat, return_shape=True)(*flat)
    silent = ClosedJaxpr(compat.without_prints(closed.jaxpr), closed.consts)
    return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(silent)(*flat))


def holds(eqn: JaxprEqn, names: Container[str]) -> bool:
    """Whether `eqn`, or one inside it, is of a primitive among `names`."""
    return eqn.primitive.name in names or any(
        holds(inner, names) for program in compat.inner_programs(eqn) for inner in program.eqns
    )


def without_dead_code(closed: ClosedJaxpr) -> ClosedJaxpr:
    """`closed` without the equations that no output needs; its inputs stay."""
    used = [True] * len(closed.jaxpr.outvars)
    jaxpr, _ = compat.dce(closed.jaxpr, used, True)
    return ClosedJaxpr(jaxpr, closed.consts)


def pruned(
    body: Body, carry: Sequence[bool], ys: Sequence[bool]
) -> tuple[Body, list[int], list[int], list[int]]:
    """`body` cut down to what the wanted carries and ys need.

    Returns the smaller body and the indices of the consts, carries and xs it still takes; a carry
    that a wanted one depends on, at this step or a later one, stays.
    """
    jaxpr = body.jaxpr.jaxpr
    m, n = body.num_consts, body.num_consts + body.num_carry
    kept = list(carry)
    while True:
        small, used = compat.dce(jaxpr, [*kept, *ys], [False] * m + kept + [False] * body.num_xs)
        if used[m:n] == kept:
            break
        kept = used[m:n]
    consts, carries, xs = (
        [i for i, u in enumerate(part) if u] for part in (used[:m], used[m:n], used[n:])
    )
    small = Body(ClosedJaxpr(small, body.jaxpr.consts), len(consts), len(carries))
    return small, consts, carries, xs


def vmapped(
    function: Callable[..., Any], axis: Any, in_axes: Sequence[Any], out_axes: Any = 0
) -> Callable[..., Any]:
    """`jax.vmap` over the `axis` that a batching rule is told of."""
    return jax.vmap(
        function,
        in_axes=tuple(in_axes),
        out_axes=out_axes,
        axis_name=axis.name,
        axis_size=axis.size,
        spmd_axis_name=axis.spmd_name,
    )


def zeros(aval: Any) -> jax.Array:
    """Zeros of this type, which differ from device to device where those of the type may."""
    made, axes = jnp.zeros(aval.shape, aval.dtype), compat.varying_axes(aval)
    return lax.pcast(made, tuple(axes), to="varying") if axes else made


def strong(aval: Any) -> Any:
    """`aval` as the type of an array that is not a Python number."""
    return aval.update(weak_type=False) if getattr(aval, "weak_type", False) else aval


def sliced(aval: Any) -> Any:
    """The type of one step of a stack over time."""
    spec = aval.sharding.spec
    return aval.update(shape=aval.shape[1:], sharding=aval.sharding.update(spec=spec[1:]))


def is_divided(aval: Any) -> bool:
    """Whether the type itself says that devices hold parts of the array (explicit sharding)."""
    explicit = AxisType.Explicit in aval.sharding.mesh.axis_types
    return explicit and any(part is not None for part in aval.sharding.spec)


def stacked(avals: Sequence[Any], length: int) -> list[Any]:
    """The types of values of these types stacked over `length` steps."""
    return [a.update(shape=(length, *a.shape)) for a in avals]
