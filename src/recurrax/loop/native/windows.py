"""Windows: a few steps at a time pass through memory that stays in the cache.

A tile of rows takes several steps together and lays them down in **windows**: so many rows that a
product with a weight, of what the loop reads or of what it has written, is worth its while.

Arrays that begin with (batch, time) pass too. The loop wants all rows of one step side by side. In
such an array they lie far apart, often at a power of two, where they fall into few sets of the
cache; but several steps of a row are one run of memory.
"""

import dataclasses
from collections.abc import Callable, Sequence

from recurrax.loop.native import memory
from recurrax.loop.native.emit import Builder, Register, at, i8, integer, loop
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.jobs import Gathered, Multiplied
from recurrax.loop.native.lower import Place, Step
from recurrax.loop.native.memory import SPILLED, Lanes
from recurrax.loop.native.schedule import Schedule
from recurrax.loop.native.weights import bytes_of

_ROWS = 128  # that a product needs to run at its peak
_BYTES = 1 << 20  # half of a second-level cache
# Windows between products: rows that they hold at most, and bytes of all that is read or added up
# for each. Found by measurement: with twice as many, products run as fast outside the loop.
_MOST_ROWS = 200
_LARGEST = 3 << 19


@dataclasses.dataclass(frozen=True)
class Source:
    """Where an x of the loop comes from: an argument (batch, time, ...), times `weight` if any."""

    argument: int
    place: Place
    weight: Weight | None


@dataclasses.dataclass(frozen=True)
class Windows:
    """`steps` pass through at a time.

    `sources` are those of the loop's xs, one for each; None where the loop reads the x where it
    lies. Where `batch_major`, all arguments with a time axis and all results begin with (batch,
    time), and all pass. Else only the buffers `swapped` do and the others begin with (time, batch);
    and of the ys only the swapped pass and the `hidden`, which nobody but the products `trailing`
    the loop reads: they have no buffer, though `swapped` and products (`jobs.py`) number buffers
    as if all ys had one.
    """

    steps: int
    sources: tuple[Source | None, ...]
    num_arguments: int
    batch_major: bool = True
    swapped: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    trailing: tuple[Gathered | Multiplied, ...] = ()

    def lies_by_batch(self, number: int) -> bool:
        """Whether a buffer begins with (batch, time)."""
        return self.batch_major or number in self.swapped


def steps_for(step: Step, sources: Sequence[Source], rows: int, length: int) -> int:
    """Steps that a window holds: rows enough for a product, but no more than stay in the cache."""
    arguments = {s.argument: s.place for s in sources if s.weight is not None}
    places = (*arguments.values(), *_xs(step), *_ys(step))
    size = rows * sum(place.width * memory.size(place.dtype) for place in places)
    return max(1, min(-(-_ROWS // rows), _BYTES // size, length))


def steps_between(
    schedule: Schedule,
    sources: Sequence[Source | None],
    passing_ys: Sequence[int],
    trailing: Sequence[Gathered | Multiplied],
    rows: int,
    length: int,
) -> int | None:
    """Steps that a window holds between the products before a loop and after it.

    None where they would not all stay in the cache, or the loop is too short. If one number of
    steps can, it divides all.
    """
    weights = {p.weight for p in schedule.products}
    weights |= {s.weight for s in sources if s is not None and s.weight is not None}
    weights |= {p.weight for p in trailing if isinstance(p, Multiplied)}
    used = sum(map(bytes_of, weights))
    for p in trailing:
        if isinstance(p, Gathered):
            used += p.problem.left * p.problem.right * memory.size(SPILLED[p.problem.kind])
    few, most = -(-_ROWS // rows), max(_MOST_ROWS // rows, 1)
    passing = [_ys(schedule.step)[k] for k in passing_ys]
    for x, source in zip(_xs(schedule.step), sources, strict=True):
        if source is not None:
            passing += [source.place] if source.weight is None else [source.place, x]
    windows = most * rows * sum(p.width * memory.size(p.dtype) for p in passing)
    if used > _LARGEST or windows > _BYTES or length < few:
        return None
    return next((n for n in range(most, few - 1, -1) if length % n == 0), most)


def _xs(step: Step) -> tuple[Place, ...]:
    return step.inputs[step.num_consts + step.num_carry :]


def _ys(step: Step) -> tuple[Place, ...]:
    return step.outputs[step.num_carry :]


@dataclasses.dataclass(frozen=True)
class Window:
    """`rows` rows of a step, and then those of the next, from `start` on in scratch memory."""

    start: int
    place: Place
    rows: int

    @property
    def step_bytes(self) -> int:
        return self.rows * self.place.width * memory.size(self.place.dtype)

    def at(self, b: Builder, scratch: Register, k: Register) -> Register:
        """The first row of its `k`th step."""
        return at(b, scratch, i8, self.start, b.mul(k, integer(self.step_bytes)))


def copy(
    b: Builder,
    window: Window,
    scratch: Register,
    array: Register,
    row_at: Callable[[Register, Register], Register],
    count: Register,
    lanes: int,
    *,
    inwards: bool,
    batch_major: bool,
) -> None:
    """Copy `count` steps between a window and an array, (batch, time, ...) or (time, batch, ...).

    `row_at(r, s)` tells which row of features of the array is the window's row `r` of step `s`. In
    the array, what is copied next lies beside what was copied last, where it can.
    """
    width, dtype = window.place.width, window.place.dtype
    whole = width - width % lanes

    def one(r: Register, s: Register) -> None:
        here = window.at(b, scratch, s), [b.mul(r, integer(width))]
        there = array, [b.mul(row_at(r, s), integer(width))]
        (source, start), (target, to) = (there, here) if inwards else (here, there)

        def some(j: Register, used: int) -> None:
            taken = Lanes(lanes, used)
            value = memory.load(b, source, dtype, [*start, j], taken)
            memory.store(b, value, target, dtype, [*to, j], taken)

        loop(b, 0, whole, lanes, [], lambda j, _: some(j, lanes))
        if whole < width:
            some(integer(whole), width - whole)

    def row(r: Register, _) -> None:
        loop(b, 0, count, 1, [], lambda s, _: one(r, s))

    def step(s: Register, _) -> None:
        loop(b, 0, window.rows, 1, [], lambda r, _: one(r, s))

    if batch_major:
        loop(b, 0, window.rows, 1, [], row)
    else:
        loop(b, 0, count, 1, [], step)
