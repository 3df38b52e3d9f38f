"""The native runner: the whole loop as one kernel on the CPU, compiled to machine code."""

import functools
import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.loop.body import Body, Feed, Products
from recurrax.loop.native import ffi, jobs
from recurrax.loop.native.adding_up import Sums, build_sums
from recurrax.loop.native.effort import check_effort
from recurrax.loop.native.gathering import Problem, build_gather
from recurrax.loop.native.in_place import in_place
from recurrax.loop.native.kernel import (
    build_loop,
    ensure,
    fingerprint,
    has_length,
    is_paired,
    is_short,
    scheduled,
    tile_rows,
)
from recurrax.loop.native.lower import Place, Step, lower
from recurrax.loop.native.multiplying import Multiplication, build_multiplication
from recurrax.loop.native.processors import thread_count
from recurrax.loop.native.target import Target, host
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.native.windows import Source, Windows, steps_for
from recurrax.loop.runners import swapping, xla
from recurrax.loop.runners.accompanied import KINDS, accompanied, weight_of
from recurrax.loop.runners.swapping import rows_of

# Floating point operations of a product that pay for waking another thread.
_WORTH_SHARING = 20e6


def refusal(body: Body, consts, carry, xs, length: int) -> str | None:
    """Why this runner cannot run `body`, in words for people, or None if it can.

    Args:
        body: one step.
        consts, carry, xs: arrays or their shapes and dtypes; those of `xs` with the time axis.
        length: number of steps.
    """
    del consts, carry, xs, length  # a body knows its own shapes
    try:
        _ready()
        _lowered(body)
    except Unsupported as error:
        return str(error)
    return None


def run(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    xs: Sequence[Array],
    *,
    length: int,
    reverse: bool,
    swapped: tuple[int, ...] = (),
) -> tuple[list[Array], list[Array]]:
    """Run `body` as one native kernel.

    The xs and ys (counted after the xs) `swapped` are read and written as (batch, time, ...).

    Raises:
        Unsupported: for a body that `refusal` speaks against.
    """
    outputs, m = body.jaxpr.out_avals, body.num_carry
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in outputs[:m]]
    shapes += [jax.ShapeDtypeStruct((length, *a.shape), a.dtype) for a in outputs[m:]]
    if length == 0 or any(0 in a.shape for a in (*body.jaxpr.in_avals, *outputs)):
        return list(carry), [jnp.zeros(s.shape, s.dtype) for s in shapes[m:]]
    _ready()
    step, target, threads = _lowered(body), host(), thread_count()
    fixed_length = None if has_length(step) else length
    short = is_short(step, length)
    paired = is_paired(step, target, length, threads)
    windows, lying = swapping.of_loop(step, body, swapped, length)
    parts = step.described(), reverse, fixed_length, short, paired, windows
    name = fingerprint(*parts, target, threads)
    ensure(name, target, lambda: build_loop(step, target, reverse, length, threads, windows))
    given, shapes = lying.given([*consts, *carry, *xs]), lying.shapes(shapes)
    moving = body.num_consts + m
    call = jax.ffi.ffi_call(
        name,
        shapes,
        vmap_method="sequential",
        input_layouts=[
            _layout(p, x.ndim, k >= moving)
            for k, (p, x) in enumerate(zip(step.inputs, given, strict=True))
        ],
        output_layouts=[
            _layout(p, len(x.shape), k >= m)
            for k, (p, x) in enumerate(zip(step.outputs, shapes, strict=True))
        ],
        input_output_aliases={
            i: k
            for i, k in overwritten(body, step, target).items()
            if i not in lying.arguments and k not in lying.results
        },
    )
    results = lying.made(call(*given))
    return results[:m], results[m:]


def run_accompanied(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    xs: Sequence[Array],
    products: Products,
    *,
    length: int,
    reverse: bool,
) -> list[Array] | None:
    """Run `body`, and the products before and after it, as one kernel (`accompanied.py`).

    Returns:
        The last carry, the ys that are not hidden, the leaders that are seen and what trails; None
        if there is no such kernel.
    """
    step, target, threads = _lowered(body), host(), thread_count()
    found = accompanied(step, body, xs, products, target, threads, length=length, reverse=reverse)
    if found is None:
        return None
    windows, company = found.windows, found.company
    fixed_length = None if xs else length
    name = fingerprint(step.described(), reverse, fixed_length, windows, company, target, threads)
    build = functools.partial(build_loop, step, target, reverse, length, threads)
    ensure(name, target, lambda: build(windows, company))
    call = jax.ffi.ffi_call(name, found.shapes, vmap_method="sequential")
    return found.results(call(*found.arguments([*consts, *carry, *xs, *products.others])))


def _layout(place: Place, ndim: int, timed: bool) -> tuple[int, ...]:
    """The order, from major to minor, in which the axes lie in memory."""
    if not place.order:
        return tuple(range(ndim))
    return (0, *(k + 1 for k in place.order)) if timed else place.order


def run_batch_major(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    feeds: Sequence[Feed],
    *,
    length: int,
    reverse: bool,
) -> tuple[list[Array], list[Array]] | None:
    """Run `body` over arrays that begin with (batch, time), products before it included.

    Returns:
        The last carry, and each y as (batch, time, ...); None where this runner cannot.
    """
    step, target, threads = _lowered(body), host(), thread_count()
    if step.rows == 1 and threads > 1 and jobs.pays(length):
        return None  # nothing has to be turned, and other threads may take the products
    ins, outs = body.jaxpr.in_avals, body.jaxpr.out_avals
    xs, ys = ins[len(consts) + len(carry) :], outs[body.num_carry :]
    if not _rows_are_batch(step, [*xs, *ys]) or any(0 in a.shape for a in (*ins, *outs)):
        return None
    if any(place.order for place in (*step.inputs, *step.outputs)):
        return None
    if not all(_serves_feed(feed, x) for feed, x in zip(feeds, xs, strict=True)):
        return None
    arrays, sources = _sources(feeds, len(consts) + len(carry))
    steps = steps_for(step, sources, tile_rows(step, target, threads), length)
    windows = Windows(steps, sources, len(consts) + len(carry) + len(arrays))
    short = is_short(step, length)
    name = fingerprint(step.described(), reverse, windows, short, target, threads)
    ensure(name, target, lambda: build_loop(step, target, reverse, length, threads, windows))
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in outs[: body.num_carry]]
    shapes += [jax.ShapeDtypeStruct((y.shape[0], length, *y.shape[1:]), y.dtype) for y in ys]
    call = jax.ffi.ffi_call(name, shapes, vmap_method="sequential")
    results = call(*consts, *carry, *arrays)
    return list(results[: body.num_carry]), list(results[body.num_carry :])


def _sources(feeds: Sequence[Feed], start: int) -> tuple[list[Array], tuple[Source, ...]]:
    """The arrays that a kernel takes for `feeds`, each once, as arguments from `start` on."""
    arrays = list({id(a): a for f in feeds for a in (f.array, f.weight) if a is not None}.values())
    numbers = {id(a): start + k for k, a in enumerate(arrays)}
    sources = []
    for feed in feeds:
        array, weight = feed.array, None
        if feed.weight is not None:
            weight = weight_of(feed.weight, numbers[id(feed.weight)], feed.transposed)
        place = Place(math.prod(array.shape[2:]), array.dtype.name, True)
        sources.append(Source(numbers[id(array)], place, weight))
    return arrays, tuple(sources)


def _rows_are_batch(step: Step, avals: Sequence[Any]) -> bool:
    """Whether the first axis of each of these xs and ys, and no other, is the loop's rows.

    A batch of one has no such axis, and gains nothing: it lies in one order either way.
    """
    places = (*step.inputs[step.num_consts + step.num_carry :], *step.outputs[step.num_carry :])
    return all(
        aval.shape[:1] == (step.rows,) and place.by_row
        for place, aval in zip(places, avals, strict=True)
    )


def _serves_feed(feed: Feed, x: Any) -> bool:
    """Whether a kernel makes `x`, one step of an input of the loop, from `feed`."""
    if feed.weight is None:
        return True
    known = feed.array.dtype == feed.weight.dtype == x.dtype and x.dtype.name in KINDS
    return known and feed.array.ndim == 3 and x.ndim == 2


def overwritten(body: Body, step: Step, target: Target) -> dict[int, int]:
    """Arguments that results take the place of, as {argument: result}.

    XLA wants both to be of one shape.
    """
    ins, outs = body.jaxpr.in_avals, body.jaxpr.out_avals
    places = in_place(scheduled(step, target))
    return {i: k for i, k in places.items() if jnp.shape(ins[i]) == jnp.shape(outs[k])}


@functools.cache
def platform_refusal() -> str | None:
    """Why no kernel at all can run here, or None."""
    try:
        ffi.check_version()
        host()
    except Unsupported as error:
        return str(error)
    return None


def _ready() -> None:
    refused = platform_refusal()
    if refused is not None:
        raise Unsupported(refused)


# By program, and by how many of its arguments are consts and carries.
_steps: "weakref.WeakKeyDictionary[Any, dict[tuple[int, int], Step]]"
_steps = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _lowered(body: Body) -> Step:
    key = body.num_consts, body.num_carry
    with _lock:
        known = _steps.setdefault(body.jaxpr, {}).get(key)
    if known is None:  # by two threads at once, where both come first
        known = lower(body)
        check_effort(scheduled(known, host()))
        with _lock:
            known = _steps.setdefault(body.jaxpr, {}).setdefault(key, known)
    return known


def gather(
    a: Array,
    dz: Array,
    start: int,
    width: int,
    *,
    precision=None,
    swapped: bool = False,
    after: Sequence[Array] = (),
) -> Array:
    """`(..., k)` and `width` columns of dz from `start` on to `(k, width)`: the sum over leading
    axes of outer products.

    Weight gradients are gathered so, over all time steps and rows. What this runner does not
    serve goes through XLA, which alone heeds `precision`. Where `swapped`, what `a` is the swapped
    axes of is read where it lies.
    """
    if not _serves(a, dz):
        return xla.gather(a, dz, start, width, precision=precision)
    rows = math.prod(a.shape[:-1])
    kind = KINDS[a.dtype.name]
    lies = rows_of(a, swapped)
    lies = lies if lies.swapped else None
    problem = Problem(rows, a.shape[-1], width, kind, start, dz.shape[-1], lies)
    shape = jax.ShapeDtypeStruct((a.shape[-1], width), a.dtype)
    a = jnp.swapaxes(a, 0, 1) if lies else a
    return _call_product(build_gather, problem, shape, a, dz, *after)


def product(
    a: Array,
    w: Array,
    *,
    precision=None,
    transposed: bool = False,
    swapped: bool = False,
    result_swapped: bool = False,
    after: Sequence[Array] = (),
) -> Array:
    """`(..., k)` times `(k, n)`, or `(n, k)` where `transposed`: inputs and a weight, all time
    steps together.

    What this runner does not serve goes through XLA, which alone heeds `precision`. What `a` is the
    swapped axes of is read where it lies where `swapped`, and what the axes of the result are
    swapped to is written where it goes where `result_swapped`.
    """
    if not _serves(a, w):
        return xla.product(a, w.T if transposed else w, precision=precision)
    left, result = (rows_of(a, asked) for asked in (swapped, result_swapped))
    outputs, kind = w.shape[0 if transposed else 1], KINDS[a.dtype.name]
    problem = Multiplication(left, result, a.shape[-1], outputs, kind, transposed)
    # Of the shape that the loop reads: XLA copies what a loop is to write over if a reshape
    # stands between.
    leading = a.shape[:-1]
    if result.swapped:
        leading = leading[::-1]
    shape = jax.ShapeDtypeStruct((*leading, outputs), a.dtype)
    a = jnp.swapaxes(a, 0, 1) if left.swapped else a
    made = _call_product(build_multiplication, problem, shape, a, w, *after)
    return jnp.swapaxes(made, 0, 1) if result.swapped else made


def add_up(index: Array, dz: Array, *, count: int) -> Array:
    """Integers `(...)` and `(..., n)` to `(count, n)`: row k sums the `dz` whose index is k.

    Indices are from 0 to `count - 1`.
    """
    if not _serves(dz, dz) or count == 0:
        return xla.add_up(index, dz, count=count)
    problem = Sums(math.prod(dz.shape[:-1]), dz.shape[-1], count, KINDS[dz.dtype.name])
    shape = jax.ShapeDtypeStruct((problem.parts, count, problem.columns), dz.dtype)
    sums = _call_product(build_sums, problem, shape, index.astype(jnp.int32), dz)
    return sums.sum(axis=0) if problem.parts > 1 else sums[0]


def _serves(a: Any, b: Any) -> bool:
    """Whether a product of these goes through a kernel of our own."""
    known = a.dtype.name in KINDS and a.dtype == b.dtype and 0 not in (*a.shape, *b.shape)
    return known and platform_refusal() is None


def _call_product(build, problem, shape, *arrays: Array) -> Array:
    """Call the kernel of `problem` on the first two of `arrays`, once the others are there."""
    target = host()
    threads = thread_count() if problem.flops > _WORTH_SHARING else 1
    name = fingerprint(problem, target, threads)
    ensure(name, target, lambda: build(problem, target, threads))
    return jax.ffi.ffi_call(name, shape, vmap_method="sequential")(*arrays)
