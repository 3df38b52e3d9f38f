"""Custom derivatives: what stands in the place of such a function once a loop is differentiated.

JAX then runs the rule's own forward part (`fwd` of `jax.custom_vjp`, the first result of a
`jax.custom_jvp` rule), and another derivative goes through that as through any other function. A
loop that kept the function itself would apply its rule a second time.
"""

from collections.abc import Sequence
from typing import Any

import jax

from recurrax.loop import compat, jaxprs
from recurrax.loop.body import Body
from recurrax.loop.compat import JaxprEqn
from recurrax.loop.primitive import depends


def differentiated(body: Body, wanted: Sequence[bool]) -> Body:
    """`body` with the forward part of the rules of all it computes from the `wanted` inputs."""
    jaxpr = body.jaxpr.jaxpr
    if not any(map(_has_rule, jaxpr.eqns)):
        return body
    inputs, _ = depends(jaxpr, wanted, body.num_consts, body.num_carry)
    marked = {v for v, m in zip(jaxpr.invars, inputs, strict=True) if m}

    def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
        depending = {v for v in jaxprs.variables(eqn.invars) if v in marked}
        if not depending:
            return None
        marked.update(eqn.outvars)
        if not _has_rule(eqn):
            return None
        floats = [v for v in depending if jaxprs.is_float(jaxprs.aval(v))]
        moving = [i for i, v in enumerate(eqn.invars) if any(v is f for f in floats)]

        def forward(*values: Any) -> list[Any]:
            given = dict(zip(moving, values, strict=True))
            return jaxprs.bind(jaxpr, eqn, [given.get(i, x) for i, x in enumerate(operands)])

        return jax.vjp(forward, *(operands[i] for i in moving))[0]

    def flat(*args: Any) -> list[Any]:
        return jaxprs.called(body.jaxpr, args, rule, inline=())

    closed = jaxprs.without_dead_code(jax.make_jaxpr(flat)(*body.jaxpr.in_avals))
    return Body(closed, body.num_consts, body.num_carry)


def _has_rule(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name in compat.DERIVATIVE_CALLS or any(
        _has_rule(inner)
        for held in eqn.params.values()
        for part in (held if isinstance(held, tuple | list) else (held,))
        if compat.is_program(part)
        for inner in part.eqns
    )
