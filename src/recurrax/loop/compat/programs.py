"""Programs as data: what the passes read, and how they are taken apart."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# What divides a program under `jax.checkpoint`. Private, and what JAX's own loops use.
from jax._src.interpreters.partial_eval import partial_eval_jaxpr_custom as _divided

# In JAX 0.10 a `ClosedJaxpr` holds a `Jaxpr` and its constants; since 0.11 both names mean one
# class, whose `jaxpr` is itself.
from jax.extend.core import (
    ClosedJaxpr as ClosedJaxpr,
)
from jax.extend.core import (
    Jaxpr as Jaxpr,
)
from jax.extend.core import (
    JaxprEqn as JaxprEqn,
)
from jax.extend.core import (
    Literal as Literal,
)
from jax.extend.core import (
    Primitive as Primitive,
)
from jax.extend.core import (
    Var as Var,
)
from jax.extend.core import (
    get_opaque_trace_state as get_opaque_trace_state,
)
from jax.extend.core import (
    jaxpr_as_fun as jaxpr_as_fun,
)
from jax.extend.core import (
    jaxprs_in_params as jaxprs_in_params,
)
from jax.interpreters import partial_eval as _partial_eval

# Primitives that call a program, and the parameter that holds it. Those of versions that are no
# longer served cost nothing; one that is missing here is an equation that no pass looks into.
CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
}
CHECKPOINTS = {"remat2": "jaxpr"}
DERIVATIVE_CALLS = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def _polynomial(x: Any, *coefficients: Any, **_: Any) -> Any:
    """By Horner's rule; the first coefficient is the constant one."""
    found = jnp.broadcast_to(coefficients[-1], jnp.shape(x))
    for c in coefficients[-2::-1]:
        found = found * x + c
    return found


# Primitives that are newer than the oldest JAX served, in its words: they are opened like calls.
NEWER: dict[str, Callable[..., Any]] = {
    "log2": lambda x, **_: lax.log(x) * (1 / math.log(2)),
    "one_minus_square": lambda x: 1 - x * x,
    "polynomial": _polynomial,
}
PLAIN_CALLS = frozenset((*CALLS, *NEWER))
ALL_CALLS = PLAIN_CALLS | frozenset((*CHECKPOINTS, *DERIVATIVE_CALLS))


def is_program(value: Any) -> bool:
    """Whether a parameter of an equation is a program."""
    return isinstance(value, Jaxpr | ClosedJaxpr)


def is_high(eqn: JaxprEqn) -> bool:
    """Whether JAX opens an equation only when it lowers it (`custom_root`, since 0.11).

    A primitive of ours cannot hold such a one. Relies on `Primitive.is_high`.
    """
    tell = getattr(eqn.primitive, "is_high", None)
    return tell is not None and bool(tell(*(v.aval for v in eqn.invars), **eqn.params))


def closed(program: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    """`program` with its constants; a bare `Jaxpr` must have no variables for them."""
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, [])


def called_program(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The program that `eqn` calls or is short for; None where it is neither."""
    name = eqn.primitive.name
    if name in NEWER:
        return _in_older_words(name, tuple(eqn.params.items()), *(v.aval for v in eqn.invars))
    parameter = {**CALLS, **CHECKPOINTS, **DERIVATIVE_CALLS}.get(name)
    return None if parameter is None else closed(eqn.params[parameter])


@functools.lru_cache(maxsize=256)
def _in_older_words(name: str, params: tuple[tuple[str, Any], ...], *avals: Any) -> ClosedJaxpr:
    return jax.make_jaxpr(functools.partial(NEWER[name], **dict(params)))(*avals)


def scan_counts(scan: Mapping[str, Any]) -> tuple[int, int]:
    """How many consts and how many carries a `scan` with these parameters has.

    JAX 0.10 says it in `num_consts` and `num_carry`; later versions have a tree `ft_in` of three
    parts, of which only the lengths are read here.
    """
    if "ft_in" not in scan:
        return scan["num_consts"], scan["num_carry"]
    consts, carry, _ = scan["ft_in"].unpack()
    return len(consts), len(carry)


def replaced(jaxpr: Jaxpr, **parts: Any) -> Jaxpr:
    """`jaxpr` with other variables or equations, and the names of its arguments left open.

    Relies on `Jaxpr.replace`, `DebugInfo.with_unknown_names`, and on `Jaxpr.is_high`, which stays
    where it is not said anew.
    """
    if "eqns" in parts and getattr(jaxpr, "is_high", False):
        parts["is_high"] = any(map(is_high, parts["eqns"]))
    return jaxpr.replace(**parts, debug_info=jaxpr.debug_info.with_unknown_names())


def dce(
    jaxpr: Jaxpr, outputs: Sequence[bool], inputs: bool | Sequence[bool]
) -> tuple[Jaxpr, list[bool]]:
    """`jaxpr` without the equations that the `outputs` do not need, and which inputs it still uses.

    Inputs marked in `inputs` stay. Relies on `partial_eval.dce_jaxpr`.
    """
    return _partial_eval.dce_jaxpr(jaxpr, list(outputs), inputs)


def inner_programs(eqn: JaxprEqn) -> list[Jaxpr]:
    """The programs that `eqn` holds; rules of custom derivatives are none."""
    return list(jaxprs_in_params(eqn.params))


def without_prints(jaxpr: Jaxpr) -> Jaxpr:
    """`jaxpr` without `jax.debug.print` and its like, in the programs inside it too.

    Relies on `JaxprEqn.replace`, and on programs standing in parameters as such or in tuples.
    """
    if not any(map(is_debug, jaxpr.effects)):
        return jaxpr

    def changed(value: Any) -> Any:
        if isinstance(value, Jaxpr):
            return without_prints(value)
        if isinstance(value, ClosedJaxpr):
            return ClosedJaxpr(without_prints(value.jaxpr), value.consts)
        return tuple(map(changed, value)) if isinstance(value, tuple) else value

    eqns = []
    for eqn in jaxpr.eqns:
        if any(map(is_debug, eqn.effects)):
            if not inner_programs(eqn):
                continue
            params = {name: changed(value) for name, value in eqn.params.items()}
            eqn = eqn.replace(params=params, effects=_no_prints(eqn.effects))
        eqns.append(eqn)
    return replaced(jaxpr, eqns=eqns, effects=_no_prints(jaxpr.effects))


def _no_prints(effects: Any) -> set[Any]:
    return {e for e in effects if not is_debug(e)}


def custom_jvp_rule(eqn: JaxprEqn) -> tuple[Any, Callable[[], tuple[Any, Any, Any]]]:
    """What tells the rule of a `custom_jvp_call` from others, and what traces it.

    Relies on its parameter `jvp_jaxpr_fun`, whose `call_wrapped` takes a flag for each argument
    (whether its tangent is zero) and returns a program, its constants, and which results are zero.
    """
    rule = eqn.params["jvp_jaxpr_fun"]
    flags = [False] * len(eqn.invars)
    return rule.debug_info.func_src_info, lambda: rule.call_wrapped(*flags)


def parameters(eqn: JaxprEqn) -> dict[str, Any]:
    """The parameters of `eqn` that two traces of one function have in common."""
    return {name: value for name, value in eqn.params.items() if name != "jvp_jaxpr_fun"}


def is_debug(effect: Any) -> bool:
    """Whether an effect is that of `jax.debug.print` and its like, which may be left out.

    Relies on the names of their types (`DebugEffect`, `OrderedDebugEffect`), which are private.
    """
    return "Debug" in type(effect).__name__


def varying_axes(aval: Any) -> frozenset[str]:
    """The mesh axes along which values of this type may differ (inside `jax.shard_map`).

    Relies on `ShapedArray.manual_axis_type.varying`.
    """
    return frozenset(aval.manual_axis_type.varying)


def varying_as(aval: Any, other: Any) -> Any:
    """`aval`, differing along the mesh axes of `other`."""
    return aval.update(manual_axis_type=other.manual_axis_type)


def divided_by_policy(
    jaxpr: Jaxpr, at_hand: Sequence[bool], saveable: Callable[..., Any]
) -> tuple[Jaxpr, Jaxpr, list[bool], int]:
    """The two halves of `jaxpr` under `jax.checkpoint`, all of its inputs being known.

    Returns the first half, with the values kept as further outputs; the half done again, with
    those as its first inputs; which outputs this makes (at least those `at_hand`); and how many
    values are kept. Relies on `jax._src.interpreters.partial_eval.partial_eval_jaxpr_custom`.
    """
    none = [False] * len(jaxpr.invars)
    asked = [False] * len(jaxpr.outvars), list(at_hand)
    first, again, _, made, kept = _divided(jaxpr, none, True, *asked, saveable)
    return first, again, list(made), kept
