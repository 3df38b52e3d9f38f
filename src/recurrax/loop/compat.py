"""Every use of what JAX does not promise to keep, and what each use relies on.

Nothing else here imports `jax.extend`, `jax.interpreters`, `jax.experimental` or `jax._src`, or
reads a field that JAX may rename. Tested with JAX 0.10.2 to 0.12 (`pyproject.toml`); a newer JAX
that lacks something is reported in one line when this module is imported.
"""

import functools
import inspect
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

TESTED = "0.10.2 to 0.12"

try:
    # What runs one primitive alone, and what divides a program under `jax.checkpoint`. Private, and
    # what the primitives of JAX itself use.
    from jax._src.dispatch import apply_primitive as _apply_primitive
    from jax._src.interpreters.partial_eval import partial_eval_jaxpr_custom as _divided

    # How XLA's partitioner is told of an operation, and tells of how arrays are divided.
    from jax._src.sharding_impls import GSPMDSharding as _GSPMDSharding
    from jax._src.sharding_impls import ShardingContext as _ShardingContext
    from jax.experimental import custom_partitioning as _partitioning

    # Programs as data. In JAX 0.10 a `ClosedJaxpr` holds a `Jaxpr` and its constants; since 0.11
    # both names mean one class, whose `jaxpr` is itself.
    from jax.extend.core import (
        ClosedJaxpr,
        Jaxpr,
        JaxprEqn,
        Literal,
        Primitive,
        Var,
        get_opaque_trace_state,
        jaxpr_as_fun,
        jaxprs_in_params,
    )
    from jax.interpreters import ad as _ad
    from jax.interpreters import batching as _batching
    from jax.interpreters import mlir as _mlir
    from jax.interpreters import partial_eval as _partial_eval
    from jaxlib import xla_client as _xla_client

    # What each rule below is entered in, looked for here so that a lack of it is said at once.
    _JVPS, _TRANSPOSES = _ad.primitive_jvps, _ad.primitive_transposes
    # Rules that are told about the axis. Public, but described nowhere.
    _BATCHERS = _batching.fancy_primitive_batchers
    # Rules of `jax.checkpoint` with a policy.
    _POLICY_RULES = _partial_eval.partial_eval_jaxpr_custom_rules
    _DCE_RULES = _partial_eval.dce_rules
    Zero, UndefinedPrimal = _ad.Zero, _ad.UndefinedPrimal
except (ImportError, AttributeError) as error:
    raise ImportError(
        f"recurrax is tested with JAX {TESTED}, and JAX {jax.__version__} lacks what it needs "
        f"({error}): install a version within these bounds, or a newer recurrax."
    ) from error

__all__ = [
    "ALL_CALLS",
    "CALLS",
    "CHECKPOINTS",
    "DERIVATIVE_CALLS",
    "NEWER",
    "PLAIN_CALLS",
    "TESTED",
    "ClosedJaxpr",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "Primitive",
    "UndefinedPrimal",
    "Var",
    "Zero",
    "get_opaque_trace_state",
    "jaxpr_as_fun",
    "jaxprs_in_params",
]

# Primitives that call a program, and the parameter that holds it. Those of versions that are no
# longer served cost nothing; one that is missing here is an equation that no pass looks into.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
}
CHECKPOINTS = {"remat2": "jaxpr", "checkpoint": "jaxpr"}
DERIVATIVE_CALLS = {
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}


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


# ---- programs ----


def is_program(value: Any) -> bool:
    """Whether a parameter of an equation is a program."""
    return isinstance(value, Jaxpr | ClosedJaxpr)


def closed(program: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    """`program` with its constants: none where it is a bare `Jaxpr`."""
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

    Relies on `Jaxpr.replace` and on `DebugInfo.with_unknown_names`.
    """
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


# ---- rules of primitives ----


def is_zero(tangent: Any) -> bool:
    """Whether a tangent or a cotangent is known to be zero."""
    return type(tangent) is Zero


instantiate_zeros = _ad.instantiate_zeros
is_undefined_primal = _ad.is_undefined_primal
define_bilinear = _ad.defbilinear
define_linear = _ad.deflinear2


def define_jvp(primitive: Primitive, rule: Callable[..., Any]) -> None:
    """`rule(primals, tangents, **params)` is the derivative; tangents may be `Zero`."""
    _JVPS[primitive] = rule


def jvp_of(primitive: Primitive) -> Callable[..., Any]:
    """The derivative that `primitive` has."""
    return _JVPS[primitive]


def define_transpose(primitive: Primitive, rule: Callable[..., Any]) -> None:
    """`rule(cotangents, *args, **params)`; linear arguments are `UndefinedPrimal`."""
    _TRANSPOSES[primitive] = rule


def define_batching(primitive: Primitive, rule: Callable[..., Any]) -> None:
    """`rule(axis, args, dims, **params)`, where `axis` has `size`, `name` and `spmd_name`.

    It is asked only where something is batched: `dims` holds None for what is not.
    """

    def batch(axis: Any, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> Any:
        if any(d is not None for d in dims):
            return rule(axis, args, dims, **params)
        outputs = primitive.bind(*args, **params)
        return outputs, [None] * len(outputs) if primitive.multiple_results else None

    _BATCHERS[primitive] = batch


def apply(primitive: Primitive) -> Callable[..., Any]:
    """What runs `primitive` outside a program, as JAX runs its own.

    Relies on `jax._src.dispatch.apply_primitive`, which compiles it alone, and does not call it
    again for `jax_debug_nans` or `jax_disable_jit`.
    """
    return functools.partial(_apply_primitive, primitive)


def define_policy_rule(primitive: Primitive, rule: Callable[..., Any]) -> None:
    """`rule(saveable, unknown, at_hand, eqn)` divides an equation under `jax.checkpoint`.

    Relies on `partial_eval.partial_eval_jaxpr_custom_rules`.
    """
    _POLICY_RULES[primitive] = rule


def define_dce(primitive: Primitive, rule: Callable[..., Any]) -> None:
    """`rule(used, eqn)` tells which arguments `eqn` reads for the results `used`, and what is left.

    Relies on `partial_eval.dce_rules`, whose rules JAX 0.12 tells about references in between.
    """
    _DCE_RULES[primitive] = lambda used, *rest: rule(used, rest[-1])


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


# ---- lowering ----

# JAX lowers equal equations once, as a function; that it need not is said in a way that may change.
_LOWERS_APART = "cacheable" in inspect.signature(_mlir.register_lowering).parameters

lower_fun = _mlir.lower_fun


def register_lowering(
    primitive: Primitive,
    rule: Callable[..., Any],
    *,
    platform: str | None = None,
    apart: bool = False,
) -> None:
    """`rule(context, *values, **params)` lowers `primitive`, for one `platform` or for all.

    Each equation is lowered where it stands, not once for all that are alike, where `apart`.
    """
    how: dict[str, Any] = {"cacheable": False} if apart and _LOWERS_APART else {}
    _mlir.register_lowering(primitive, rule, platform=platform, **how)


def is_exported(context: Any) -> bool:
    """Whether a program is lowered for `jax.export`, to run in another process.

    Relies on `ModuleContext.lowering_parameters.for_export`.
    """
    return bool(context.module_context.lowering_parameters.for_export)


def keep_alive(context: Any, needed: Any) -> None:
    """Let JAX refer to `needed` as long as it does to the program that is being lowered.

    Relies on `ModuleContext.add_keepalive`.
    """
    context.module_context.add_keepalive(needed)


def platforms_of(context: Any) -> tuple[str, ...]:
    """The platforms that a program is lowered for.

    Relies on `LoweringRuleContext.platforms`, set where it is for some of several, and on
    `ModuleContext.platforms`.
    """
    return tuple(context.platforms or context.module_context.platforms)


def divided_over(context: Any) -> tuple[int, bool]:
    """How many devices XLA divides the arrays of a program over by itself, and whether the program
    divides them over others (inside `jax.shard_map`).

    Relies on `ModuleContext.axis_context`, and on its `num_devices`, or `mesh` and `manual_axes`.
    """
    axes = context.module_context.axis_context
    mesh = getattr(axes, "mesh", None)
    if mesh is None:
        return getattr(axes, "num_devices", 1), False
    left = [size for name, size in mesh.shape.items() if name not in manual_axes(context)]
    return math.prod(left), True


def manual_axes(context: Any) -> frozenset[str]:
    """The axes of a mesh over which a program divides arrays by itself; relies on the same."""
    return frozenset(getattr(context.module_context.axis_context, "manual_axes", ()))


def transposed_operand(value: Any) -> tuple[Any, list[int]] | None:
    """What the MLIR `value` is a transpose of, and its permutation; None where it is none.

    Relies on `owner` of a value, and on the name and the attribute of `stablehlo.transpose`.
    """
    operation: Any = getattr(value, "owner", None)
    if getattr(operation, "name", None) != "stablehlo.transpose":
        return None
    return operation.operands[0], list(operation.attributes["permutation"])


# ---- partitioning ----

# For each axis of an array into how many parts it is cut, and a last axis for the devices that have
# the same part: the numbers of the devices in a program; None where each device has all of it.
Tiles = np.ndarray | None


def lower_partitioned(
    context: Any,
    args: Sequence[Any],
    function: Callable[..., list[Any]],
    *,
    devices: Sequence[Any],
    axis: str,
    factors: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    whole: Sequence[str],
    partition: Callable[..., tuple[Callable[..., list[Any]], list[Tiles], list[Tiles]]],
) -> Any:
    """Lower `function(*args)` as an operation that XLA's partitioner asks for its parts.

    `factors` names each axis of arguments and results: those of one name are divided alike, those
    in `whole` not at all. Once XLA knows how it would divide them, `partition(arguments, results)`,
    pairs of a shape and its `Tiles`, returns the function of one device, whose collectives name
    `axis`, and how arguments and results are divided. Results are None where it asks for theirs.

    Relies on `custom_partitioning` with `decode_shardings=False`, which needs no mesh (a program
    may have several), on its asking the axis context for devices (of which only the number
    matters), and on `owner` of an MLIR value.
    """
    mesh = Mesh(np.array(devices), (axis,))

    def shardings(tiles: list[Tiles]) -> list[Any]:
        return [_GSPMDSharding(tuple(devices), _hlo_sharding(t)) for t in tiles]

    def read(arrays: Sequence[Any]) -> list[tuple[tuple[int, ...], Tiles]]:
        return [(a.shape, _tiles(getattr(a.sharding, "_hlo_sharding", None))) for a in arrays]

    def infer(_: Any, arguments: Sequence[Any], results: Sequence[Any]) -> list[Any]:
        del results
        return shardings(partition(read(arguments), None)[2])

    def parts(_: Any, arguments: Sequence[Any], results: Sequence[Any]) -> Any:
        run, ins, outs = partition(read(arguments), read(results))
        return mesh, run, shardings(outs), tuple(shardings(ins))

    mappings = [tuple(_partitioning.ArrayMapping(*names) for names in arrays) for arrays in factors]
    operation = _partitioning.custom_partitioning(lambda *args: function(*args))
    operation.def_partition(
        parts,
        infer_sharding_from_operands=infer,
        sharding_rule=_partitioning.SdyShardingRule(
            *mappings, need_replication_factors=tuple(whole)
        ),
        decode_shardings=False,
    )
    axes = _ShardingContext(len(devices), tuple(devices))
    module = context.module_context.replace(axis_context=axes)
    results = lower_fun(operation)(context.replace(module_context=module), *args)
    # JAX's cache on disk knows the operation by an address, which may come to be another's; and
    # what is found there lacks the kernels, which are made when its parts are asked for.
    name = {"recurrax_operation": uuid.uuid4().hex}
    results[0].owner.attributes["mhlo.frontend_attributes"] = _mlir.ir_attribute(name)
    return results


def _tiles(sharding: Any) -> Tiles:
    """How `HloSharding` says that an array is divided, where devices hold equal parts of it."""
    kinds = _xla_client.OpSharding.Type
    if sharding is None or not sharding.is_tiled():
        return None
    if any(kind != kinds.REPLICATED for kind in sharding.subgroup_types()):
        return None
    sizes = sharding.tile_assignment_dimensions()
    devices = np.array(sharding.tile_assignment_devices()).reshape(sizes)
    shared = sharding.subgroup_types() or sharding.replicate_on_last_tile_dim()
    return devices if shared else devices[..., None]


def _hlo_sharding(tiles: Tiles) -> Any:
    if tiles is None:
        return _xla_client.HloSharding.replicate()
    kinds = _xla_client.OpSharding.Type
    return _xla_client.HloSharding.subgroup_with_device_ordering(tiles, [kinds.REPLICATED])
