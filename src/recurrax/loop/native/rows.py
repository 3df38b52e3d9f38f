"""The elementwise work of one row in one stage: loops over features, everything in registers."""

from collections.abc import Callable

import llvmlite.ir as ir

from recurrax.loop.native import memory, operations
from recurrax.loop.native.emit import (
    Builder,
    Register,
    across,
    constant,
    i64,
    integer,
    loop,
    splat,
)
from recurrax.loop.native.graph import Value
from recurrax.loop.native.lower import FUNCTIONS
from recurrax.loop.native.memory import TYPES, Lanes
from recurrax.loop.native.overlap import overlapped
from recurrax.loop.native.schedule import Schedule, Slot, Stage, Task

Key = tuple[Value, int]

# Turns of a loop over features laid out together: sums that hide how long each addition takes, and
# functions that keep the processor at work. Of many functions one turn does, and more is slower.
_SUMS = 4
_TURNS = 2
_MANY_FUNCTIONS = 17


class Row:
    """Emits the stages of one level for the row `row` (an index inside the tile).

    What the row has of single numbers (reductions, per-row scalars) stays in registers from one
    stage to the next.
    """

    def __init__(
        self,
        b: Builder,
        schedule: Schedule,
        base: Callable[[Slot], Register],
        row: Register,
    ):
        self.b = b
        self.schedule = schedule
        self.lanes = schedule.lanes
        self._base = base
        self._row = row
        self._starts: dict[tuple[str, int, int], Register] = {}
        self._scalars: dict[Key, Register] = {}
        self._totals: dict[Value, Register] = {}
        self._rows_of: dict[Value, Register] = {}

    def emit(self, stage: Stage) -> None:
        """All tasks of `stage`; those as wide as each other share a loop."""
        tasks = self.schedule.tasks[stage]
        for width in sorted({t.width for t in tasks}):
            group = [t for t in tasks if t.width == width]
            if width == 1:
                self._single(group, stage)
            else:
                self._group(group, width, stage)
        kept = {t.into: t.slot for t in tasks if t.into is not None and t.slot is not None}
        for value, slot in kept.items():
            self._store(self._totals[value], slot, [], Lanes.scalar())

    def _address(self, slot: Slot) -> tuple[Register, list]:
        """Where this row of a slot begins: a base and an offset in elements."""
        offsets = [slot.offset]
        if slot.stride:
            key = (slot.space, slot.index, slot.stride)
            if key not in self._starts:
                self._starts[key] = self.b.mul(self._row, integer(slot.stride))
            offsets.insert(0, self._starts[key])
        return self._base(slot), offsets

    def _load(self, slot: Slot, offsets: list, lanes: Lanes) -> Register:
        base, start = self._address(slot)
        return memory.load(self.b, base, slot.dtype, [*start, *offsets], lanes)

    def _store(self, value: Register, slot: Slot, offsets: list, lanes: Lanes) -> None:
        base, start = self._address(slot)
        memory.store(self.b, value, base, slot.dtype, [*start, *offsets], lanes)

    def _scalar(self, value: Value, start: int, stage: Stage) -> Register:
        """Feature `start` of `value` (its only one, if it is one wide)."""
        start = start if value.width > 1 else 0
        key = (value, start)
        if key not in self._scalars:
            self._scalars[key] = self._new_scalar(value, start, stage)
        return self._scalars[key]

    def _new_scalar(self, value: Value, start: int, stage: Stage) -> Register:
        if value.op == "number":
            return literal(value)
        if value in self._totals:
            return self._totals[value]
        if self.schedule.in_memory(value, stage):
            return self._load(self.schedule.home[value], [start], Lanes.scalar())
        if value.op == "slice":
            return self._scalar(value.args[0], start + value.param, stage)
        if value.op == "concat":
            piece, inner = piece_at(value, start)
            return self._scalar(piece, inner, stage)
        if value.op == "look_up":
            return self._look_up(value, [start], stage, Lanes.scalar())
        args = [self._scalar(a, start, stage) for a in value.args]
        return operations.apply(self.b, value.param[0], value.param[1], args, value.kind)

    def _single(self, tasks: list[Task], stage: Stage) -> None:
        for task in tasks:
            value = self._scalar(task.value, task.start, stage)
            if task.into is not None:
                self._add_total(task.into, value)
            else:
                assert task.slot is not None
                self._store(value, task.slot, [], Lanes.scalar())

    def _add_total(self, into: Value, part: Register) -> None:
        known = self._totals.get(into)
        combined = part if known is None else operations.combine(self.b, into.param, known, part)
        self._totals[into] = combined

    def _group(self, tasks: list[Task], width: int, stage: Stage) -> None:
        """One loop over `width` features for all of `tasks`, and what is left over in part."""
        b, lanes = self.b, self.lanes
        spread, functions = self._prepare(tasks, stage)
        reductions = list(dict.fromkeys(t.into for t in tasks if t.into is not None))
        whole, rest = divmod(width, lanes)
        overlap = 1 < functions < _MANY_FUNCTIONS
        most = _SUMS if reductions else _TURNS if overlap else 1
        turns = next(n for n in range(most, 0, -1) if whole % n == 0)

        def turn(index: Register | int, parts: list[Register], used: int) -> list[Register]:
            part = dict(zip(reductions, parts, strict=True))
            found: dict[Key, Register] = {}
            taken = Lanes(lanes, used)
            values = [
                self._vector(t.value, t.start, index, stage, taken, found, spread) for t in tasks
            ]
            # all is read before anything is written: a result may stand where an argument stood
            for task, value in zip(tasks, values, strict=True):
                if task.into is None:
                    assert task.slot is not None
                    self._store(value, task.slot, [index], taken)
                    continue
                how = task.into.param
                if used < lanes:
                    mask = ir.Constant(
                        ir.VectorType(ir.IntType(1), lanes), [k < used for k in range(lanes)]
                    )
                    value = b.select(mask, value, operations.neutral(how, value.type))
                part[task.into] = operations.combine(b, how, part[task.into], value)
            return [part[r] for r in reductions]

        starts = [
            operations.neutral(r.param, ir.VectorType(TYPES[r.kind], lanes)) for r in reductions
        ]

        def body(index: Register, carried: list[Register]) -> list[Register]:
            count, results, begin = len(reductions), [], len(b.block.instructions)
            for k in range(turns):
                place = b.add(index, integer(k * lanes)) if k else index
                results += turn(place, carried[k * count : (k + 1) * count], lanes)
            if overlap:
                b.block.instructions[begin:] = overlapped(b.block.instructions[begin:])
            return results

        parts = loop(b, 0, whole * lanes, turns * lanes, starts * turns, body)
        sums = parts[: len(reductions)]
        for k in range(1, turns):
            other = parts[k * len(reductions) : (k + 1) * len(reductions)]
            sums = [
                operations.combine(b, r.param, x, y)
                for r, x, y in zip(reductions, sums, other, strict=True)
            ]
        if rest:
            sums = turn(whole * lanes, sums, rest)
        for r, vector in zip(reductions, sums, strict=True):
            how = r.param
            total = across(b, vector, lambda x, y, how=how: operations.combine(b, how, x, y))
            self._add_total(r, total)

    def _prepare(self, tasks: list[Task], stage: Stage) -> tuple[dict[Value, Register], int]:
        """What a loop over features needs ahead of it, and how many functions it evaluates.

        The single numbers that it uses are laid into vectors.
        """
        spread: dict[Value, Register] = {}
        functions, seen = 0, set()
        pending = [task.value for task in reversed(tasks)]
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            if value.width == 1:
                spread[value] = splat(self.b, self._scalar(value, 0, stage), self.lanes)
            elif self.schedule.in_memory(value, stage):
                continue
            elif value.op == "look_up":
                self._row_of(value, stage)
            else:
                functions += value.op == "map" and value.param[0] in FUNCTIONS
                pending += reversed(value.args)
        return spread, functions

    def _row_of(self, value: Value, stage: Stage) -> Register:
        """Where the row that the look-up `value` picks begins in its table, in elements."""
        if value not in self._rows_of:
            index = self._scalar(value.args[0], 0, stage)
            index = self.b.sext(index, i64) if index.type.width < 64 else index
            self._rows_of[value] = self.b.mul(index, integer(value.param.row_stride))
        return self._rows_of[value]

    def _look_up(self, value: Value, offsets: list, stage: Stage, lanes: Lanes) -> Register:
        return self._load(
            self.schedule.tables[value], [self._row_of(value, stage), *offsets], lanes
        )

    def _vector(
        self,
        value: Value,
        start: int,
        index: Register | int,
        stage: Stage,
        lanes: Lanes,
        found: dict[Key, Register],
        spread: dict[Value, Register],
    ) -> Register:
        """Features `start + index` onwards of `value`, as many as there are lanes."""
        if value.width == 1:
            return spread[value]
        key = (value, start)
        if key not in found:
            rest = (index, stage, lanes, found, spread)
            if self.schedule.in_memory(value, stage):
                found[key] = self._load(self.schedule.home[value], [start, index], lanes)
            elif value.op == "slice":
                found[key] = self._vector(value.args[0], start + value.param, *rest)
            elif value.op == "concat":
                piece, inner = piece_at(value, start)
                found[key] = self._vector(piece, inner, *rest)
            elif value.op == "look_up":
                found[key] = self._look_up(value, [start, index], stage, lanes)
            else:
                args = [self._vector(a, start, *rest) for a in value.args]
                found[key] = operations.apply(
                    self.b, value.param[0], value.param[1], args, value.kind
                )
        return found[key]


def literal(value: Value) -> ir.Constant:
    """The number that a `number` stands for."""
    number = float.fromhex(value.param) if value.kind[0] == "f" else int(value.param)
    return constant(TYPES[value.kind], number)


def piece_at(value: Value, start: int) -> tuple[Value, int]:
    """The piece of a `concat` that holds feature `start`, and where in it."""
    begin = 0
    for piece, taken in zip(value.args, value.param, strict=True):
        if start < begin + taken:
            return piece, start - begin if piece.width > 1 else 0
        begin += taken
    raise IndexError(start)
