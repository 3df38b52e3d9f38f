"""Primitives that hold several operations together until lowering.

What lowers one may do all of it at once, if it has a way. Differentiated, batched or run eagerly,
such a primitive is its parts.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from recurrax.loop import compat, jaxprs, linear, lowering
from recurrax.loop.compat import ClosedJaxpr, JaxprEqn, Primitive

Function = Callable[..., Sequence[Any]]
_made: set[Primitive] = set()


def parts(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """What an equation holds together, if that is what it does."""
    if eqn.primitive not in _made:
        return None
    in_parts = functools.partial(eqn.primitive.impl, **eqn.params)
    return jax.make_jaxpr(in_parts)(*(v.aval for v in eqn.invars))


def jvp_of(in_parts: Function) -> Callable[..., Any]:
    """The derivative of a primitive that is `in_parts(*args, **params)`: that of its parts."""

    def jvp(primals, tangents, **params):
        moving = [i for i, t in enumerate(tangents) if not compat.is_zero(t)]

        def of_moving(*values):
            args = list(primals)
            for i, value in zip(moving, values, strict=True):
                args[i] = value
            return in_parts(*args, **params)

        return jax.jvp(of_moving, [primals[i] for i in moving], [tangents[i] for i in moving])

    return jvp


def primitive(
    name: str,
    in_parts: Function,
    at_once: Callable[..., Sequence[Any] | None],
    avals: Function,
    batched: Callable[..., Sequence[bool]],
    of_loop: bool = False,
) -> Primitive:
    """A primitive of several results that is `in_parts(*args, **params)`.

    Lowering calls `at_once`, which returns None where there is no such way. `avals` tells the types
    of the results, and `batched(given, **params)` which of them are batched where those of the
    arguments are that `given` marks. A primitive `of_loop` is lowered with regard to how its stacks
    lie (`lowering.stacks_of`): in parts, it is `in_parts(..., machine=machine)`.
    """
    made = Primitive(name)
    made.multiple_results = True
    _made.add(made)

    def lowered(*args, machine, **params):
        found = at_once(*args, machine=machine, **params)
        if found is not None:
            return found
        return in_parts(*args, **params, **({"machine": machine} if of_loop else {}))

    def batch(axis, args, dims, **params):
        marks = batched([d is not None for d in dims], **params)
        function = functools.partial(in_parts, **params)
        outputs = jaxprs.vmapped(function, axis, dims, [0 if b else None for b in marks])(*args)
        return outputs, [0 if b else None for b in marks]

    made.def_abstract_eval(avals)
    made.def_impl(in_parts)
    lowering.register(made, lowered, of_loop=of_loop, instead=in_parts)
    compat.define_batching(made, batch)
    compat.define_jvp(made, jvp_of(in_parts))
    linear.define_transpose(made)
    return made
