"""Forward mode: the tangents of a loop, by its backward pass turned round.

The backward pass is linear in the cotangents, and its transpose is the derivative itself: the loop
that it becomes (`linear.py`) is compiled like any other.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from recurrax.loop import compat, jaxprs, together
from recurrax.loop.compat import Primitive, UndefinedPrimal


def define(
    tangent_p: Primitive, transpose: Callable[..., Any], num_moving: Callable[..., int]
) -> None:
    """Let `tangent_p` be run, lowered, batched and differentiated, given its `transpose`.

    Its last arguments are the tangents that go in: as many as `num_moving(**params)` says.
    """

    def in_parts(*args: Any, **params: Any) -> list[Any]:
        count = len(args) - num_moving(**params)
        read, moving = args[:count], args[count:]

        def back(*cts: Any) -> list[Any]:
            unknown = [UndefinedPrimal(jax.typeof(t)) for t in moving]
            made = transpose(cts, *read, *unknown, **params)[count:]
            return [compat.instantiate_zeros(ct) for ct in made]

        outputs = tangent_p.abstract_eval(*map(jax.typeof, args), **params)[0]
        return list(jax.linear_transpose(back, *map(jaxprs.strong, outputs))(list(moving)))

    def batch(axis: Any, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> Any:
        outputs = jaxprs.vmapped(functools.partial(in_parts, **params), axis, dims)(*args)
        return outputs, [0] * len(outputs)

    tangent_p.def_impl(compat.apply(tangent_p))
    compat.register_lowering(tangent_p, compat.lower_fun(in_parts))
    compat.define_batching(tangent_p, batch)
    compat.define_jvp(tangent_p, together.jvp_of(in_parts))
    compat.define_transpose(tangent_p, transpose)
