"""Equations without a native form said with others that have one.

What picks by a number (an index, a branch) becomes a selection among all there is to pick from:
that is cheap for the few things that a step picks from, and refused for many.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recurrax.loop import compat, jaxprs
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, JaxprEqn, jaxpr_as_fun
from recurrax.loop.native.unsupported import Unsupported

_LARGEST = 64
_FEW_PLACES = 16


def rewritten(body: Body) -> Body:
    """`body` with every equation that `RULES` names said with others.

    Raises:
        Unsupported: if one picks among too many things, or in a way that has no such form.
    """
    closed = body.jaxpr
    if not any(_rewrites(eqn) for eqn in closed.jaxpr.eqns):
        return body

    def flat(*args: Array) -> list[Any]:
        return jaxprs.called(closed, args, _rule)

    again = jaxprs.inlined(jax.make_jaxpr(flat)(*closed.in_avals), derivatives=True)
    return rewritten(dataclasses.replace(body, jaxpr=jaxprs.without_dead_code(again)))


def _rewrites(eqn: JaxprEqn) -> bool:
    match eqn.primitive.name:
        case "select_n":
            return jaxprs.aval(eqn.invars[0]).dtype != bool
        case "pad":
            return any(inner for _, _, inner in eqn.params["padding_config"])
        case "reshape":
            return eqn.params["dimensions"] is not None
        case "scatter" | "scatter-add" | "scatter-mul":
            return _writes_in_one_place(eqn)
        case name:
            return name in RULES


def _rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
    name = eqn.primitive.name
    if name == "broadcast_in_dim" and isinstance(operands[0], int | np.integer):
        return [np.full(eqn.params["shape"], operands[0], jaxprs.aval(eqn.outvars[0]).dtype)]
    if not _rewrites(eqn):
        return None
    try:
        outputs = RULES[name](*operands, **eqn.params)
    except Unsupported as error:
        shapes = ", ".join(str(list(jaxprs.aval(v).shape)) for v in eqn.invars)
        raise Unsupported(f"`{name}` of {shapes}: {error}") from None
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


def _writes_in_one_place(eqn: JaxprEqn) -> bool:
    """Whether a scatter writes at one place of an axis, as `x.at[:, k].set(...)` has it."""
    whole, index, update = (jaxprs.aval(v) for v in eqn.invars)
    numbers = eqn.params["dimension_numbers"]
    axes = numbers.scatter_dims_to_operand_dims
    if index.ndim != 1 or len(axes) != 1 or numbers.operand_batching_dims:
        return False
    sizes = list(update.shape)
    for axis in numbers.inserted_window_dims:
        sizes.insert(axis, 1)
    others = [k for k in range(whole.ndim) if k != axes[0]]
    return sizes[axes[0]] == 1 and all(sizes[k] == whole.shape[k] for k in others)


def _padded(x: Array, filler: Any, *, padding_config: Sequence[tuple[int, int, int]]) -> Array:
    """Padding between numbers: each with its filler as two axes that are laid flat."""
    for axis, (_, _, inner) in enumerate(padding_config):
        n = x.shape[axis]
        if inner and n > 1:
            shape = (*x.shape[: axis + 1], inner, *x.shape[axis + 1 :])
            behind = lax.broadcast(lax.convert_element_type(filler, x.dtype), shape)
            both = lax.concatenate([lax.expand_dims(x, (axis + 1,)), behind], axis + 1)
            flat = both.reshape(*x.shape[:axis], n * (inner + 1), *x.shape[axis + 1 :])
            x = lax.slice_in_dim(flat, 0, n * (inner + 1) - inner, axis=axis)
    return lax.pad(x, filler, [(low, high, 0) for low, high, _ in padding_config])


def _reshaped(x: Array, *, new_sizes: Sequence[int], dimensions: Sequence[int], **_: Any) -> Array:
    """A reshape that reads the axes in another order, as gradients of `prod` have it."""
    return lax.transpose(x, dimensions).reshape(new_sizes)


def _empty(*, dtype: Any, shape: Sequence[int] = (), **_: Any) -> Array:
    """What a branch that was not taken would have left for its gradient: anything will do."""
    return jnp.zeros(shape, dtype)


def _few(count: int, what: str) -> None:
    if count > _LARGEST:
        raise Unsupported(f"{what} {count}, which is more than {_LARGEST}")


def _stack(*parts: Array, axis: int) -> Array:
    return lax.concatenate([lax.expand_dims(x, (axis,)) for x in parts], axis)


def _unstack(x: Array, *, axis: int) -> list[Array]:
    return [lax.index_in_dim(x, k, axis, keepdims=False) for k in range(x.shape[axis])]


def _cumulated(combine: Callable, x: Array, *, axis: int, reverse: bool) -> Array:
    _few(x.shape[axis], "it runs over")
    parts = lax.split(x, [1] * x.shape[axis], axis)
    results: list[Array] = []
    for part in parts[::-1] if reverse else parts:
        results.append(combine(results[-1], part) if results else part)
    return lax.concatenate(results[::-1] if reverse else results, axis)


def _place(x: Array, axis: int) -> Array:
    return lax.broadcasted_iota(np.int32, x.shape, axis)


def _extreme(which: Callable, x: Array, *, axes: Sequence[int], index_dtype: Any) -> Array:
    (axis,) = axes
    best = which(x, axis, keepdims=True)
    found = (x == best) | (x != x)
    first = jnp.where(found, _place(x, axis), x.shape[axis]).min(axis)
    return lax.convert_element_type(first, index_dtype)


def _one_axis(whole: Sequence[int], part: Sequence[int]) -> int | None:
    """The axis along which a part is smaller than the whole, None if there is none.

    Raises:
        Unsupported: if there are several.
    """
    smaller = [k for k, (n, m) in enumerate(zip(whole, part, strict=True)) if n != m]
    if len(smaller) > 1:
        raise Unsupported("it picks along several axes at once")
    return smaller[0] if smaller else None


def _dynamic_slice(x: Array, *starts: Array, slice_sizes: Sequence[int]) -> Array:
    axis = _one_axis(x.shape, slice_sizes)
    if axis is None:
        return x
    size, last = slice_sizes[axis], x.shape[axis] - slice_sizes[axis]
    start = _clamped(starts[axis], last)
    if isinstance(start, int):
        return lax.slice_in_dim(x, start, start + size, axis=axis)
    if last + 1 > _FEW_PLACES:
        every = tuple(range(x.ndim))
        numbers = lax.GatherDimensionNumbers(every, (), (axis,))
        clip = lax.GatherScatterMode.CLIP
        return lax.gather(x, start[None], numbers, slice_sizes, mode=clip)
    result = lax.slice_in_dim(x, 0, size, axis=axis)
    for k in range(1, last + 1):
        result = jnp.where(start == k, lax.slice_in_dim(x, k, k + size, axis=axis), result)
    return result


def _dynamic_update_slice(x: Array, update: Array, *starts: Array) -> Array:
    axis = _one_axis(x.shape, update.shape)
    if axis is None:
        return update
    start = _clamped(starts[axis], x.shape[axis] - update.shape[axis])
    if not isinstance(start, int) and update.shape[axis] > _FEW_PLACES:
        numbers = lax.ScatterDimensionNumbers(tuple(range(x.ndim)), (), (axis,))
        return lax.scatter(x, start[None], update, numbers, mode=lax.GatherScatterMode.CLIP)
    return _written(x, update, axis, start, lambda old, new: new)


def _clamped(start: Any, last: int) -> Any:
    if isinstance(start, int | np.integer | np.ndarray):
        return min(max(int(start), 0), last)
    number = start.dtype.type  # clamped as it is: an int32 holds less than some
    inside = lax.clamp(number(0), start, number(min(last, np.iinfo(number).max)))
    return lax.convert_element_type(inside, np.int32)


def _written(x: Array, update: Array, axis: int, start: Any, combine: Callable) -> Array:
    """`x` with `update` combined in from `start` on; what lies outside is left out."""
    size = update.shape[axis]
    if isinstance(start, int) and 0 <= start <= x.shape[axis] - size:
        stop = start + size
        middle = combine(lax.slice_in_dim(x, start, stop, axis=axis), update)
        before = lax.slice_in_dim(x, 0, start, axis=axis)
        after = lax.slice_in_dim(x, stop, x.shape[axis], axis=axis)
        return lax.concatenate([p for p in (before, middle, after) if p.shape[axis]], axis)
    place = _place(x, axis)
    for k in range(size):
        new = lax.slice_in_dim(update, k, k + 1, axis=axis)
        x = jnp.where(place == start + k, combine(x, jnp.broadcast_to(new, x.shape)), x)
    return x


def _scattered(combine: Callable, x: Array, at: Any, update: Array, **params: Any) -> Array:
    """One window, of one entry along its axis, combined with what stands there."""
    numbers = params["dimension_numbers"]
    if len(numbers.inserted_window_dims):
        update = lax.expand_dims(update, numbers.inserted_window_dims)
    (axis,) = numbers.scatter_dims_to_operand_dims
    start = int(at[0]) if isinstance(at, np.ndarray) else at[0]
    if params["mode"] == lax.GatherScatterMode.CLIP:
        start = _clamped(start, x.shape[axis] - 1)
    return _written(x, update, axis, start, combine)


def _cond(which: Array, *operands: Any, branches: Sequence[ClosedJaxpr], **_: Any) -> list[Any]:
    """All branches, of which one is selected."""
    results = [jaxpr_as_fun(branch)(*operands) for branch in branches]
    chosen = results[0]
    for k, other in enumerate(results[1:], 1):
        chosen = [jnp.where(which >= k, b, a) for a, b in zip(chosen, other, strict=True)]
    return chosen


def _scan(
    *operands: Any,
    jaxpr: ClosedJaxpr,
    length: int,
    reverse: bool,
    **params: Any,
) -> list[Any]:
    """The steps of a loop inside the step, laid out."""
    num_consts, num_carry = compat.scan_counts(params)
    _few(length * len(jaxpr.jaxpr.eqns) // 8, "its operations, in eights, are")
    n = num_consts + num_carry
    carry, ys = list(operands[num_consts:n]), []
    times = range(length)[::-1] if reverse else range(length)
    for t in times:
        xs = [lax.index_in_dim(x, t, keepdims=False) for x in operands[n:]]
        outputs = jaxpr_as_fun(jaxpr)(*operands[:num_consts], *carry, *xs)
        carry = outputs[:num_carry]
        ys.append(outputs[num_carry:])
    if not ys:
        empty = jaxpr.out_avals[num_carry:]
        return [*carry, *(jnp.zeros((0, *a.shape), a.dtype) for a in empty)]
    return [*carry, *(jnp.stack(y) for y in zip(*(ys[::-1] if reverse else ys), strict=True))]


def _select_n(which: Array, *cases: Array) -> Array:
    chosen = cases[0]
    for k, case in enumerate(cases[1:], 1):
        chosen = jnp.where(which == k, case, chosen)
    return chosen


RULES: dict[str, Callable[..., Any]] = {
    "stack": _stack,
    "unstack": _unstack,
    "cumsum": functools.partial(_cumulated, lax.add),
    "cumprod": functools.partial(_cumulated, lax.mul),
    "cummax": functools.partial(_cumulated, lax.max),
    "cummin": functools.partial(_cumulated, lax.min),
    "cumlogsumexp": functools.partial(_cumulated, jnp.logaddexp),
    "argmax": functools.partial(_extreme, jnp.max),
    "argmin": functools.partial(_extreme, jnp.min),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "scatter": functools.partial(_scattered, lambda old, new: new),
    "scatter-add": functools.partial(_scattered, lax.add),
    "scatter-mul": functools.partial(_scattered, lax.mul),
    "empty": _empty,
    "empty2": _empty,
    "pad": _padded,
    "reshape": _reshaped,
    "select_n": _select_n,
    "cond": _cond,
    "scan": _scan,
}
