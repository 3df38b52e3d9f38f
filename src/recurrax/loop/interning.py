"""Interning: one body for all traces of the same step.

What JAX and the runners compile, they find again by the identity of a jaxpr; a step that is traced
anew at each call of a layer would be compiled anew.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np

from recurrax.loop import compat
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from recurrax.loop.jaxprs import Atom

_LIMIT = 512
_known: OrderedDict[Hashable, Body] = OrderedDict()
_lock = threading.Lock()


def interned(body: Body) -> Body:
    """The first body seen with the program of `body`; itself where programs cannot be compared."""
    try:
        key = (_program(body.jaxpr), body.num_consts, body.num_carry)
        hash(key)
    except TypeError:  # a parameter that is not hashable
        return body
    with _lock:
        found = _known.setdefault(key, body)
        _known.move_to_end(key)
        if len(_known) > _LIMIT:
            _known.popitem(last=False)
    return found


def _program(program: ClosedJaxpr | Jaxpr, open_rules: tuple[Hashable, ...] = ()) -> Hashable:
    """What two traces of one function have in common; `open_rules` are those that it stands in."""
    is_closed = isinstance(program, ClosedJaxpr)
    jaxpr, consts = (program.jaxpr, program.consts) if is_closed else (program, ())
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
        params = {
            name: _parameter(value, open_rules)
            for name, value in sorted(compat.parameters(eqn).items())
        }
        if eqn.primitive.name == "custom_jvp_call":
            params["rule"] = _rule(eqn, params["call_jaxpr"], open_rules)
        parts.append((eqn.primitive, operands, tuple(params.items()), bound(eqn.outvars), eqn.ctx))
    outputs = tuple(read(a) for a in jaxpr.outvars)
    return (*parts, outputs, frozenset(jaxpr.effects), tuple(id(c) for c in consts))


def _parameter(value: Any, open_rules: tuple[Hashable, ...]) -> Hashable:
    if compat.is_program(value):
        return _program(value, open_rules)
    if isinstance(value, tuple | list):
        return (type(value), tuple(_parameter(v, open_rules) for v in value))
    hash(value)
    return (type(value), value)


def _rule(eqn: JaxprEqn, function: Hashable, open_rules: tuple[Hashable, ...]) -> Hashable:
    """The program of a custom derivative: each trace has a function of its own for it.

    A rule that calls the very `function` it belongs to is opened up once more, for second
    derivatives, and from there on stands for itself.

    Raises:
        TypeError: the rule has no one program.
    """
    if eqn.params["symbolic_zeros"]:
        raise TypeError("the rule may differ with every pattern of zeros")
    source, trace = compat.custom_jvp_rule(eqn)
    this = (function, source)
    if open_rules.count(this) > 1:
        return this
    try:
        rule, consts, zeros = trace()
    except Exception as error:  # the rule's own: due only where a derivative is asked for
        raise TypeError("the rule cannot be traced") from error
    return (_program(rule, (*open_rules, this)), tuple(id(c) for c in consts), tuple(zeros))
