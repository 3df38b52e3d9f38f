"""Custom derivatives: what stands in the place of such a function once a loop is differentiated.

JAX then runs the rule's own forward part (`fwd` of `jax.custom_vjp`, the first result of a
`jax.custom_jvp` rule), and another derivative goes through that as through any other function. A
loop that kept the function itself would apply its rule a second time.
"""

from collections.abc import Container
from typing import Any

import jax

from recurrax.loop import compat, jaxprs
from recurrax.loop.body import Body
from recurrax.loop.compat import JaxprEqn, Var
from recurrax.loop.moving import moving_operands


def differentiated(body: Body, moves: Container[Var]) -> Body:
    """`body` with the forward part of the rules of all it computes from values that move."""
    jaxpr = body.jaxpr.jaxpr
    if not any(map(_has_rule, jaxpr.eqns)):
        return body

    def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
        moving = moving_operands(eqn, moves)
        if not moving or not _has_rule(eqn):
            return None

        def forward(*values: Any) -> list[Any]:
            given = dict(zip(moving, values, strict=True))
            return jaxprs.bind(jaxpr, eqn, [given.get(i, x) for i, x in enumerate(operands)])

        return jax.vjp(forward, *(operands[i] for i in moving))[0]

    def flat(*args: Any) -> list[Any]:
        return jaxprs.called(body.jaxpr, args, rule, inline=())

    closed = jaxprs.without_dead_code(jax.make_jaxpr(flat)(*body.jaxpr.in_avals))
    return Body(closed, body.num_consts, body.num_carry)


def _has_rule(eqn: JaxprEqn) -> bool:
    return jaxprs.holds(eqn, compat.DERIVATIVE_CALLS)
