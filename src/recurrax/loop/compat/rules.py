"""Rules of primitives: derivatives, batching, what `jax.checkpoint` and dead code make of them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

# What runs one primitive alone. Private, and what the primitives of JAX itself use.
from jax._src.dispatch import apply_primitive as _apply_primitive
from jax.interpreters import ad as _ad
from jax.interpreters import batching as _batching
from jax.interpreters import partial_eval as _partial_eval

from recurrax.loop.compat.programs import Primitive

# What each rule below is entered in.
_JVPS, _TRANSPOSES = _ad.primitive_jvps, _ad.primitive_transposes
# Rules that are told about the axis. Public, but described nowhere.
_BATCHERS = _batching.fancy_primitive_batchers
# Rules of `jax.checkpoint` with a policy.
_POLICY_RULES = _partial_eval.partial_eval_jaxpr_custom_rules
_DCE_RULES = _partial_eval.dce_rules
Zero, UndefinedPrimal = _ad.Zero, _ad.UndefinedPrimal


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
