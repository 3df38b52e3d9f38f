"""Residuals: what JAX keeps of the parts of a step that it differentiates as one.

A part under `jax.checkpoint` keeps what its policy allows, and the rest is done again; control flow
that holds callbacks or draws must not be done again. JAX has rules for both: the first half of its
derivative stands in the forward loop, and what that leaves for the other half is kept.
"""

from collections.abc import Container, Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from recurrax.loop import compat, jaxprs, operations
from recurrax.loop.body import Body
from recurrax.loop.compat import JaxprEqn, Var
from recurrax.loop.moving import moving_operands

_everything = jax.checkpoint_policies.everything_saveable
_KEPT = "recurrax: kept for the backward loop"


def opened(body: Body, moves: Container[Var]) -> Body:
    """`body` where what JAX keeps of such parts is named, and their derivative reads that."""
    jaxpr = body.jaxpr.jaxpr
    if not any(_is_one(eqn) or is_kept(eqn) for eqn in jaxpr.eqns):
        return body

    def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
        if is_kept(eqn):  # for a first derivative: a further one keeps what it needs itself
            return operands
        if not _is_one(eqn):
            return None
        return _halved(jaxpr, eqn, operands, moving_operands(eqn, moves))

    def flat(*args: Any) -> list[Any]:
        return jaxprs.called(body.jaxpr, args, rule, inline=())

    closed = jax.make_jaxpr(flat)(*body.jaxpr.in_avals)
    return Body(closed, body.num_consts, body.num_carry)


def is_kept(eqn: JaxprEqn) -> bool:
    """Whether `eqn` says that its value is kept; nothing is differentiated through it."""
    return eqn.primitive.name == "name" and eqn.params["name"] == _KEPT


def _is_one(eqn: JaxprEqn) -> bool:
    if eqn.primitive.name in compat.CHECKPOINTS:
        return True
    # A rule of the caller's says itself what is kept of it.
    inner = bool(compat.inner_programs(eqn)) and eqn.primitive.name not in compat.DERIVATIVE_CALLS
    return inner and jaxprs.holds(eqn, operations.OPAQUE)


def _halved(jaxpr: Any, eqn: JaxprEqn, operands: Sequence[Any], places: Sequence[int]) -> list[Any]:
    """What `eqn` makes, by the first half of its derivative, and with the second half."""
    policy = eqn.params["policy"] if eqn.primitive.name in compat.CHECKPOINTS else _everything
    found: list[Any] = []

    def first_half(*operands: Any) -> Any:
        def of_moving(*values: Any) -> list[Any]:
            given = list(operands)
            for i, value in zip(places, values, strict=True):
                given[i] = value
            return jaxprs.bind(jaxpr, eqn, given)

        if not places:
            return of_moving(), []
        made, vjp = jax.vjp(of_moving, *(operands[i] for i in places))
        leaves, tree = jax.tree.flatten(vjp)
        # What goes in need not come out again.
        given = [next((i for i, x in enumerate(operands) if x is r), None) for r in leaves]
        found[:] = [tree, given]
        return made, [r for r, i in zip(leaves, given, strict=True) if i is None]

    # Still one part: what is not kept of it is not to be seen, and a further derivative divides it.
    once = jax.checkpoint(first_half, policy=policy, prevent_cse=False)
    made, left = jax.tree.map(_kept, once(*operands))
    if not places:
        return made
    tree, given = found
    rest = iter(left)
    residuals = [next(rest) if i is None else operands[i] for i in given]

    @jax.custom_vjp
    def pulled_back(made: Any, residuals: Any, moving: Any) -> Any:
        del residuals, moving
        return made

    pulled_back.defvjp(
        lambda made, residuals, moving: (made, residuals),
        lambda residuals, cts: (None, None, list(jax.tree.unflatten(tree, residuals)(cts))),
    )
    return pulled_back(made, residuals, [operands[i] for i in places])


def _kept(value: Any) -> Any:
    return checkpoint_name(value, _KEPT)
