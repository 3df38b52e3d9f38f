"""A jaxpr as one flat list of equations: the calls inside it are laid out."""

import dataclasses
from typing import Any

import numpy as np

from recurrax.loop import compat
from recurrax.loop.compat import ClosedJaxpr, Literal
from recurrax.loop.native.unsupported import Unsupported

_LARGEST = 1 << 14


@dataclasses.dataclass(eq=False)
class Name:
    """A value between equations, with its shape and dtype; equal to itself alone."""

    shape: tuple[int, ...]
    dtype: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Number:
    """A constant that stands in the equations: one number for every element of `shape`."""

    value: Any
    shape: tuple[int, ...]
    dtype: Any


Atom = Name | Number


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    primitive: str
    params: dict[str, Any]
    inputs: tuple[Atom, ...]
    outputs: tuple[Name, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    inputs: tuple[Name, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Atom, ...]


def flatten(closed: ClosedJaxpr) -> Program:
    """Lay out `closed` and every call inside it.

    Arrays that stand in it are made by equations `constant`.

    Raises:
        Unsupported: if it holds a large one (the loop hands others over as arguments).
    """
    inputs = tuple(Name(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars)
    equations: list[Equation] = []
    outputs = _walk(closed.jaxpr, closed.consts, inputs, equations)
    return Program(inputs, tuple(equations), tuple(outputs))


def _constant(value, aval, equations: list[Equation]) -> Atom:
    array = np.asarray(value)
    alike = array.size > 0 and ((array == array.flat[0]) | (array != array)).all()
    if alike and (array != array).any() == (array != array).all():
        return Number(array.flat[0].item(), tuple(aval.shape), aval.dtype)
    if not 0 < array.size <= _LARGEST:
        raise Unsupported(f"an array constant of shape {array.shape} stands inside the step")
    name = Name(tuple(aval.shape), aval.dtype)
    equations.append(Equation("constant", {"array": array}, (), (name,)))
    return name


def _walk(jaxpr, consts, arguments, equations: list[Equation]) -> list[Atom]:
    names: dict[Any, Atom] = dict(zip(jaxpr.invars, arguments, strict=True))
    for variable, value in zip(jaxpr.constvars, consts, strict=True):
        names[variable] = _constant(value, variable.aval, equations)

    def atom(x) -> Atom:
        return _constant(x.val, x.aval, equations) if isinstance(x, Literal) else names[x]

    for eqn in jaxpr.eqns:
        inputs = tuple(atom(x) for x in eqn.invars)
        inner = compat.called_program(eqn)
        if inner is not None:
            results = _walk(inner.jaxpr, inner.consts, inputs, equations)
        else:
            results = [Name(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
            name, params = eqn.primitive.name, dict(eqn.params)
            equations.append(Equation(name, params, inputs, tuple(results)))
        names.update(zip(eqn.outvars, results, strict=True))
    return [atom(x) for x in jaxpr.outvars]
