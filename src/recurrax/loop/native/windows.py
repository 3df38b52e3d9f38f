"""Loops over arrays that begin with (batch, time): a few steps at a time pass through a window.

The loop wants all rows of one step side by side. In such an array they lie far apart, often at a
power of two, where they fall into few sets of the cache. So a tile of rows takes several steps
together, of which each row has one run of memory. They are laid down step by step in **windows**,
which stay in the cache; there they are multiplied with the weights that meet `x` alone. Results
leave through windows likewise.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from recurrax.loop.native import memory
from recurrax.loop.native.emit import Builder, Register, at, i8, integer, loop
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.lower import Place, Step
from recurrax.loop.native.memory import Lanes

_ROWS = 128  # that a product needs to run at its peak
_BYTES = 1 << 20  # half of a second-level cache


@dataclasses.dataclass(frozen=True)
class Source:
    """Where an x of the loop comes from: an argument (batch, time, ...), times `weight` if any."""

    argument: int
    place: Place
    weight: Weight | None


@dataclasses.dataclass(frozen=True)
class Windows:
    """`steps` pass through at a time; `sources` are those of the loop's xs, one for each."""

    steps: int
    sources: tuple[Source, ...]
    num_arguments: int


def steps_for(step: Step, sources: Sequence[Source], rows: int, length: int) -> int:
    """Steps that a window holds: rows enough for a product, but no more than stay in the cache."""
    arguments = {s.argument: s.place for s in sources if s.weight is not None}
    places = (*arguments.values(), *_xs(step), *_ys(step))
    size = rows * sum(place.width * memory.size(place.dtype) for place in places)
    return max(1, min(-(-_ROWS // rows), _BYTES // size, length))


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


class TileWindows:
    """The windows of one tile function; `room(bytes)` takes scratch memory for them.

    `arguments` are those that go in, by number; `xs` is what the loop reads, `ys` what it writes.
    """

    def __init__(self, windows: Windows, step: Step, rows: int, room: Callable[[int], int]):
        self.steps = windows.steps
        self.sources = windows.sources

        def window(place: Place) -> Window:
            size = windows.steps * rows * place.width * memory.size(place.dtype)
            return Window(room(size), place, rows)

        self.arguments: dict[int, Window] = {}
        for source in windows.sources:
            if source.argument not in self.arguments:
                self.arguments[source.argument] = window(source.place)
        self.xs = [
            self.arguments[source.argument] if source.weight is None else window(place)
            for source, place in zip(windows.sources, _xs(step), strict=True)
        ]
        self.ys = [window(place) for place in _ys(step)]

    def products(self) -> Iterator[tuple[Weight, Window, Window]]:
        """What is multiplied: a weight, the window of its argument, and that of the result."""
        for source, window in zip(self.sources, self.xs, strict=True):
            if source.weight is not None:
                yield source.weight, self.arguments[source.argument], window


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
) -> None:
    """Copy `count` steps between a window and an array (batch, time, ...).

    `row_at(r, s)` tells which row of features of the array is the window's row `r` of step `s`.
    """
    width, dtype = window.place.width, window.place.dtype
    whole = width - width % lanes

    def row(r: Register, _) -> None:
        def one_step(s: Register, _) -> None:
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

        loop(b, 0, count, 1, [], one_step)

    loop(b, 0, window.rows, 1, [], row)
