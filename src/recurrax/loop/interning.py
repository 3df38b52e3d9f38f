"""Interning: one body for all traces of the same step.

What JAX and the runners compile, they find again by the identity of a jaxpr; a step that is traced
anew at each call of a layer would be compiled anew.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from recurrax.loop.body import Body
from recurrax.loop.jaxprs import Atom

_LIMIT = 512
_known: OrderedDict[Hashable, Body] = OrderedDict()


def interned(body: Body) -> Body:
    """The first body seen with the program of `body`; itself where programs cannot be compared."""
    try:
        key = (_program(body.jaxpr), body.num_consts, body.num_carry)
        found = _known.setdefault(key, body)
    except TypeError:  # a parameter that is not hashable
        return body
    _known.move_to_end(key)
    if len(_known) > _LIMIT:
        _known.popitem(last=False)
    return found


def _program(program: ClosedJaxpr | Jaxpr) -> Hashable:
    """What two traces of one function have in common."""
    if isinstance(program, ClosedJaxpr):
        return (_program(program.jaxpr), tuple(id(c) for c in program.consts))
    jaxpr = program
    numbers: dict[Var, int] = {}

    def bound(variables: list[Var]) -> Hashable:
        for v in variables:
            numbers[v] = len(numbers)
        return tuple(v.aval for v in variables)

    def read(atom: Atom) -> Hashable:
        if isinstance(atom, Literal):
            value = np.asarray(atom.val)
            return (value.dtype.str, value.shape, value.tobytes(), atom.aval)
        return numbers[atom]

    parts: list[Hashable] = [bound([*jaxpr.constvars, *jaxpr.invars])]
    for eqn in jaxpr.eqns:
        operands = tuple(read(a) for a in eqn.invars)
        params = tuple((name, _parameter(value)) for name, value in sorted(eqn.params.items()))
        parts.append((eqn.primitive, operands, params, bound(eqn.outvars), eqn.ctx))
    return (*parts, tuple(read(a) for a in jaxpr.outvars), frozenset(jaxpr.effects))


def _parameter(value: Any) -> Hashable:
    if isinstance(value, ClosedJaxpr | Jaxpr):
        return _program(value)
    if isinstance(value, tuple | list):
        return (type(value), tuple(_parameter(v) for v in value))
    hash(value)
    return (type(value), value)
