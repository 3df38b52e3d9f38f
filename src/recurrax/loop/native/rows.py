"""The elementwise work of one row in one stage: loops over features, everything in registers."""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping

import llvmlite.ir as ir

from recurrax.loop.native import operations
from recurrax.loop.native.emit import (
    Builder,
    Register,
    across,
    as_offset,
    constant,
    i32,
    integer,
    loop,
    splat,
)
from recurrax.loop.native.graph import Value, number_of, piece_at
from recurrax.loop.native.lower import FUNCTIONS
from recurrax.loop.native.memory import TYPES, Lanes
from recurrax.loop.native.overlap import overlapped
from recurrax.loop.native.row_memory import RowMemory
from recurrax.loop.native.schedule import Schedule, Slot, Task
from recurrax.loop.native.stages import Stage

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
        self._memory = RowMemory(b, schedule, base, row)
        self._scalars: dict[Key, Register] = {}
        self._totals: dict[Value, Register] = {}
        self._rows_of: dict[Value, Register] = {}

    def emit(self, stage: Stage) -> None:
        """All tasks of `stage`; those as wide as each other share a loop."""
        tasks = [t for t in self.schedule.tasks[stage] if not t.scatters]
        for width in sorted({t.width for t in tasks}):
            group = [t for t in tasks if t.width == width]
            if width == 1:
                self._single(group, stage)
            else:
                self._group(group, width, stage)
        kept = {t.into: t.slot for t in tasks if t.into is not None and t.slot is not None}
        for value, slot in kept.items():
            self._memory.store(self._totals[value], slot, [], Lanes.scalar())
        for task in self.schedule.tasks[stage]:
            if task.scatters:
                self._scatter(task, stage)

    def _scalar(self, value: Value, start: int, stage: Stage) -> Register:
        """Feature `start` of `value` (its only one, if it is one wide)."""
        start = start if value.width > 1 else 0
        key = (value, start)
        for inner in self._inside_out(key, stage, self._scalars):
            self._scalars[inner] = self._new_scalar(*inner, stage)
        return self._scalars[key]

    def _inside_out(self, key: Key, stage: Stage, known: Mapping[Key, Register]) -> Iterator[Key]:
        """What is computed for a value, and it itself, in an order in which it can be; to be
        `known` before the next is asked for. (Python would not go down a long chain of calls.)"""
        pending, opened = [key], set()
        while pending:
            top = pending[-1]
            if top not in known and top not in opened:
                opened.add(top)
                pending += reversed(self._operands(*top, stage))
                continue
            pending.pop()
            if top not in known:
                yield top

    def _operands(self, value: Value, start: int, stage: Stage) -> list[Key]:
        """The values in registers that feature `start` of `value` is made of."""
        if value.op in ("number", "numbers", "look_up") or value in self._totals:
            return []
        if self.schedule.in_memory(value, stage):
            return []
        if value.op == "concat":
            return [piece_at(value, start)]
        start += value.param if value.op == "slice" else 0
        operands = value.args[1:] if value.op == "pick" else value.args
        return [(a, start if a.width > 1 else 0) for a in operands]

    def _new_scalar(self, value: Value, start: int, stage: Stage) -> Register:
        if value.op == "number":
            return _literal(value.param, value.kind)
        if value in self._totals:
            return self._totals[value]
        if self.schedule.in_memory(value, stage):
            return self._memory.load(self.schedule.home[value], [start], Lanes.scalar())
        if value.op == "slice":
            return self._scalar(value.args[0], start + value.param, stage)
        if value.op == "concat":
            piece, inner = piece_at(value, start)
            return self._scalar(piece, inner, stage)
        if value.op == "look_up":
            return self._look_up(value, [start], stage, Lanes.scalar())
        if value.op == "numbers":
            return _literal(value.param[start], value.kind)
        if value.op == "pick":
            whole, places = value.args
            return self._memory.pick_one(whole, self._scalar(places, start, stage), stage)
        args = [self._scalar(a, start, stage) for a in value.args]
        return operations.apply(self.b, value.param[0], value.param[1], args, value.kind)

    def _single(self, tasks: list[Task], stage: Stage) -> None:
        for task in tasks:
            value = self._scalar(task.value, task.start, stage)
            if task.into is not None:
                self._add_total(task.into, value)
            else:
                assert task.slot is not None
                self._memory.store(value, task.slot, [], Lanes.scalar())

    def _add_total(self, into: Value, part: Register) -> None:
        known = self._totals.get(into)
        combined = part if known is None else operations.combine(self.b, into.param, known, part)
        self._totals[into] = combined

    def _group(self, tasks: list[Task], width: int, stage: Stage) -> None:
        """One loop over `width` features for all of `tasks`, and what is left over in part."""
        b, lanes = self.b, self.lanes
        spread, functions = self._prepare([t.value for t in tasks], stage)
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
                    self._memory.store(value, task.slot, [index], taken)
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
                known = _known(index)
                further = b.add(index, integer(k * lanes)) if known is None else known + k * lanes
                place = further if k else index
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

    def _scatter(self, task: Task, stage: Stage) -> None:
        """Combine some features, one after another, with what stands at their places."""
        b, lanes, slot, into = self.b, self.lanes, task.slot, task.into
        assert slot is not None and into is not None
        spread, _ = self._prepare(list(task.operands), stage)

        def some(index: Register | int, used: int) -> None:
            rest = (index, stage, Lanes(lanes, used), {}, spread)
            features, places = (self._vector(v, task.start, *rest) for v in task.operands)
            for lane in range(used):
                feature = b.extract_element(features, i32(lane))
                place = [as_offset(b, b.extract_element(places, i32(lane)))]
                if (how := into.param[0]) != "last":
                    known = self._memory.load(slot, place, Lanes.scalar())
                    feature = operations.combine(b, how, known, feature)
                self._memory.store(feature, slot, place, Lanes.scalar())

        whole = task.width - task.width % lanes
        loop(b, 0, whole, lanes, [], lambda index, _: some(index, lanes))
        if whole < task.width:
            some(whole, task.width - whole)

    def _prepare(self, values: list[Value], stage: Stage) -> tuple[dict[Key, Register], int]:
        """What a loop over features needs ahead of it, and how many functions it evaluates.

        The single numbers that it uses are laid into vectors.
        """
        spread: dict[Key, Register] = {}
        functions, seen = 0, set()
        pending = values[::-1]
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            if value.width == 1:
                spread[value, 0] = splat(self.b, self._scalar(value, 0, stage), self.lanes)
            elif self.schedule.in_memory(value, stage):
                continue
            elif value.op == "look_up":
                self._row_of(value, stage)
            elif value.op == "pick":
                pending.append(value.args[1])
            else:
                functions += value.op == "map" and value.param[0] in FUNCTIONS
                pending += reversed(value.args)
        return spread, functions

    def _row_of(self, value: Value, stage: Stage) -> Register:
        """Where the row that the look-up `value` picks begins in its table, in elements."""
        if value not in self._rows_of:
            index = as_offset(self.b, self._scalar(value.args[0], 0, stage))
            self._rows_of[value] = self.b.mul(index, integer(value.param.row_stride))
        return self._rows_of[value]

    def _look_up(self, value: Value, offsets: list, stage: Stage, lanes: Lanes) -> Register:
        return self._memory.load(
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
        spread: dict[Key, Register],
    ) -> Register:
        """Features `start + index` onwards of `value`, as many as there are lanes."""
        wanted, known = (value, start if value.width > 1 else 0), ChainMap(found, spread)
        for key in self._inside_out(wanted, stage, known):
            found[key] = self._new_vector(*key, index, stage, lanes, known)
        return known[wanted]

    def _new_vector(
        self,
        value: Value,
        start: int,
        index: Register | int,
        stage: Stage,
        lanes: Lanes,
        known: Mapping[Key, Register],
    ) -> Register:
        if self.schedule.in_memory(value, stage):
            return self._memory.load(self.schedule.home[value], [start, index], lanes)
        if value.op == "look_up":
            return self._look_up(value, [start, index], stage, lanes)
        if value.op == "numbers":
            return self._memory.load_numbers(value, [start, index], lanes)
        operands = [known[key] for key in self._operands(value, start, stage)]
        if value.op in ("slice", "concat"):
            return operands[0]
        if value.op == "pick":
            whole, places = value.args
            first = _known(index)
            if first is not None and places.op == "numbers":
                chosen = places.param[start + first : start + first + lanes.used]
                return self._memory.pick_known(whole, chosen, stage, lanes)
            return self._memory.pick(whole, operands[0], stage, lanes)
        return operations.apply(self.b, value.param[0], value.param[1], operands, value.kind)


def _known(index: Register | int) -> int | None:
    """What a place among features is, if that is known."""
    if isinstance(index, ir.Constant):
        return int(index.constant)
    return index if isinstance(index, int) else None


def _literal(param: str | int, kind: str) -> ir.Constant:
    """A number of the graph in a register."""
    return constant(TYPES[kind], number_of(param, kind))
