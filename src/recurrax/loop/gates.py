"""Gates: what a product makes and only activations read.

The derivative of `tanh` and `logistic` follows from what they made, so where nothing else reads
their input the forward loop keeps their outputs in its place: the backward loop then need not do
them again, which was a fifth of an LSTM's.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.loop import jaxprs
from recurrax.loop.body import Body
from recurrax.loop.compat import Jaxpr, JaxprEqn, Literal, Var

# The derivative at a point, from the value there.
_SLOPES = {"logistic": lambda y: y * (1 - y), "tanh": lambda y: 1 - y * y}

Uses = Mapping[Var, Sequence[JaxprEqn]]
Pieces = tuple[tuple[str, int], ...]  # activations of neighbouring features, and their widths


def uses_of(jaxpr: Jaxpr) -> dict[Var, list[JaxprEqn]]:
    """The equations that read each variable."""
    uses: dict[Var, list[JaxprEqn]] = {}
    for eqn in jaxpr.eqns:
        for v in jaxprs.variables(eqn.invars):
            uses.setdefault(v, []).append(eqn)
    return uses


def of_all(value: Var, uses: Uses, outputs: set[Var]) -> tuple[Var, Pieces] | None:
    """What the activations of `value` make, as one variable, if nothing else reads `value`.

    The one variable is the output of a single activation, or joins those of its pieces.
    """
    made = _of_pieces(value, uses, outputs)
    if made is not None:
        split, activations = made
        joints = [u for u in uses.get(activations[0].outvars[0], ()) if _joins(u, activations)]
        widths = split.params["sizes"]
        if not joints:
            return None
        pieces = zip((e.primitive.name for e in activations), widths, strict=True)
        return joints[0].outvars[0], tuple(pieces)
    (only, *more) = uses.get(value, ()) or (None,)
    if only is None or more or value in outputs or not _is_activation(only):
        return None
    return only.outvars[0], ((only.primitive.name, jaxprs.aval(value).shape[-1]),)


def _is_activation(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name in _SLOPES and bool(jaxprs.aval(eqn.invars[0]).shape)


def _of_pieces(value: Var, uses: Uses, outputs: set[Var]) -> tuple[JaxprEqn, list[JaxprEqn]] | None:
    """The split of `value` along features and the activations of all its pieces, if that is all."""
    users = uses.get(value, ())
    if value in outputs or len(users) != 1 or users[0].primitive.name != "split":
        return None
    (split,) = users
    if split.params["axis"] != jaxprs.aval(value).ndim - 1:
        return None
    activations = []
    for piece in split.outvars:
        readers = uses.get(piece, ())
        if piece in outputs or len(readers) != 1 or not _is_activation(readers[0]):
            return None
        activations.append(readers[0])
    return split, activations


def _joins(eqn: JaxprEqn, activations: Sequence[JaxprEqn]) -> bool:
    if eqn.primitive.name != "concatenate" or len(eqn.invars) != len(activations):
        return False
    pairs = zip(eqn.invars, activations, strict=True)
    return all(not isinstance(v, Literal) and v is a.outvars[0] for v, a in pairs)


@functools.lru_cache(maxsize=256)
def joined(body: Body, sums: tuple[Var, ...]) -> Body:
    """`body` where the activations of the pieces of each of `sums` are read out of one variable."""
    jaxpr = body.jaxpr.jaxpr
    uses, outputs = uses_of(jaxpr), set(jaxprs.variables(jaxpr.outvars))
    found = [made for v in sums if (made := _of_pieces(v, uses, outputs)) is not None]
    splits = {id(split): activations for split, activations in found}
    if not splits:
        return body
    ready: dict[int, Any] = {}

    def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
        if id(eqn) in ready:
            return [ready[id(eqn)]]
        activations = splits.get(id(eqn))
        if activations is None:
            return None
        pieces = jaxprs.bind(jaxpr, eqn, operands)
        made = [jaxprs.bind(jaxpr, a, [p])[0] for a, p in zip(activations, pieces, strict=True)]
        sizes = eqn.params["sizes"]
        whole = jnp.concatenate(made, axis=-1)
        parts = jax.lax.split(whole, sizes, axis=whole.ndim - 1)
        ready.update({id(a): part for a, part in zip(activations, parts, strict=True)})
        return pieces

    def flat(*args):
        return jaxprs.called(body.jaxpr, args, rule, inline=())

    closed = jax.make_jaxpr(flat)(*body.jaxpr.in_avals)
    return Body(closed, body.num_consts, body.num_carry)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def kept_in_place(pieces: Pieces, made: Any, value: Any) -> Any:
    """`made`, the activations of `value`, with their derivative found from `made` alone."""
    del pieces, value
    return made


@kept_in_place.defjvp
def _(pieces, primals, tangents):
    made, (_, tangent) = primals[0], tangents
    widths = [width for _, width in pieces]
    parts = zip(
        pieces,
        jax.lax.split(made, widths, axis=made.ndim - 1),
        jax.lax.split(tangent, widths, axis=made.ndim - 1),
        strict=True,
    )
    return made, jnp.concatenate([_SLOPES[name](y) * t for (name, _), y, t in parts], axis=-1)
