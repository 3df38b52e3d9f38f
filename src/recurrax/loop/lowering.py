"""Lowering: how the primitives here become programs, and what is seen of what surrounds them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Primitive
from jax.interpreters import mlir

from recurrax.loop.body import Body, Gathered, Multiplied

# JAX lowers equal equations once, as a function; that it need not is said in a way that may change.
_LOWERS_APART = "cacheable" in inspect.signature(mlir.register_lowering).parameters


def register(
    primitive: Primitive,
    function: Callable[..., Any],
    stacks: Callable[..., Mapping[int, int]] | None = None,
    **how: Any,
) -> None:
    """Lower `primitive` as `function(*args, runner, ...)`.

    A program that is exported is to run elsewhere, where no kernel of this process is: what a plan
    chooses there is XLA. `stacks` maps arguments to the numbers of stacks, of which those that the
    program turned from (batch, time, ...) itself join the `swapped`. To see that, each equation is
    lowered where it stands, not once for all that are alike.
    """
    rule = mlir.lower_fun(function, **how)

    def lower(context: Any, *args: Any, runner: str | None, **params: Any) -> Any:
        if stacks is not None:
            turned = {number for k, number in stacks(**params).items() if _is_turned(args[k])}
            params["swapped"] = tuple(sorted({*params["swapped"], *turned}))
        exported = context.module_context.lowering_parameters.for_export
        return rule(context, *args, runner=runner or ("xla" if exported else None), **params)

    apart: dict[str, Any] = {"cacheable": False} if stacks is not None and _LOWERS_APART else {}
    mlir.register_lowering(primitive, lower, **apart)


def stacks_of(
    *,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    trailers: Sequence[Gathered | Multiplied] = (),
    **params: Any,
) -> dict[int, int]:
    """The arguments of a loop that are stacks, and their numbers: the xs, and after all ys what
    else its `trailers` read."""
    del params
    body = Body(jaxpr, num_consts, num_carry)
    end, after = body.first_x + body.num_xs, body.num_xs + body.num_ys
    read = {t.left for t in trailers} | {t.right for t in trailers if isinstance(t, Gathered)}
    found = {body.first_x + k: k for k in range(body.num_xs)}
    return found | {end + k - after: k for k in read if k >= after}


def _is_turned(value: Any) -> bool:
    """Whether a stack is (batch, time, ...) with its first two axes swapped, and only that."""
    made = _transposed(value)
    return made is not None and _transposed(made) is None


def _transposed(value: Any) -> Any | None:
    """What `value` swaps the first two of three axes or more of, if that is how it is made."""
    operation: Any = getattr(value, "owner", None)
    if getattr(operation, "name", None) != "stablehlo.transpose":
        return None
    order = list(operation.attributes["permutation"])
    return operation.operands[0] if order == [1, 0, *range(2, max(len(order), 3))] else None
