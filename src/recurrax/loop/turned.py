"""Products written weight first, `W @ x`, as the other passes read them: rows first, `x @ W.T`.

Cells written for one sample, as Equinox's are, multiply `W @ x`; under `vmap` the samples are then
columns, and a transpose stands behind. Here the product is turned and the transpose goes away.
"""

from typing import Any

import jax

from recurrax.loop import jaxprs
from recurrax.loop.compat import ClosedJaxpr, JaxprEqn, Literal
from recurrax.loop.operations import ELEMENTWISE

_TURN = (1, 0)


def turned(closed: ClosedJaxpr) -> ClosedJaxpr:
    """`closed` with fewer transposes and products of a matrix with a vector, where it can be."""
    if not any(_is_transpose(e) or _is_matrix_times_vector(e) for e in closed.jaxpr.eqns):
        return closed

    def flat(*args: Any) -> list[Any]:
        across: dict[Any, Any] = {}  # what is known of the transposes of matrices

        def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
            if _is_transpose(eqn):
                (out,), (matrix,) = eqn.outvars, eqn.invars
                if matrix in across:
                    across[out] = operands[0]
                    return [across[matrix]]
            elif _is_matrix_times_vector(eqn):
                return [_swapped(eqn, operands)]
            else:
                found = _across(eqn, operands, across)
                across.update(zip(eqn.outvars, found, strict=False))
            return None

        return jaxprs.called(closed, args, rule)

    after = jaxprs.without_dead_code(jax.make_jaxpr(flat)(*closed.in_avals))
    # What is needed both ways would be computed twice.
    worse = [_number(after, kind) > _number(closed, kind) for kind in (None, "dot_general")]
    return closed if any(worse) else after


def _number(closed: ClosedJaxpr, kind: str | None) -> int:
    return sum(kind in (None, eqn.primitive.name) for eqn in closed.jaxpr.eqns)


def _across(eqn: JaxprEqn, operands: list[Any], across: dict[Any, Any]) -> list[Any]:
    """The transposes of what `eqn` computes, where it can compute them as well; else none."""
    name, params = eqn.primitive.name, eqn.params
    atoms = [(v, isinstance(v, Literal) or jaxprs.aval(v).ndim == 0) for v in eqn.invars]
    if any(jaxprs.aval(v).ndim != 2 for v in eqn.outvars):
        return []
    if name == "dot_general":
        matrices = all(jaxprs.aval(v).ndim == 2 for v in eqn.invars)
        return (
            [_swapped(eqn, operands)] if matrices and not params["dimension_numbers"][1][0] else []
        )
    if name == "broadcast_in_dim" and jaxprs.aval(eqn.invars[0]).ndim < 2:
        axes = tuple(1 - axis for axis in params["broadcast_dimensions"])
        return [jax.lax.broadcast_in_dim(operands[0], params["shape"][::-1], axes)]
    if not any(v in across for v, scalar in atoms if not scalar):
        return []
    if not all(scalar or v in across for v, scalar in atoms):
        return []
    turned_operands = [
        x if scalar else across[v] for (v, scalar), x in zip(atoms, operands, strict=True)
    ]
    if name == "split":
        return eqn.primitive.bind(*turned_operands, **{**params, "axis": 1 - params["axis"]})
    if name in ELEMENTWISE and name != "custom_jvp_call":
        return [eqn.primitive.bind(*turned_operands, **params)]
    return []


def _is_transpose(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name == "transpose" and tuple(eqn.params["permutation"]) == _TURN


def _is_matrix_times_vector(eqn: JaxprEqn) -> bool:
    if eqn.primitive.name != "dot_general":
        return False
    return [jaxprs.aval(v).ndim for v in eqn.invars] == [2, 1]


def _swapped(eqn: JaxprEqn, operands: list[Any]) -> Any:
    """The product with its operands the other way round."""
    (left, right), batch = eqn.params["dimension_numbers"]
    params = {**eqn.params, "dimension_numbers": ((right, left), batch)}
    if isinstance(params["precision"], tuple):
        params["precision"] = params["precision"][::-1]
    return eqn.primitive.bind(*operands[::-1], **params)
