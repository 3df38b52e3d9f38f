"""Time and batch laid flat, as one axis.

In which order they stand in it is a matter of the machine. On one device time is first, as it lies.
Where XLA divides the batch over several, the batch is: an axis whose inner part is divided would be
gathered on each device. So it is an operation until it is lowered.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.loop import compat, lowering
from recurrax.loop.compat import Primitive
from recurrax.loop.machine import Machine

_flat_p, _stacked_p = Primitive("loop_flat"), Primitive("loop_stacked")


def flat(a: Array) -> Array:
    """(time, batch, ...) to (time x batch, ...), in an order that `stacked` knows."""
    return _flat_p.bind(a, after=0)


def stacked(a: Array, steps: int) -> Array:
    """(time x batch, ...) to (time, batch, ...)."""
    return _stacked_p.bind(a, steps=steps, after=0)


def _flat(a: Array, *, after: int, machine: Machine, runner: str | None) -> Array:
    del runner
    shape = (*a.shape[:after], -1, *a.shape[after + 2 :])
    return (jnp.swapaxes(a, after, after + 1) if machine.is_divided else a).reshape(shape)


def _stacked(a: Array, *, steps: int, after: int, machine: Machine, runner: str | None) -> Array:
    del runner
    before, behind = a.shape[:after], a.shape[after + 1 :]
    if machine.is_divided:
        return jnp.swapaxes(a.reshape(*before, -1, steps, *behind), after, after + 1)
    return a.reshape(*before, steps, -1, *behind)


def _flat_aval(a: Any, *, after: int) -> Any:
    time, batch = a.shape[after : after + 2]
    return a.update(shape=(*a.shape[:after], time * batch, *a.shape[after + 2 :]))


def _stacked_aval(a: Any, *, steps: int, after: int) -> Any:
    rows = a.shape[after] // steps
    return a.update(shape=(*a.shape[:after], steps, rows, *a.shape[after + 1 :]))


def _batch(
    axis: Any, args: Any, dims: Any, *, primitive: Primitive, after: int, **params: Any
) -> Any:
    """Both stand `after` another axis."""
    del axis
    if dims[0] is None:
        return primitive.bind(*args, after=after, **params), None
    return primitive.bind(jnp.moveaxis(args[0], dims[0], 0), after=after + 1, **params), 0


def _to_stacked(dz: Any, a: Any, *, after: int) -> list[Array]:
    return [_stacked_p.bind(dz, steps=a.aval.shape[after], after=after)]


for _primitive, _function, _aval, _names in (
    (_flat_p, _flat, _flat_aval, ("after",)),
    (_stacked_p, _stacked, _stacked_aval, ("steps", "after")),
):
    _primitive.def_abstract_eval(_aval)
    _primitive.def_impl(jax.jit(_primitive.bind, static_argnames=_names))
    lowering.register(_primitive, _function, multiple_results=False)
    compat.define_batching(_primitive, functools.partial(_batch, primitive=_primitive))
compat.define_linear(_flat_p, _to_stacked)
compat.define_linear(_stacked_p, lambda dz, _, *, steps, after: [_flat_p.bind(dz, after=after)])
