"""What a native kernel does besides its loop: the products before it and after it.

A loop of one tile leaves threads free, which make them meanwhile (`native/jobs.py`). Where there
are more tiles, each makes its own rows' part, some steps at a time (`native/passing.py`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from recurrax.loop.body import Body, Gathered, Multiplied, Products
from recurrax.loop.native import jobs
from recurrax.loop.native.gathering import Problem
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.kernel import scheduled, tile_rows
from recurrax.loop.native.lower import Place, Step
from recurrax.loop.native.target import Target
from recurrax.loop.native.windows import Source, Windows, steps_between
from recurrax.loop.runners.swapping import Swapping

KINDS = {"float32": "f32", "float64": "f64"}


@dataclasses.dataclass(frozen=True)
class Accompanied:
    """A kernel that makes all of it: how it is told so, and the results that it has.

    Those with the numbers `returned` are the loop's (but for hidden ones), the leaders that are
    seen, and what trails it.
    """

    company: jobs.Company | None
    windows: Windows | None
    shapes: list[jax.ShapeDtypeStruct]
    returned: list[int]
    swapping: Swapping = dataclasses.field(default_factory=Swapping)

    def arguments(self, given: Sequence[Any]) -> list[Any]:
        """What the kernel takes, of consts, carry, xs and other arrays."""
        return self.swapping.given(given)

    def results(self, made: Sequence[Any]) -> list[Any]:
        """What was asked for, of all that the kernel makes."""
        turned = self.swapping.made(made)
        return [turned[k] for k in self.returned]


def accompanied(
    step: Step,
    body: Body,
    xs: Sequence[Any],
    products: Products,
    target: Target,
    threads: int,
    *,
    length: int,
    reverse: bool,
) -> Accompanied | None:
    """The kernel that makes a loop and `products`, or None if it takes several."""
    avals = (*body.jaxpr.in_avals, *body.jaxpr.out_avals, *products.others)
    known = _Known(step, body, xs, products, length)
    if any(0 in a.shape for a in avals) or not known.are_products_of_rows():
        return None
    if any(place.order for place in (*step.inputs, *step.outputs)):
        return None
    rows = tile_rows(step, target, threads)
    if rows == step.rows and threads > 1:
        return _with_company(known, reverse)
    return _with_windows(known, target, rows)


class _Known:
    """A loop of `length` steps and its products, stacks numbered as buffers of a kernel."""

    def __init__(self, step: Step, body: Body, xs: Sequence[Any], products: Products, length: int):
        self.step, self.body, self.products, self.length = step, body, products, length
        outs, m = body.jaxpr.out_avals, body.num_carry
        self.shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in outs[:m]]
        self.shapes += [jax.ShapeDtypeStruct((length, *a.shape), a.dtype) for a in outs[m:]]
        self.stacks = [*xs, *self.shapes[m:], *products.others]
        first_y = body.first_x + len(xs)
        self.num_arguments = first_y + len(products.others)
        self._first_product = self.num_arguments + len(outs)
        ys = range(self.num_arguments + m, self._first_product)
        self.numbers = [*range(body.first_x, first_y), *ys, *range(first_y, self.num_arguments)]

    def are_products_of_rows(self) -> bool:
        """Whether all products are of floats, one row for each step and row of the loop."""
        return all(self._is_of_rows(p) for p in (*self.products.leaders, *self.products.trailers))

    def _is_of_rows(self, product: Gathered | Multiplied) -> bool:
        left = self.stacks[product.left]
        read, dtypes = [left], [left.dtype]
        if isinstance(product, Gathered):
            read.append(self.stacks[product.right])
        dtypes += [self.stacks[product.weight].dtype] if isinstance(product, Multiplied) else []
        dtypes += [s.dtype for s in read]
        rows = self.length * self.step.rows
        alike = all(s.shape[0] == self.length and s.size == rows * s.shape[-1] for s in read)
        return alike and len(set(dtypes)) == 1 and dtypes[0].name in KINDS

    def swapped(self) -> set[int]:
        """The buffers that are better laid out as (batch, time, ...): of rows of the batch."""
        step, m = self.step, self.step.num_carry
        trailers = self.products.trailers
        stacks = [*self.stacks, *(self.shape_of(p) for p in trailers)]
        numbers = [*self.numbers, *(self._first_product + k for k in range(len(trailers)))]
        places = [*step.inputs[self.body.first_x :], *step.outputs[m:]]
        return {
            numbers[k]
            for k in self.products.swapped
            if stacks[k].ndim > 1 and stacks[k].shape[1] == step.rows > 1
            if k >= len(places) or places[k].by_row
        }

    def numbered(
        self, wanted: Sequence[Gathered | Multiplied], first: int = 0
    ) -> list[jobs.Gathered | jobs.Multiplied]:
        """Products, whose results are buffers from the `first` after the loop's on."""
        start = self._first_product + first
        return [self._job(p, start + k) for k, p in enumerate(wanted)]

    def _job(self, product: Gathered | Multiplied, result: int) -> jobs.Gathered | jobs.Multiplied:
        left, number = self.stacks[product.left], self.numbers[product.left]
        kind = KINDS[left.dtype.name]
        if isinstance(product, Gathered):
            features = self.stacks[product.right].shape[-1]
            problem = Problem(0, left.shape[-1], product.width, kind, product.start, features)
            return jobs.Gathered(problem, number, self.numbers[product.right], result)
        array = self.stacks[product.weight]
        weight = weight_of(array, self.numbers[product.weight], product.transposed)
        return jobs.Multiplied(weight, kind, number, result)

    def shape_of(self, product: Gathered | Multiplied) -> jax.ShapeDtypeStruct:
        left = self.stacks[product.left]
        if isinstance(product, Gathered):
            return jax.ShapeDtypeStruct((left.shape[-1], product.width), left.dtype)
        outputs = self.stacks[product.weight].shape[0 if product.transposed else 1]
        return jax.ShapeDtypeStruct((*left.shape[:-1], outputs), left.dtype)


def weight_of(array: Any, number: int, transposed: bool) -> Weight:
    """The argument `number` as a weight: (k, n), or (n, k) where `transposed`."""
    k, n = array.shape[::-1] if transposed else array.shape
    strides = (1, k) if transposed else (n, 1)
    return Weight(number, array.dtype.name, 0, k, n, *strides)


def _with_company(known: _Known, reverse: bool) -> Accompanied | None:
    """Alongside one tile: windows of one row, by the threads that it leaves free."""
    leaders, trailers = known.products.leaders, known.products.trailers
    leading = [j for j in known.numbered(leaders) if isinstance(j, jobs.Multiplied)]
    trailing = known.numbered(trailers, len(leaders))
    if not jobs.pays(known.length) or not all(map(jobs.fits, (*leading, *trailing))):
        return None
    company = jobs.Company(
        known.length, reverse, known.num_arguments, tuple(leading), tuple(trailing)
    )
    shapes = known.shapes + [known.shape_of(p) for p in (*leaders, *trailers)]
    first = len(known.shapes)
    hidden = {known.body.num_carry + k for k in known.products.hidden}
    returned = [k for k in range(first) if k not in hidden]
    returned += [first + k for k in known.products.seen]
    returned += range(first + len(leaders), len(shapes))
    return Accompanied(company, None, shapes, returned)


def _with_windows(known: _Known, target: Target, rows: int) -> Accompanied | None:
    """By each tile itself, of its own rows."""
    step, products, m = known.step, known.products, known.body.num_carry
    if products.seen:
        return None
    places = [*step.inputs[known.body.first_x :], *step.outputs[m:]]
    read = {k for p in products.trailers for k in _read(p)} | {p.left for p in products.leaders}
    for k in read & set(range(len(places))):
        if not places[k].by_row:
            return None
    # Windows of swapped arrays may be too many, where others are not.
    swapped = known.swapped()
    windows = _windows(known, target, rows, swapped)
    if windows is None and swapped:
        windows = _windows(known, target, rows, set())
    if windows is None:
        return None
    seen = [k for k in range(len(known.shapes)) if k - m not in products.hidden]
    shapes = [known.shapes[k] for k in seen] + [known.shape_of(p) for p in products.trailers]
    numbers = [known.num_arguments + k for k in seen] + [p.result for p in windows.trailing]
    swapping = Swapping(
        arguments=tuple(k for k in windows.swapped if k < known.num_arguments),
        results=tuple(place for place, k in enumerate(numbers) if k in windows.swapped),
    )
    returned = list(range(len(shapes)))
    return Accompanied(None, windows, swapping.shapes(shapes), returned, swapping)


def _windows(known: _Known, target: Target, rows: int, swapped: set[int]) -> Windows | None:
    """The windows of a kernel whose buffers `swapped` are so; None where there is no room."""
    step, products, first_x = known.step, known.products, known.body.first_x
    sources: list[Source | None] = [
        Source(k, step.inputs[k], None) if k in swapped else None
        for k in range(first_x, first_x + known.body.num_xs)
    ]
    for leader, job in zip(products.leaders, known.numbered(products.leaders), strict=True):
        assert isinstance(job, jobs.Multiplied)
        place = Place(job.weight.inputs, job.weight.dtype, True)
        sources[leader.left] = Source(job.left, place, job.weight)
    trailing = known.numbered(products.trailers)
    first_y, num_ys = known.num_arguments + known.body.num_carry, known.body.num_ys
    passing_ys = [k for k in range(num_ys) if k in products.hidden or first_y + k in swapped]
    schedule = scheduled(step, target)
    steps = steps_between(schedule, sources, passing_ys, trailing, rows, known.length)
    if steps is None:
        return None
    return Windows(
        steps=steps,
        sources=tuple(sources),
        num_arguments=known.num_arguments,
        batch_major=False,
        swapped=tuple(sorted(swapped)),
        hidden=products.hidden,
        trailing=tuple(trailing),
    )


def _read(product: Gathered | Multiplied) -> tuple[int, ...]:
    """The stacks whose rows a product reads."""
    if isinstance(product, Gathered):
        return product.left, product.right
    return (product.left,)
