"""Look-ups: rows of a table picked by integers, and the products that can be done on the table.

`table[i] @ W` is `(table @ W)[i]`: a table of fewer rows than the loop looks up is multiplied once,
as a whole, and so is added to. What is left of `x_t W + b` behind an embedding is then one look-up,
which stays in the loop, and its gradient is each row's share of the cotangents, added up after it.
"""

from typing import Any

import jax
from jax import Array

from recurrax.loop import jaxprs, operations, products
from recurrax.loop.body import Body
from recurrax.loop.compat import JaxprEqn, Literal, Var


def look_up(eqn: JaxprEqn) -> tuple[Var, Var] | None:
    """The table and the indices, if `eqn` picks rows: (rows, n) and (..., 1) to (..., n)."""
    variables = jaxprs.variables(eqn.invars)
    if eqn.primitive.name != "gather" or len(variables) < 2:
        return None
    table, index = variables
    found = operations.picks_rows(eqn.params, jaxprs.aval(table).shape, jaxprs.aval(index).shape)
    return (table, index) if found else None


def worked_ahead(body: Body, length: int) -> Body:
    """`body` with products and sums of look-ups done on the table, where that is less work.

    A table pays if it has at most half as many rows as `length` steps look up.
    """
    jaxpr = body.jaxpr.jaxpr
    still = set(jaxpr.invars[: body.num_consts])
    found: dict[Var, JaxprEqn] = {}
    ahead: set[int] = set()
    for eqn in jaxpr.eqns:
        reads = jaxprs.variables(eqn.invars)
        if reads and all(v in still for v in reads) and not eqn.effects:
            still.update(eqn.outvars)
        elif (pair := look_up(eqn)) is not None and pair[0] in still and _pays(*pair, length):
            found[eqn.outvars[0]] = eqn
        elif any(v in found for v in reads) and (source := _operand(eqn, found, still)) is not None:
            found[eqn.outvars[0]] = found[source]
            ahead.add(id(eqn))
    if not ahead:
        return body

    def flat(*args: Any) -> list[Any]:
        tables: dict[Var, tuple[Array, Array]] = {}  # of each look-up: the table and the indices

        def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
            if not any(v in found for v in eqn.outvars):
                return None
            (out,) = eqn.outvars
            if id(eqn) not in ahead:
                tables[out] = (operands[0], operands[1])
                return None
            side, table, index = next(
                (side, *tables[v])
                for side, v in enumerate(jaxprs.variables(eqn.invars))
                if v in tables
            )
            other = operands[1 - side]
            if eqn.primitive.name in operations.SUMS:
                table = table + other.reshape(other.shape[-1:])
            else:
                table = eqn.primitive.bind(table, other, **_on_a_matrix(eqn))
            tables[out] = (table, index)
            return [_taken(found[out], table, index)]

        return jaxprs.called(body.jaxpr, args, rule)

    closed = jaxprs.without_dead_code(jax.make_jaxpr(flat)(*body.jaxpr.in_avals))
    return Body(closed, body.num_consts, body.num_carry)


def _pays(table: Var, index: Var, length: int) -> bool:
    looked_up = length * jaxprs.aval(index).size
    known = isinstance(looked_up, int)  # as an exported program's is not
    return known and 2 * jaxprs.aval(table).shape[0] <= looked_up


def _operand(eqn: JaxprEqn, found: dict[Var, JaxprEqn], still: set[Var]) -> Var | None:
    """The looked-up operand of a product or sum with a value that is the same for all of them."""
    if products.is_plain(eqn):
        a, w = eqn.invars
        return a if a in found and w in still else None
    if eqn.primitive.name in operations.SUMS:
        for value, other in (eqn.invars, eqn.invars[::-1]):
            if isinstance(value, Literal) or isinstance(other, Literal):
                continue
            shape, width = jaxprs.aval(other).shape, jaxprs.aval(value).shape[-1:]
            alike = shape[-1:] == width and jaxprs.aval(other).size == shape[-1]
            if value in found and other in still and alike:
                return value
    return None


def _on_a_matrix(eqn: JaxprEqn) -> dict[str, Any]:
    """The parameters of a plain product whose data is a matrix."""
    (_, contracted), batch = eqn.params["dimension_numbers"]
    return {**eqn.params, "dimension_numbers": (((1,), contracted), batch)}


def _taken(eqn: JaxprEqn, table: Array, index: Array) -> Array:
    """What the look-up `eqn` picks, out of another table."""
    return eqn.primitive.bind(table, index, **{**eqn.params, "slice_sizes": (1, table.shape[1])})
