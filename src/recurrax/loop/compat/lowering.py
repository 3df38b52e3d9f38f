"""Lowering: rules that make MLIR of a primitive, and what they are told of the program."""

import inspect
import math
from collections.abc import Callable
from typing import Any

from jax.interpreters import mlir as _mlir

from recurrax.loop.compat.programs import Primitive

# JAX lowers equal equations once, as a function; that it need not is said in a way that may change.
_LOWERS_APART = "cacheable" in inspect.signature(_mlir.register_lowering).parameters

lower_fun = _mlir.lower_fun


def register_lowering(
    primitive: Primitive,
    rule: Callable[..., Any],
    *,
    apart: bool = False,
) -> None:
    """`rule(context, *values, **params)` lowers `primitive`.

    Each equation is lowered where it stands, not once for all that are alike, where `apart`.
    """
    how: dict[str, Any] = {"cacheable": False} if apart and _LOWERS_APART else {}
    _mlir.register_lowering(primitive, rule, **how)


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
