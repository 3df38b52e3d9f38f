"""Lowering: how the primitives here become programs, and what is seen of what surrounds them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recurrax.loop import compat, holding
from recurrax.loop.body import Body, Gathered, Multiplied
from recurrax.loop.compat import ClosedJaxpr, Primitive


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
    rule = compat.lower_fun(function, **how)

    def lower(context: Any, *args: Any, runner: str | None, **params: Any) -> Any:
        if stacks is not None:
            turned = {number for k, number in stacks(**params).items() if _is_turned(args[k])}
            params["swapped"] = tuple(sorted({*params["swapped"], *turned}))
        exported = compat.is_exported(context)
        with holding.collected() as held:
            results = rule(context, *args, runner=runner or ("xla" if exported else None), **params)
        for needed in held:
            compat.keep_alive(context, needed)
        return results

    compat.register_lowering(primitive, lower, apart=stacks is not None)


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
