"""Loops and branches inside compiled code."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array, lax

from recurrax.loop import scan as _scan
from recurrax.ops.dispatch import op, tree_op


def _while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    maximum_iterations: int | None = None,
) -> Any:
    """`loop_vars = body(*loop_vars)` for as long as `cond(*loop_vars)` holds."""
    single = not isinstance(loop_vars, list | tuple)
    first = (loop_vars,) if single else tuple(loop_vars)

    def proceed(state: Any) -> Any:
        count, values = state
        go_on = cond(*values)
        return go_on if maximum_iterations is None else go_on & (count < maximum_iterations)

    def step(state: Any) -> Any:
        count, values = state
        values = body(*values)
        return count + 1, tuple(values) if isinstance(values, list | tuple) else (values,)

    _, last = lax.while_loop(proceed, step, (0, first))
    if single:
        return last[0]
    return list(last) if isinstance(loop_vars, list) else last


def _switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`."""
    return lax.switch(index, branches, *operands)


def _map(f: Callable[..., Any], xs: Any) -> Any:
    """`f` on each entry along the first axis of `xs`, one after the other, stacked."""
    return lax.map(f, xs)


def _vectorized_map(function: Callable[..., Any], elements: Any) -> Any:
    """`function` on each entry along the first axis of `elements`, all at once, stacked."""
    return jax.vmap(function)(elements)


def _fori_loop(lower: int, upper: int, body_fun: Callable[..., Any], init_val: Any) -> Any:
    """`value = body_fun(i, value)` for i from `lower` to `upper - 1`."""
    return lax.fori_loop(lower, upper, body_fun, init_val)


def _cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """`true_fn()` where `pred` holds, else `false_fn()`."""
    return lax.cond(pred, true_fn, false_fn)


def _stop_gradient(variable: Any) -> Array:
    """The value, a constant for differentiation."""
    return lax.stop_gradient(variable)


def _associative_scan(f: Callable[..., Any], elems: Any, reverse: bool = False, axis: int = 0):
    """Prefix results of the associative `f` along `axis`, in O(log n) parallel steps."""
    return lax.associative_scan(f, elems, reverse=reverse, axis=axis)


associative_scan = tree_op(_associative_scan)
cond = tree_op(_cond)
fori_loop = tree_op(_fori_loop)
map = tree_op(_map)
scan = tree_op(_scan)
stop_gradient = op(_stop_gradient)
switch = tree_op(_switch)
vectorized_map = tree_op(_vectorized_map)
while_loop = tree_op(_while_loop)
