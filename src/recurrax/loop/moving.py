"""Moving: which values of a step change when the inputs that are differentiated do.

Only these are asked for a derivative. A callback, or a loop with an open number of turns, has none,
which is no error where none of them goes in.
"""

from collections.abc import Container, Sequence
from typing import Any

import jax

from recurrax.loop import jaxprs, operations
from recurrax.loop.body import Body
from recurrax.loop.compat import JaxprEqn, Literal, Var


def moving(body: Body, wanted: Sequence[bool]) -> frozenset[Var]:
    """The values of `body` that move with the `wanted` inputs, at some step of the loop."""
    jaxpr = body.jaxpr.jaxpr
    marks = list(wanted)
    while True:
        moves = {
            v for v, m in zip(jaxpr.invars, marks, strict=True) if m and jaxprs.is_float(v.aval)
        }
        for eqn in jaxpr.eqns:
            moves.update(_moved(jaxpr, eqn, moves))
        before = list(marks)
        for i, out in enumerate(jaxpr.outvars[: body.num_carry], body.num_consts):
            marks[i] = marks[i] or (not isinstance(out, Literal) and out in moves)
        if marks == before:
            return frozenset(moves)


def moving_operands(eqn: JaxprEqn, moves: Container[Var]) -> list[int]:
    """The places of the operands of `eqn` that move."""
    return [i for i, v in enumerate(eqn.invars) if not isinstance(v, Literal) and v in moves]


def _moved(jaxpr: Any, eqn: JaxprEqn, moves: Container[Var]) -> list[Var]:
    """The results of `eqn` that move."""
    places = moving_operands(eqn, moves)
    floats = [v for v in eqn.outvars if jaxprs.is_float(v.aval)]
    if not places or not floats or eqn.primitive.name in operations.SMOOTH:
        return floats if places else []
    found: list[Var] = []

    def noted(out: Var, value: Any) -> Any:
        same = jax.custom_jvp(lambda v: v)

        @same.defjvp
        def _(
            primals: Any, tangents: Any
        ) -> Any:  # is not asked where the tangent is known as zero
            found.append(out)
            return primals[0], tangents[0]

        return same(value)

    def tangents(*operands: Any) -> Any:
        def of_moving(*values: Any) -> list[Any]:
            given = list(operands)
            for i, value in zip(places, values, strict=True):
                given[i] = value
            made = jaxprs.bind(jaxpr, eqn, given)
            outs = zip(eqn.outvars, made, strict=True)
            return [noted(v, y) for v, y in outs if jaxprs.is_float(v.aval)]

        moved = [operands[i] for i in places]
        return jax.jvp(of_moving, moved, moved)

    jax.eval_shape(tangents, *(jaxprs.aval(v) for v in eqn.invars))
    return found
