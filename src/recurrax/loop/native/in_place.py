"""Which arguments a result may take the place of in memory.

Fresh memory is dear: its pages are faulted in and cleared, its lines are fetched to be overwritten.
A result whose every number is written just after the argument at the same place was read for the
last time needs none. So saved pre-activations take the place of `x_t W`, and in the backward loop
their cotangents take the place of the pre-activations. XLA sees to it that nobody else still needs
the argument, and copies it first if somebody does.
"""

from collections.abc import Iterator

from recurrax.loop.native.graph import Value
from recurrax.loop.native.rows import piece_at
from recurrax.loop.native.schedule import Schedule, Stage

_Read = tuple[Value, int]


def in_place(schedule: Schedule) -> dict[int, int]:
    """Arguments that may be overwritten, as {argument: result}."""
    found: dict[int, int] = {}
    for argument, result in (*_added_to_products(schedule), *_read_in_one_loop(schedule)):
        if argument not in found and result not in found.values():
            found[argument] = result
    return found


def _candidates(schedule: Schedule) -> Iterator[Value]:
    """Inputs of each step with rows, that do not leave the loop as they are."""
    for value in schedule.users:
        moving = value.op == "leaf" and value.param.kind == "xs" and value.param.by_row
        if moving and value not in schedule.step.results:
            yield value


def _added_to_products(schedule: Schedule) -> Iterator[tuple[int, int]]:
    """An input that is only ever added to a product, which reads each number before its sum."""
    step = schedule.step
    for leaf in _candidates(schedule):
        for product in schedule.products:
            home = schedule.home[product.result]
            if leaf not in product.addends or len(schedule.users[leaf]) > 1:
                continue
            if home.space != "ys" or home.offset:
                continue
            if step.outputs[home.index] == step.inputs[leaf.param.index]:
                yield leaf.param.index, home.index


def _read_in_one_loop(schedule: Schedule) -> Iterator[tuple[int, int]]:
    """An input and a result that one loop over features reads and writes, at the same features.

    The loop reads all it needs of some features before it writes any of them (`Row`), and pieces
    begin at multiples of its width, so that no turn reads what an earlier one wrote.
    """
    step = schedule.step
    in_products = {v for p in schedule.products for o in (p.operand, *p.addends) for v in _under(o)}
    homes = {schedule.home[p.result] for p in schedule.products}
    reads: dict[Value, set[tuple[Stage, int]]] = {}
    crooked: set[Value] = set()
    writes: dict[int, set[tuple[Stage, int]]] = {}
    for stage, tasks in schedule.tasks.items():
        for task in tasks:
            for leaf, start in _reads(schedule, task.value, task.start, stage):
                reads.setdefault(leaf, set()).add((stage, task.width))
                if start % task.width:
                    crooked.add(leaf)
            if task.slot is not None and task.slot.space == "ys":
                straight = task.slot.offset % task.width == 0
                loop = (stage, task.width if straight else 0)
                writes.setdefault(task.slot.index, set()).add(loop)
    written_by_products = {home.index for home in homes if home.space == "ys"}
    for leaf in _candidates(schedule):
        if leaf in in_products or leaf in crooked or len(reads.get(leaf, ())) != 1:
            continue
        for result, loops in writes.items():
            alike = step.outputs[result] == step.inputs[leaf.param.index]
            if result in written_by_products or loops != reads[leaf] or not alike:
                continue
            ((_, width),) = loops
            if width > 1:
                yield leaf.param.index, result


def _under(value: Value) -> Iterator[Value]:
    yield value
    if value.op == "slice":
        yield value.args[0]


def _reads(schedule: Schedule, value: Value, start: int, stage: Stage) -> Iterator[_Read]:
    """The leaves, and where in them, that computing `value` from `start` on loads."""
    pending, seen = [(value, start)], set()
    while pending:
        top, at = pending.pop()
        if (top, at) in seen or top.op in ("number", "reduce"):
            continue
        seen.add((top, at))
        if top.op == "leaf":
            yield top, at
        elif schedule.in_memory(top, stage):
            continue
        elif top.op == "slice":
            pending.append((top.args[0], at + top.param))
        elif top.op == "concat":
            pending.append(piece_at(top, at))
        else:
            pending.extend((a, at if a.width > 1 else 0) for a in top.args)
