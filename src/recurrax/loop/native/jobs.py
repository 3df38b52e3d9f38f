"""Products as jobs alongside a loop over one row, which keeps one thread busy.

What is to be multiplied after it (weight gradients, the gradient of its inputs) need not wait for
its end: the other threads follow it, a window of steps behind. What it reads of such products
(inputs times a weight) need not be there when it begins: they go ahead of it. `alongside.py` hands
the windows out; here is what is done with one.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    function,
    i1,
    i8,
    i64,
    integer,
    load_pointer,
    pointer,
    void,
)
from recurrax.loop.native.gathering import GatherCode, Part, Problem
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import SPILLED, TYPES
from recurrax.loop.native.multiplying import MultiplicationCode
from recurrax.loop.native.target import Target
from recurrax.loop.native.weights import bytes_of
from recurrax.loop.native.work import TICK, Jobs

STEPS = 2 * TICK  # of a window
# A result is read and written anew for every window, so it must stay in the cache.
_LARGEST_RESULT = 1 << 20


@dataclasses.dataclass(frozen=True)
class Gathered:
    """The buffer `result` = AᵀD over all steps, with A and D in the buffers `left` and `right`."""

    problem: Problem
    left: int
    right: int
    result: int


@dataclasses.dataclass(frozen=True)
class Multiplied:
    """The buffer `result` = A W, row by row, with A in the buffer `left`."""

    weight: Weight
    kind: str
    left: int
    result: int


@dataclasses.dataclass(frozen=True)
class Company:
    """The products alongside a loop of `length` steps, which takes the last first if `reverse`.

    Of `leading` ones, `left` is the argument in whose place the loop reads the result. The tile may
    do them itself, amid its steps, so they need no scratch memory, which holds its own values.
    Buffers are numbered as the handler's: its arguments (the loop's, then others), then its results
    (likewise).
    """

    length: int
    reverse: bool
    num_arguments: int
    leading: tuple[Multiplied, ...] = ()
    trailing: tuple[Gathered | Multiplied, ...] = ()

    @property
    def products(self) -> tuple[Gathered | Multiplied, ...]:
        return *self.leading, *self.trailing

    @property
    def bounds(self) -> tuple[int, ...]:
        """Where windows begin, and the last ends: a small one first where the loop waits for it,
        and small ones last, so that little is left to do when the loop ends."""
        first = TICK if self.leading else 0
        starts = [*range(0, first, TICK), *range(first, self.length - STEPS, STEPS)]
        starts += range(starts[-1] + TICK, self.length, TICK)
        return *starts, self.length


def pays(length: int) -> bool:
    """Whether a loop is long enough to be accompanied."""
    return length >= 2 * STEPS


def fits(product: Gathered | Multiplied) -> bool:
    """Whether what a product reads or adds up anew for each window stays in the cache."""
    if isinstance(product, Gathered):
        numbers = product.problem.left * product.problem.right
        return numbers * memory.size(SPILLED[product.problem.kind]) <= _LARGEST_RESULT
    return bytes_of(product.weight) <= _LARGEST_RESULT


class CompanyCode:
    """Emits the work of each job: `packed_bytes` are shared, `scratch_bytes` a thread's own."""

    def __init__(self, module: ir.Module, company: Company, target: Target):
        self.packed_bytes = self.scratch_bytes = 0
        self._module, self._target, self._company = module, target, company
        self._gathers: dict[Problem, GatherCode] = {}
        self._windows: Sequence[ir.Function] = [
            self._gather(k, p) if isinstance(p, Gathered) else self._multiply(k, p)
            for k, p in enumerate(company.products)
        ]

    def jobs(self, packed_at: int) -> Jobs:
        """What the driver is told; `packed_at` is where in packed memory room was made."""

        def emit(b: Builder, buffers, scratch, packed, job, window) -> None:
            packed = at(b, packed, i8, packed_at)
            for k, code in enumerate(self._windows):
                with b.if_then(b.icmp_signed("==", job, integer(k))):
                    b.call(code, [buffers, scratch, packed, window])

        company = self._company
        return Jobs(len(company.products), len(company.leading), company.bounds, emit)

    def _gather(self, k: int, product: Gathered) -> ir.Function:
        problem = product.problem
        code = self._gather_code(problem)
        made, b = self._function(k)
        buffers, scratch, _, window = made.args
        left, right, result = (
            load_pointer(b, buffers, n) for n in (product.left, product.right, product.result)
        )
        type_ = TYPES[problem.kind]

        def some(first: Register, steps: int, fresh: bool) -> None:
            a = at(b, left, type_, b.mul(first, integer(problem.left)))
            d = at(b, right, type_, b.mul(first, integer(problem.features)), problem.start)
            part = Part(steps, problem.left, problem.right, fresh)
            b.call(code.chunk(part), [a, d, result, scratch])
            self.scratch_bytes = max(self.scratch_bytes, code.scratch_bytes)

        self._by_size(b, window, some)
        b.ret_void()
        return made

    def _gather_code(self, problem: Problem) -> GatherCode:
        """What gathers of one shape share."""
        shape = dataclasses.replace(problem, start=0)
        if shape not in self._gathers:
            lanes = self._target.lanes(64 if problem.kind == "f64" else 32)
            name = f"gather{len(self._gathers)}_"
            self._gathers[shape] = GatherCode(self._module, shape, self._target, lanes, name)
        return self._gathers[shape]

    def _multiply(self, k: int, product: Multiplied) -> ir.Function:
        weight = product.weight
        how = self._module, weight, product.kind, self._target, f"job{k}_"
        code = MultiplicationCode(*how, in_place=_LARGEST_RESULT)
        start = self.packed_bytes
        self.packed_bytes += code.weights.bytes
        made, b = self._function(k)
        buffers, _, packed, window = made.args
        room = at(b, packed, i8, start)
        with b.if_then(b.icmp_signed("==", window, integer(0))):
            code.weights.pack(b, buffers, room)
        panels = code.panels(b, buffers, room)
        left, result = (load_pointer(b, buffers, n) for n in (product.left, product.result))
        type_, product_of = TYPES[product.kind], functools.cache(code.product)

        def some(first: Register, steps: int, _fresh: bool) -> None:
            rows = at(b, left, type_, b.mul(first, integer(weight.inputs)))
            out = at(b, result, type_, b.mul(first, integer(weight.outputs)))
            b.call(product_of(steps), [rows, panels, out, i1(False)])

        self._by_size(b, window, some)
        b.ret_void()
        return made

    def _function(self, k: int) -> tuple[ir.Function, Builder]:
        """`void job(buffers, scratch, packed, window)`."""
        return function(self._module, f"job{k}", void, [pointer] * 3 + [i64])

    def _by_size(self, b: Builder, window: Register, some: Callable) -> None:
        """`some(first step, how many, whether it is the first)` for a window."""
        company, bounds = self._company, self._company.bounds
        sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
        first = 0
        alike = [(size, k == 0) for k, size in enumerate(sizes)]
        for (size, fresh), run in itertools.groupby(alike):
            last = first + len(list(run)) - 1
            inside = b.and_(
                b.icmp_signed(">=", window, integer(first)),
                b.icmp_signed("<=", window, integer(last)),
            )
            with b.if_then(inside):
                past = b.mul(b.sub(window, integer(first)), integer(size))
                start = b.add(past, integer(bounds[first]))
                if company.reverse:
                    start = b.sub(integer(company.length - size), start)
                some(start, size, fresh)
            first = last + 1
