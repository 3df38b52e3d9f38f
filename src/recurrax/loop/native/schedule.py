"""When each value of a step is computed, and which values go through memory.

A value's **stage** is (level, pass): the level counts the products before it, the pass counts the
reductions since. Between two levels all rows of a tile go through a product together; within a
level each row goes through its passes alone, and in each pass one loop over the features computes
everything that belongs there, in registers. A value may be read from memory only in a later stage
than its own; within its stage it is computed where it is used. What is cheap is computed again
rather than stored. What features are picked from must be in memory, and what others are scattered
over comes to be there: both take a pass of their own.
"""

import dataclasses
import functools
import itertools

from recurrax.loop.native.borders import borders
from recurrax.loop.native.graph import Value, Weight
from recurrax.loop.native.lower import Step
from recurrax.loop.native.memory import SPILLED

Stage = tuple[int, int]

_CHEAP = 4
_DEAR = {
    *("tanh", "logistic", "exp", "exp2", "log", "log1p", "expm1", "erf", "erfc", "sqrt", "rsqrt"),
    *("sin", "cos", "tan", "sinh", "cosh", "pow", "div", "cbrt"),
}
_MAX_ADDENDS = 3


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


@dataclasses.dataclass(eq=False)
class Product:
    """`result` = operand · weight + addends, for all rows of a tile."""

    operand: Value
    weight: Weight
    addends: tuple[Value, ...]
    result: Value
    level: int = 0


def stripped(value: Value) -> tuple[Value, int]:
    """What a slice is a slice of, and where it begins there."""
    return (value.args[0], value.param) if value.op == "slice" else (value, 0)


class Schedule:
    """The products, tasks and memory of one step.

    `tasks[stage]` are the loops of a stage; `products` are in the order they run; `home[value]` is
    where a value lies in memory; `scratch[k]` is (bytes-free description) width, dtype and whether
    one row's room is enough for the scratch slot k.
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
        self.tasks: dict[Stage, list[Task]] = {}
        self.users = self._count_users()
        self.products = self._find_products()
        self.stage = self._find_stages()
        self.last_level: dict[Value, int] = {}
        self._visited: set[tuple[Value, Stage]] = set()
        self._place_arguments()
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

    def _count_users(self) -> dict[Value, list[Value]]:
        users: dict[Value, list[Value]] = {}
        pending, seen = list(self.step.results), set()
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            users.setdefault(value, [])
            for arg in value.args:
                users.setdefault(arg, []).append(value)
                pending.append(arg)
        return users

    def _find_products(self) -> list[Product]:
        """Every product, with the sums that it can start from rather than end with."""
        level = dict.fromkeys(self.users, 0)
        for value in self._in_order():
            below = max((level[a] for a in value.args), default=0)
            level[value] = below + (value.op == "dot")
        products: list[Product] = []
        made: set[Value] = set()
        results = set(self.step.results)
        for dot in [v for v in self._in_order() if v.op == "dot"]:
            result, addends = dot, []
            while len(self.users[result]) == 1 and result not in results:
                (user,) = self.users[result]
                if user.op != "map" or user.param[0] != "add" or len(addends) == _MAX_ADDENDS:
                    break
                addend = user.args[0] if user.args[1] is result else user.args[1]
                source = stripped(addend)[0]
                fits = addend is not result and addend.width == result.width
                early = source.op == "leaf" and level[addend] < level[dot]
                if not fits or not (early or addend in made):
                    break
                addends.append(addend)
                result = user
            made.add(result)
            products.append(Product(dot.args[0], dot.param, tuple(addends), result))
        self.by_result = {p.result: p for p in products}
        return products

    def _in_order(self) -> list[Value]:
        return [v for v in self.step.graph.values if v in self.users]

    def _find_stages(self) -> dict[Value, Stage]:
        stage: dict[Value, Stage] = {}
        for value in self._in_order():
            product = self.by_result.get(value)
            if product is not None:
                before = stage[product.operand][0] + 1
                product.level = max([before, *(stage[a][0] for a in product.addends)])
                stage[value] = (product.level, 0)
                continue
            latest = max((stage[a] for a in value.args), default=(0, 0))
            if value.op in ("reduce", "scatter"):
                latest = _next_pass(latest)
            elif value.op == "pick" and not self._lies_ready(value.args[0]):
                latest = max(latest, _next_pass(stage[value.args[0]]))
            stage[value] = latest
        self.products.sort(key=lambda p: (p.level, p.result.number))
        return stage

    def _lies_ready(self, value: Value) -> bool:
        """Whether `value` is in memory without being stored."""
        source = stripped(value)[0]
        return source.op in ("leaf", "numbers", "scatter") or source in self.by_result

    def _place_arguments(self) -> None:
        for value in self._in_order():
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
            # bfloat16 results are written apart: what is read back keeps all its bits
            exact = slot.dtype == SPILLED[value.kind]
            if homeless and exact and (slot.stride or self.step.rows == 1):
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


def _next_pass(stage: Stage) -> Stage:
    return (stage[0], stage[1] + 1)


def _table(value: Value) -> Slot:
    table = value.param
    return Slot("const", table.index, table.dtype, 0, table.offset)


def _part(task: Task, start: int, width: int) -> Task:
    slot = task.slot
    if slot is not None and task.into is None:
        slot = slot.shifted(start)
    return Task(task.value, task.start + start, width, slot, task.into)
