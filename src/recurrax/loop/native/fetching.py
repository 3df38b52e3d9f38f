"""Memory that a tile reads and writes at its next step, asked for in time.

The rows of a step lie together in each stack, and those of the next step far away, out of the
caches: some hundred lines, which come no sooner for being asked for all at once. While a product
runs on what is in the caches, memory is idle. So the largest product of a step asks for a line of
the next one every few multiplications. Where its time is too short for all, where its weight comes
from memory too, or there is none, the last loop over features asks for what its row is about to
need.
"""

import dataclasses
from collections.abc import Iterable

from recurrax.loop.native import memory
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.lower import Step
from recurrax.loop.native.memory import LINE
from recurrax.loop.native.schedule import Slot
from recurrax.loop.native.weights import bytes_of

_LARGEST = 8192
_LARGEST_WEIGHT = 2 << 20  # of a product that leaves memory idle; with 4 MiB it does not


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Rows of `size` bytes each in an x or y; those of the next step lie `following` bytes on."""

    slot: Slot
    size: int
    following: int

    def lines(self, rows: int) -> int:
        return -(-rows * self.size // LINE)


def leaves_memory_idle(weight: Weight) -> bool:
    return bytes_of(weight) <= _LARGEST_WEIGHT


def stretches(step: Step, slots: Iterable[Slot], reverse: bool) -> list[Stretch]:
    """What is worth asking for of the xs and ys that `slots` lie in."""
    found = {(s.space, s.index): s for s in slots}
    wanted = []
    for slot in found.values():
        place = (step.inputs if slot.space == "xs" else step.outputs)[slot.index]
        size = place.width * memory.size(place.dtype)
        if place.by_row and LINE <= size <= _LARGEST:
            wanted.append(Stretch(slot, size, size * step.rows * (-1 if reverse else 1)))
    return wanted
