"""Which arguments a result may take the place of in memory.

Fresh memory is dear: its pages are faulted in and cleared, its lines are fetched to be overwritten.
A result whose every number is written just after the argument at the same place was read for the
last time needs none. So saved pre-activations take the place of `x_t W`, and in the backward loop
their cotangents take the place of the pre-activations. XLA sees to it that nobody else still needs
the argument, and copies it first if somebody does.
"""

from collections.abc import Iterator

from recurrax.loop.native.graph import Value, piece_at, stripped
from recurrax.loop.native.schedule import Schedule
from recurrax.loop.native.stages import Stage

_Read = tuple[Value, int | None]
_Loop = tuple[Stage, int]


def in_place(schedule: Schedule) -> dict[int, int]:
    """Arguments that may be overwritten, as {argument: result}."""
    found: dict[int, int] = {}
    # Last arguments first: those of a backward loop begin with states, which products after the
    # loop read again, and XLA would have to copy.
    spent = sorted(_read_before(schedule), reverse=True)
    for argument, result in (*_added_to_products(schedule), *spent):
        if argument not in found and result not in found.values():
            found[argument] = result
    return found


def carries_in_place(schedule: Schedule) -> set[int]:
    """Carries whose next value may be written where the present one stands."""
    step, reads = schedule.step, _Reads(schedule)
    written = _written(schedule, "next")
    return {
        k
        for leaf in _candidates(schedule, "carry")
        if (k := leaf.param.index - step.num_consts) in written
        and step.inputs[leaf.param.index].width == step.outputs[k].width
        and reads.end_before(leaf, written[k])
    }


def _candidates(schedule: Schedule, kind: str) -> Iterator[Value]:
    """Inputs of each step with rows, that do not leave the loop as they are."""
    for value in schedule.users:
        moving = value.op == "leaf" and value.param.kind == kind and value.param.by_row
        if moving and value not in schedule.step.results:
            yield value


def _added_to_products(schedule: Schedule) -> Iterator[tuple[int, int]]:
    """An input that is only ever added to a product, which reads each number before its sum."""
    step = schedule.step
    for leaf in _candidates(schedule, "xs"):
        for product in schedule.products:
            home = schedule.home[product.result]
            if leaf not in product.addends or len(schedule.users[leaf]) > 1:
                continue
            if home.space != "ys" or home.offset:
                continue
            if step.outputs[home.index] == step.inputs[leaf.param.index]:
                yield leaf.param.index, home.index


def _read_before(schedule: Schedule) -> Iterator[tuple[int, int]]:
    """An input and a result whose numbers are all written after the input's were read."""
    step, reads = schedule.step, _Reads(schedule)
    written = _written(schedule, "ys")
    for leaf in _candidates(schedule, "xs"):
        for result, loop in written.items():
            alike = step.outputs[result] == step.inputs[leaf.param.index]
            if alike and reads.end_before(leaf, loop):
                yield leaf.param.index, result


def _written(schedule: Schedule, space: str) -> dict[int, _Loop]:
    """The results in `space` that one loop over features writes, straight on."""
    loops: dict[int, set[_Loop]] = {}
    for stage, tasks in schedule.tasks.items():
        for task in tasks:
            if task.slot is not None and task.slot.space == space:
                straight = task.width > 1 and task.slot.offset % task.width == 0
                loop = (stage, task.width if straight else 0)
                loops.setdefault(task.slot.index, set()).add(loop)
    homes = {schedule.home[p.result] for p in schedule.products}
    by_products = {home.index for home in homes if home.space == space}
    return {
        k: next(iter(found))
        for k, found in loops.items()
        if k not in by_products and len(found) == 1 and all(width for _, width in found)
    }


class _Reads:
    """Which loops over features read which arguments, and where in them."""

    def __init__(self, schedule: Schedule):
        self._by_products: dict[Value, int] = {}  # the last level of those that read it
        for p in schedule.products:  # in the order of their levels
            self._by_products.update(
                {v: p.level for o in (p.operand, *p.addends) for v in _under(o)}
            )
        self._loops: dict[Value, set[_Loop]] = {}
        self._crooked: set[tuple[Value, _Loop]] = set()
        for stage, tasks in schedule.tasks.items():
            for task in tasks:
                loop = (stage, 0 if task.scatters else task.width)
                for operand in task.operands:
                    for leaf, start in _reads(schedule, operand, task.start, stage):
                        self._loops.setdefault(leaf, set()).add(loop)
                        if start is None or start % task.width:
                            self._crooked.add((leaf, loop))

    def end_before(self, leaf: Value, loop: _Loop) -> bool:
        """Whether nothing of `leaf` is read after `loop` has written at the same place.

        What an earlier stage reads is read, and so is what products before its level take. A loop
        reads all it needs of some features before it writes any of them (`Row`), and pieces begin
        at multiples of its width, so that no turn reads what an earlier one wrote.
        """
        level = self._by_products.get(leaf)
        if level is None and leaf not in self._loops:
            return False
        if level is not None and level > loop[0][0]:
            return False
        others = (other for other in self._loops.get(leaf, ()) if other != loop)
        return (leaf, loop) not in self._crooked and all(stage < loop[0] for stage, _ in others)


def _under(value: Value) -> Iterator[Value]:
    yield value
    if value.op == "slice":
        yield value.args[0]


def _reads(schedule: Schedule, value: Value, start: int, stage: Stage) -> Iterator[_Read]:
    """The leaves that computing `value` from `start` on loads, and where in them: None where it
    picks from them."""
    pending, seen = [(value, start)], set()
    while pending:
        top, at = pending.pop()
        if (top, at) in seen or top.op in ("number", "numbers", "reduce"):
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
        elif top.op == "pick":
            whole, places = top.args
            if (source := stripped(whole)[0]).op == "leaf":
                yield source, None
            pending.append((places, at if places.width > 1 else 0))
        else:
            pending.extend((a, at if a.width > 1 else 0) for a in top.args)
