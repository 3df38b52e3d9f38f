"""Lowering: how the primitives here become programs, and what is seen of what surrounds them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from recurrax.loop import compat, fallback, holding, partitioning
from recurrax.loop.body import Body, Gathered, Multiplied
from recurrax.loop.compat import ClosedJaxpr, Primitive
from recurrax.loop.machine import Machine


def register(
    primitive: Primitive,
    function: Callable[..., Any],
    of_loop: bool = False,
    instead: Callable[..., Any] | None = None,
    **how: Any,
) -> None:
    """Lower `primitive` as `function(*args, runner, machine, ...)`.

    A program that is exported is to run elsewhere, where no kernel of this process is: what a plan
    chooses there is XLA. Of a primitive `of_loop`, the arguments that are stacks and that the
    program turned from (batch, time, ...) itself join the `swapped`: to see that, each equation is
    lowered where it stands, not once for all that are alike. And where XLA divides arrays over
    several devices, each of them runs the loop over rows of its own, if there is a way.

    Where that fails, the primitive is lowered as `instead(*args, runner, ...)`, or, for want of
    that, as the runner "xla" has it.
    """
    rule = compat.lower_fun(function, **how)
    other_rule = None if instead is None else compat.lower_fun(instead, **how)

    def lower(context: Any, *args: Any, runner: str | None = None, **params: Any) -> Any:
        def attempt() -> Any:
            return lowered(context, *args, runner=runner, **params)

        def plainly() -> Any:
            if other_rule is not None:
                return other_rule(context, *args, runner=runner, **params)
            return rule(context, *args, runner="xla", machine=machine_of(context), **params)

        by = "by XLA" if other_rule is None else "part by part"
        return fallback.guarded(attempt, plainly, f"lowering `{primitive}`", by)

    def lowered(context: Any, *args: Any, runner: str | None, **params: Any) -> Any:
        machine = machine_of(context)
        if runner is None and compat.is_exported(context):
            runner = "xla"
        if of_loop:
            stacks = stacks_of(**params).items()
            turned = {number for k, number in stacks if _is_turned(args[k])}
            params["swapped"] = tuple(sorted({*params["swapped"], *turned}))
            if machine.is_divided:
                given = primitive, context.avals_in, runner, machine, params
                attempt = functools.partial(partitioning.divided, *given)
                found = fallback.guarded(
                    attempt, lambda: "xla", "dividing a loop over devices", "by XLA"
                )
                if isinstance(found, partitioning.Divided):
                    return partitioning.lower(context, args, found, machine)
                runner = found or runner
        with holding.collected() as held:
            results = rule(context, *args, runner=runner, machine=machine, **params)
        for needed in held:
            compat.keep_alive(context, needed)
        if partitioning.is_part(context):
            partitioning.keep(held)
        return results

    compat.register_lowering(primitive, lower, apart=of_loop)


def machine_of(context: Any) -> Machine:
    """What the program is made for that is being lowered."""
    platforms = compat.platforms_of(context)
    devices, in_part = compat.divided_over(context)
    return Machine(platforms[0] if len(platforms) == 1 else None, devices, in_part)


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
    operand, order = compat.transposed_operand(value) or (None, [])
    return operand if order == [1, 0, *range(2, max(len(order), 3))] else None
