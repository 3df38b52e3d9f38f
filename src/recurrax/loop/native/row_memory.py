"""The memory of one row: where its values lie, how they are loaded, picked from and stored."""

from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import Builder, Register, as_offset, i32, integer
from recurrax.loop.native.graph import Value, number_of, stripped
from recurrax.loop.native.memory import SPILLED, Lanes
from recurrax.loop.native.schedule import Schedule, Slot
from recurrax.loop.native.stages import Stage
from recurrax.loop.native.work import constant_data


class RowMemory:
    """Emits the loads and stores of the row `row` (an index inside the tile).

    `base(slot)` is where the first row of the tile lies in a slot.
    """

    def __init__(
        self, b: Builder, schedule: Schedule, base: Callable[[Slot], Register], row: Register
    ):
        self.b = b
        self.schedule = schedule
        self._base = base
        self._row = row
        self._starts: dict[tuple[str, int, int], Register] = {}

    def load(self, slot: Slot, offsets: list, lanes: Lanes) -> Register:
        """The numbers of this row of `slot` that start at `offsets`."""
        base, start = self._address(slot)
        return memory.load(self.b, base, slot.dtype, [*start, *offsets], lanes)

    def store(self, value: Register, slot: Slot, offsets: list, lanes: Lanes) -> None:
        base, start = self._address(slot)
        memory.store(self.b, value, base, slot.dtype, [*start, *offsets], lanes)

    def load_numbers(self, value: Value, offsets: list, lanes: Lanes) -> Register:
        """Some of the constants side by side that `value` is."""
        return memory.load(self.b, self._numbers(value), SPILLED[value.kind], offsets, lanes)

    def pick_one(self, whole: Value, place: Register, stage: Stage) -> Register:
        """The feature of `whole` at `place`."""
        base, dtype, offsets = self._picked_from(whole, stage)
        place = as_offset(self.b, place)
        return memory.load(self.b, base, dtype, [*offsets, place], Lanes.scalar())

    def pick(self, whole: Value, places: Register, stage: Stage, lanes: Lanes) -> Register:
        """A vector of the features of `whole` at `places`; unused lanes hold any."""
        base, dtype, offsets = self._picked_from(whole, stage)
        each = [
            as_offset(self.b, self.b.extract_element(places, i32(lane)))
            for lane in range(lanes.used)
        ]
        each += each[-1:] * (lanes.count - lanes.used)
        return memory.load_each(self.b, base, dtype, offsets, each)

    def pick_known(
        self, whole: Value, places: Sequence[int], stage: Stage, lanes: Lanes
    ) -> Register:
        """The same where the places are known: neighbours are loaded together."""
        base, dtype, offsets = self._picked_from(whole, stage)
        count, first = lanes.count, min(places)
        span = max(places) + 1 - first
        order = [*places, *[first] * (count - lanes.used)]
        if span > 2 * count:
            return memory.load_each(self.b, base, dtype, offsets, [integer(p) for p in order])
        vectors = [
            memory.load(
                self.b, base, dtype, [*offsets, first + k], Lanes(count, min(count, span - k))
            )
            for k in range(0, span, count)
        ]
        mask = ir.Constant(ir.VectorType(i32, count), [p - first for p in order])
        return self.b.shuffle_vector(vectors[0], vectors[-1], mask)

    def _address(self, slot: Slot) -> tuple[Register, list]:
        """Where this row of a slot begins: a base and an offset in elements."""
        offsets = [slot.offset]
        if slot.stride:
            key = (slot.space, slot.index, slot.stride)
            if key not in self._starts:
                self._starts[key] = self.b.mul(self._row, integer(slot.stride))
            offsets.insert(0, self._starts[key])
        return self._base(slot), offsets

    def _picked_from(self, whole: Value, stage: Stage) -> tuple[Register, str, list]:
        """Where this row of a value begins that features are picked from."""
        source, start = stripped(whole)
        if source.op == "numbers":
            return self._numbers(source), SPILLED[source.kind], [start]
        assert self.schedule.in_memory(whole, stage) or self.schedule.in_memory(source, stage)
        slot = self.schedule.whereabouts(whole)
        base, offsets = self._address(slot)
        return base, slot.dtype, offsets

    def _numbers(self, value: Value) -> Register:
        """Numbers that stand in the program, in memory."""
        module, name = self.b.module, f"numbers{value.number}"
        if name not in module.globals:
            type_ = ir.ArrayType(memory.stored_type(SPILLED[value.kind]), value.width)
            numbers = [number_of(param, value.kind) for param in value.param]
            constant_data(module, name, ir.Constant(type_, numbers))
        return module.globals[name]
