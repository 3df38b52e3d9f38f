"""`scan`: the one entrance to the loop, over arrays that begin with time or with the batch."""

from collections.abc import Callable
from typing import Any

import jax
from jax import export

from recurrax.loop import batch_major, fallback, look_ups, plan, split, step
from recurrax.loop import gradient as _gradient  # noqa: F401 (gives the loop its derivative)
from recurrax.loop import policies as _policies  # noqa: F401 (gives it a rule for checkpoints)
from recurrax.loop import segments as _segments

_WHAT = {"what": "compiling a loop", "by": fallback.BY_LAX}


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    runner: str | None = None,
    segments: int | str | None = None,
) -> tuple[Any, Any]:
    """Run `f(carry, x) -> (carry, y)` over the leading axis of `xs`, as `jax.lax.scan` does.

    Work of `f` that does not depend on the carry is moved out of the loop, gradients of weights
    are gathered after it, and a runner is chosen for what is left; `recurrax.explain` tells what
    became of a loop. `jit`, `grad`, `jvp`, `vmap` and `checkpoint` work as on `jax.lax.scan`.

    Args:
        f: one step. The carry it returns has the structure, shapes and dtypes of `init`.
        init: the carry before the first step, a pytree of arrays.
        xs: a pytree of arrays of shape `(length, ...)`, or None with `length` given.
        length: number of steps; needed only when `xs` holds no array.
        reverse: run from the last step to the first; `ys` stays in the order of `xs`.
        unroll: steps laid out one after another in one turn of the compiled loop.
        runner: "native", "xla", or "lax" for plain `jax.lax.scan`; None lets the plan choose.
        segments: run the loop as that many segments, or "auto" for √length of them, and keep only
            the carries between them for the backward pass.

    Returns:
        The carry after the last step, and the `y` of every step stacked to `(length, ...)`.

    Raises:
        TypeError: `f` is no function, does not return a pair, or does not keep its carry.
        ValueError: the leading axes of `xs` and `length` do not agree, there is no such runner,
            `unroll` is no number of steps, or the loop cannot be cut into so many segments.
    """
    runner = plan.asked_for(runner)
    _check_unroll(unroll)
    if segments is not None:
        length = step.length_of(jax.tree.leaves(xs), length)
        return _segments.run(
            lambda carry, xs, length: scan(f, carry, xs, length, reverse, unroll, runner=runner),
            init,
            xs,
            length=length,
            segments=_segments.count(segments, length),
            reverse=reverse,
        )

    def by_lax(init: Any = init) -> tuple[Any, Any]:
        # lax.scan takes an open length from xs alone
        known = None if length is not None and export.is_symbolic_dim(length) else length
        return jax.lax.scan(f, init, xs, length=known, reverse=reverse, unroll=unroll)

    def compiled() -> tuple[Any, Any]:
        traced = step.trace(f, init, xs, length)
        if traced.must_stay_whole is None:
            return _run(traced, reverse=reverse, unroll=unroll, runner=runner)
        plan.check_possible(runner, traced.must_stay_whole)
        return by_lax(jax.tree.unflatten(traced.carry_tree, traced.init))

    return by_lax() if _is_lax(runner) else fallback.guarded(compiled, by_lax, **_WHAT)


def scan_batch_major(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    *,
    reverse: bool = False,
    unroll: int | bool = 1,
    runner: str | None = None,
    segments: int | str | None = None,
) -> tuple[Any, Any]:
    """`scan` over the second axis of `xs`, arrays of shape `(batch, length, ...)`.

    Args:
        f, init, reverse, unroll, runner, segments: as for `scan`.
        xs: a pytree of at least one array.

    Returns:
        The carry after the last step, and the `y` of every step as `(batch, length, ...)`; those
        of a `y` that is a single number as `(length,)`.

    Raises:
        TypeError, ValueError: as `scan` does.
    """
    runner = plan.asked_for(runner)
    _check_unroll(unroll)
    how = {"reverse": reverse, "unroll": unroll, "runner": runner}

    def by_time(runner: str | None = runner) -> tuple[Any, Any]:
        turned = jax.tree.map(batch_major.swapped, xs)
        carry, ys = scan(f, init, turned, segments=segments, **{**how, "runner": runner})
        return carry, jax.tree.map(batch_major.swapped, ys)

    def compiled() -> tuple[Any, Any]:
        traced = step.trace(f, init, jax.tree.map(batch_major.swapped, xs), None)
        if traced.must_stay_whole is not None:
            return by_time()
        if batch_major.suits(traced, jax.tree.leaves(xs), runner):
            return _trees(traced, batch_major.run(traced, jax.tree.leaves(xs), **how))
        carry, ys = _run(traced, batch_major=True, **how)
        return carry, jax.tree.map(batch_major.swapped, ys)

    if segments is not None or _is_lax(runner):
        return by_time()
    return fallback.guarded(compiled, lambda: by_time("lax"), **_WHAT)


def _check_unroll(unroll: Any) -> None:
    if not isinstance(unroll, int) or unroll < 0:
        raise ValueError(f"scan expects unroll to be a bool or an int from 0 on, got {unroll!r}.")


def _is_lax(runner: str | None) -> bool:
    """Whether `jax.lax.scan` is asked for."""
    return runner == "lax" or bool(getattr(jax.config, "jax_disable_jit"))  # noqa: B009


def _run(traced: step.Step, **how: Any) -> tuple[Any, Any]:
    parts = split.split(look_ups.worked_ahead(traced.body, traced.length))
    outputs = split.run(parts, traced.consts, traced.init, traced.xs, length=traced.length, **how)
    return _trees(traced, outputs)


def _trees(traced: step.Step, outputs: tuple[list[Any], list[Any]]) -> tuple[Any, Any]:
    carry, ys = outputs
    return jax.tree.unflatten(traced.carry_tree, carry), jax.tree.unflatten(traced.y_tree, ys)
