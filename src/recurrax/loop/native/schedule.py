"""Which values of a step go through memory, where they lie there, and the loops that compute them.

A value may be read from memory only in a later stage (`stages.py`) than its own; within its stage
it is computed where it is used. What is cheap is computed again rather than stored. What features
are picked from must be in memory, and what others are scattered over comes to be there.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

from recurrax.loop.native.borders import borders
from recurrax.loop.native.graph import Value, stripped
from recurrax.loop.native.lower import Place, Step
from recurrax.loop.native.memory import REGISTER, SPILLED
from recurrax.loop.native.stages import Stage, Stages

_CHEAP = 4
_DEAR = {
    *("tanh", "logistic", "exp", "exp2", "log", "log1p", "expm1", "erf", "erfc", "sqrt", "rsqrt"),
    *("sin", "cos", "tan", "sinh", "cosh", "pow", "div", "cbrt"),
}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place in memory with one row of numbers for each row of the tile.

    `space` is const, xs, carry (this step's), next (the next step's carry), ys or scratch; `stride`
    is the distance between rows in elements, 0 where all rows share one.
    """

    space: str
    index: int
    dtype: str
    stride: int
    offset: int = 0

    def shifted(self, offset: int) -> "Slot":
        return dataclasses.replace(self, offset=self.offset + offset)


@dataclasses.dataclass(frozen=True)
class Task:
    """Compute `width` features of `value` from `start` on: store them to `slot`, or reduce them, or
    scatter them over `slot`."""

    value: Value
    start: int
    width: int
    slot: Slot | None
    into: Value | None = None

    @property
    def scatters(self) -> bool:
        return self.into is not None and self.into.op == "scatter"

    @property
    def operands(self) -> tuple[Value, ...]:
        """What is computed, from `start` on."""
        return (self.value, self.into.args[2]) if self.into and self.scatters else (self.value,)


class Schedule:
    """The products, tasks and memory of one step.

    `tasks[stage]` are the loops of a stage; `products` are in the order they run; `home[value]` is
    where a value lies in memory; `scratch[k]` is the width and dtype of scratch slot k, and whether
    one row's room is enough for it.
    """

    def __init__(self, step: Step, lanes: int):
        self.step = step
        self.lanes = lanes
        self.home: dict[Value, Slot] = {}
        self.scratch: list[tuple[int, str, bool]] = []
        self.stored: dict[Value, None] = {}
        self.reductions: dict[Value, None] = {}
        self.scatters: dict[Value, None] = {}
        self.requests: list[tuple[Value, int, Slot]] = []
        self._results: dict[Value, Slot] = {}
        self.tasks: dict[Stage, list[Task]] = {}
        stages = Stages(step)
        self.users, self.products = stages.users, stages.products
        self.by_result, self.stage = stages.by_result, stages.of
        self.last_level: dict[Value, int] = {}
        self._visited: set[tuple[Value, Stage]] = set()
        self._place_arguments(stages.values)
        # Where the rows of each look-up begin.
        self.tables = {v: _table(v) for v in self.users if v.op == "look_up"}
        self._ask_for_results()
        for product in reversed(self.products):
            for operand in (product.operand, *product.addends):
                self._settle(operand, product.level)
        self._give_homes()
        self._list_tasks()

    def in_memory(self, value: Value, stage: Stage) -> bool:
        """Whether `value` can be loaded in `stage` (otherwise it is computed there)."""
        if value not in self.home:
            return False
        ready = value.op == "leaf" or value in self.by_result or value.op == "scatter"
        return ready or self.stage[value] < stage

    def whereabouts(self, value: Value) -> Slot:
        """Where a value lies that is in memory, or is a slice of one that is."""
        if value in self.home:
            return self.home[value]
        source, start = stripped(value)
        return self.home[source].shifted(start)

    @property
    def levels(self) -> int:
        return 1 + max([0, *(p.level for p in self.products), *(s[0] for s in self.tasks)])

    @property
    def carries(self) -> list[tuple[Place, str]]:
        """The place of each carry, and its dtype where it stands in scratch memory."""
        first = self.step.num_consts
        places = self.step.inputs[first : first + self.step.num_carry]
        return [(p, SPILLED[REGISTER[p.dtype]]) for p in places]

    def _place_arguments(self, values: Sequence[Value]) -> None:
        for value in values:
            if value.op != "leaf":
                continue
            source = value.param
            place = self.step.inputs[source.index]
            if source.kind == "carry":
                stride = self.padded(place.width)
                slot = Slot("carry", source.index, SPILLED[value.kind], stride)
            else:
                stride = place.width if place.by_row else 0
                slot = Slot(source.kind, source.index, place.dtype, stride)
            self.home[value] = slot

    def padded(self, width: int) -> int:
        """Room for a row in scratch memory: whole vectors."""
        return -(-width // self.lanes) * self.lanes

    def _ask_for_results(self) -> None:
        for k, (value, place) in enumerate(zip(self.step.results, self.step.outputs, strict=True)):
            if k < self.step.num_carry:
                slot = Slot("next", k, SPILLED[value.kind], self.padded(place.width))
            else:
                slot = Slot("ys", k, place.dtype, place.width if place.by_row else 0)
                if value.width == place.width and self._can_be_home(value, slot):
                    self._results[value] = slot
            self._request(value, place.width, slot)

    def _request(self, value: Value, width: int, slot: Slot) -> None:
        """Ask for `value` to be written to `slot`, each piece of it as early as it is known."""
        if value.op == "concat" and value.width == width:
            start = 0
            for piece, taken in zip(value.args, value.param, strict=True):
                self._request(piece, taken, slot.shifted(start))
                start += taken
            return
        self.requests.append((value, width, slot))
        self._visit(value, self.stage[value])

    def _settle(self, value: Value, level: int, exact: bool = True) -> None:
        """See to it that `value` lies in memory at a level, as numbers that need no conversion if
        it has to be `exact`: so does a product take it, a row for each row."""
        source = stripped(value)[0]
        for known in (value, source):
            self.last_level[known] = max(self.last_level.get(known, 0), level)
        if source.op == "leaf" and (not exact or self.home[source].dtype == SPILLED[source.kind]):
            return
        if source.op == "scatter":
            self._visit(source, self.stage[source])
            return
        if source in self.by_result or source in self.stored or value in self.stored:
            return
        self.stored[value] = None
        if value.op == "concat" and value in self._results:
            self.home[value] = self._results[value]
            return
        if value.op == "concat":
            slot = self._new_scratch(value.width, SPILLED[value.kind], False)
            self.home[value] = slot
            self._request(value, value.width, slot)
            return
        for operand in self._operands(value, self.stage[value]):
            self._visit(*operand)

    def _visit(self, value: Value, stage: Stage) -> None:
        """Note that `value` is read in `stage`, and decide whether through memory."""
        pending = [(value, stage)]
        while pending:
            pending += reversed(self._read_for(*pending.pop()))

    def _read_for(self, value: Value, stage: Stage) -> list[tuple[Value, Stage]]:
        """What is read, and where, so that `value` can be read in `stage`."""
        if (value, stage) in self._visited or value.op in ("number", "numbers"):
            return []
        self._visited.add((value, stage))
        self.last_level[value] = max(self.last_level.get(value, 0), stage[0])
        if value.op == "leaf" or value in self.by_result:
            return []
        if value.op == "reduce":
            if value in self.reductions:
                return []
            self.reductions[value] = None
            return [(value.args[0], self.stage[value.args[0]])]
        if value.op == "scatter":
            if value in self.scatters:
                return []
            self.scatters[value] = None
            return [(arg, self._when(value)) for arg in value.args]
        wide = value.op in ("map", "pick") and value.width > 1
        if wide and self.stage[value] < stage and value not in self.stored and self._is_dear(value):
            self.stored[value] = None
            return self._operands(value, self.stage[value])
        if value in self.stored and self.stage[value] < stage:
            return []
        return self._operands(value, stage)

    def _operands(self, value: Value, stage: Stage) -> list[tuple[Value, Stage]]:
        """What computing `value` in `stage` reads there; what it picks from is in memory."""
        operands = value.args
        if value.op == "pick":
            whole, *operands = operands
            if stripped(whole)[0].op != "numbers":
                self._settle(whole, stage[0], exact=False)
        return [(arg, stage) for arg in operands]

    def _when(self, scatter: Value) -> Stage:
        """The stage that scatters: whatever it reads can be computed there."""
        return max(self.stage[a] for a in scatter.args)

    def _is_dear(self, value: Value) -> bool:
        """Whether computing `value` again costs more than a store and a load."""
        pending, count = [value], 0
        while pending:
            top = pending.pop()
            if top in self.home or top in self.by_result or top in self.stored or top.width == 1:
                continue
            if top.op in ("concat", "pick") or (top.op == "map" and top.param[0] in _DEAR):
                return True
            count += top.op == "map"
            if count > _CHEAP:
                return True
            pending.extend(top.args)
        return False

    def _new_scratch(self, width: int, dtype: str, one_row: bool) -> Slot:
        self.scratch.append((width, dtype, one_row))
        stride = 0 if one_row else self.padded(width)
        return Slot("scratch", len(self.scratch) - 1, dtype, stride)

    def _give_homes(self) -> None:
        """A value that must lie in memory lies where it is wanted, or in scratch."""
        needy = [v for v in (*self.by_result, *self.stored) if v not in self.home]
        left = []
        for value, width, slot in self.requests:
            homeless = value in needy and value not in self.home and value.width == width
            if homeless and self._can_be_home(value, slot):
                self.home[value] = slot
                if value in self.by_result:
                    continue
            left.append((value, width, slot))
        self.requests = left
        for value in needy:
            if value in self.home:
                continue
            local = value not in self.by_result
            local = local and self.last_level[value] <= self.stage[value][0]
            self.home[value] = self._new_scratch(value.width, SPILLED[value.kind], local)
        for value in self.reductions:
            if self.last_level.get(value, 0) > self.stage[value][0]:
                self.home[value] = self._new_scratch(1, SPILLED[value.kind], False)
        for value in self.scatters:
            local = self.last_level[value] <= self.stage[value][0]
            # one more, for what is left out
            self.home[value] = self._new_scratch(value.width + 1, SPILLED[value.kind], local)

    def _can_be_home(self, value: Value, slot: Slot) -> bool:
        """Whether what is written to `slot` may be read back from there, each row's own.

        bfloat16 results are written apart: what is read back keeps all its bits.
        """
        return slot.dtype == SPILLED[value.kind] and bool(slot.stride or self.step.rows == 1)

    def _list_tasks(self) -> None:
        written = {(value, slot) for value, _, slot in self.requests}
        for value in self.stored:
            if value.op != "concat" and (value, self.home[value]) not in written:
                self.requests.append((value, value.width, self.home[value]))
        for value, width, slot in self.requests:
            self._add(self.stage[value], Task(value, 0, width, slot))
        for value in self.reductions:
            operand = value.args[0]
            task = Task(operand, 0, operand.width, self.home.get(value), value)
            self._add(self.stage[operand], task)
        for value in self.scatters:
            onto, features, _ = value.args
            slot, when = self.home[value], self._when(value)
            self._add(when, Task(onto, 0, value.width, slot))
            self._add(when, Task(features, 0, value.param[1], slot, value))
        self.tasks = {stage: self._cut(tasks, stage) for stage, tasks in self.tasks.items()}

    def _add(self, stage: Stage, task: Task) -> None:
        self.tasks.setdefault(stage, []).append(task)

    def _cut(self, tasks: list[Task], stage: Stage) -> list[Task]:
        """Cut tasks where pieces of their values meet, and to one width where that is possible."""
        in_memory = functools.partial(self.in_memory, stage=stage)
        pieces = []
        for task in tasks:
            found: set[int] = set()
            for operand in task.operands:
                found |= borders(operand, task.start, task.width, in_memory)
            ends = [0, *sorted(found), task.width]
            pieces += [_part(task, a, z - a) for a, z in itertools.pairwise(ends)]
        narrow = min(t.width for t in pieces)
        even = []
        for task in pieces:
            times, rest = divmod(task.width, narrow)
            together = narrow >= self.lanes and not task.scatters
            if together and rest == 0 and 1 < times <= 8:
                even += [_part(task, k * narrow, narrow) for k in range(times)]
            else:
                even.append(task)
        return even


def _table(value: Value) -> Slot:
    table = value.param
    return Slot("const", table.index, table.dtype, 0, table.offset)


def _part(task: Task, start: int, width: int) -> Task:
    slot = task.slot
    if slot is not None and task.into is None:
        slot = slot.shifted(start)
    return Task(task.value, task.start + start, width, slot, task.into)
