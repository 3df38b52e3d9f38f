"""What the forward loop keeps for the backward loop: its products, with their addends.

Elementwise work is cheaper to do again than to load; a matrix product or a random draw is not.
Of `x_t W + h U + b` the whole sum is kept: one stored value serves every product in it, and its
cotangent is the cotangent of each of its terms. Where only activations read the sum, what they make
is kept in its place (`gates.py`).
"""

import dataclasses
from collections.abc import Sequence

from recurrax.loop import compat, gates, jaxprs, operations, residuals
from recurrax.loop.compat import Jaxpr, JaxprEqn, Literal, Var


@dataclasses.dataclass(frozen=True)
class Kept:
    """A value that the forward loop keeps, and the equations that make its `root`.

    The value is the root itself, or the `activations` of the root.
    """

    root: Var
    eqns: tuple[JaxprEqn, ...]
    value: Var
    activations: gates.Pieces = ()

    @property
    def operands(self) -> list[Var]:
        made = {v for e in self.eqns for v in e.outvars}
        reads = jaxprs.variables(a for e in self.eqns for a in e.invars)
        return [v for v in reads if v not in made]

    @property
    def products(self) -> list[JaxprEqn]:
        return [e for e in self.eqns if e.primitive.name in operations.PRODUCTS]


def find(jaxpr: Jaxpr) -> list[Kept]:
    """All values of `jaxpr` worth keeping, in the order of the equations."""
    uses = gates.uses_of(jaxpr)
    outputs = set(jaxprs.variables(jaxpr.outvars))

    sums: dict[Var, list[JaxprEqn]] = {}
    draws = []
    for eqn in jaxpr.eqns:
        if _is_drawn(eqn) or residuals.is_kept(eqn):
            draws.extend(Kept(v, (eqn,), v) for v in eqn.outvars)
        elif eqn.primitive.name in operations.PRODUCTS:
            root, chain = _sum_around(eqn, uses, outputs)
            members = sums.setdefault(root, [])
            members.extend(e for e in chain if not any(e is m for m in members))
    order = {id(e): i for i, e in enumerate(jaxpr.eqns)}
    found = []
    for root, members in sums.items():
        eqns = tuple(sorted(members, key=lambda e: order[id(e)]))
        value, pieces = gates.of_all(root, uses, outputs) or (root, ())
        found.append(Kept(root, eqns, value, pieces))
    return sorted(found + draws, key=lambda k: order[id(k.eqns[-1])])


def _is_drawn(eqn: JaxprEqn) -> bool:
    """Whether `eqn` may give something else the next time, or cost nobody knows what."""
    once = operations.DRAWS | operations.OPAQUE
    with_rule = eqn.primitive.name in compat.DERIVATIVE_CALLS
    return jaxprs.holds(eqn, once) if with_rule else eqn.primitive.name in once


def _sum_around(
    product: JaxprEqn, uses: dict[Var, list[JaxprEqn]], outputs: set[Var]
) -> tuple[Var, Sequence[JaxprEqn]]:
    """The largest sum that only adds to `product`, and the equations on the way to it."""
    value, chain = product.outvars[0], [product]
    while value not in outputs and len(uses.get(value, ())) == 1:
        (user,) = uses[value]
        total = user.outvars[0]
        same_shape = jaxprs.aval(total).shape == jaxprs.aval(value).shape
        twice = sum(not isinstance(a, Literal) and a is value for a in user.invars) > 1
        # What a name is given to for a policy is what is kept.
        adds = user.primitive.name in operations.SUMS | {"name"}
        if not adds or not same_shape or twice:
            break
        chain.append(user)
        value = total
    return value, chain
