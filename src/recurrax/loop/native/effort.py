"""How much code a schedule becomes: some steps would take minutes to compile."""

from recurrax.loop.native.graph import Value, piece_at
from recurrax.loop.native.lower import FUNCTIONS
from recurrax.loop.native.schedule import Schedule
from recurrax.loop.native.stages import Stage
from recurrax.loop.native.unsupported import Unsupported

LARGEST = 16_000
_OF_A_FUNCTION = 15  # roughly what an exp is made of
_OF_A_PLACE = 4  # to find and to move one number


def check_effort(schedule: Schedule) -> None:
    """Hand a step back whose code would be out of proportion.

    Raises:
        Unsupported: if the elementwise work of one row is more than `LARGEST` operations in a row.
    """
    total = 0
    for stage, tasks in schedule.tasks.items():
        seen: dict[int, set[tuple[Value, int]]] = {}
        for task in tasks:
            known = seen.setdefault(task.width, set())
            for operand in task.operands:
                total += _emitted(schedule, operand, task.start, task.width, stage, known)
            total += _OF_A_PLACE * schedule.lanes if task.scatters else 0
            if total > LARGEST:
                raise Unsupported(
                    f"a step is more than {LARGEST} operations one after another, on features that "
                    "lie in many pieces: it would take too long to compile"
                )


def _emitted(
    schedule: Schedule,
    value: Value,
    start: int,
    width: int,
    stage: Stage,
    known: set[tuple[Value, int]],
) -> int:
    """Operations to compute `width` features of `value` from `start` on, less what is `known`."""
    pending, count = [(value, start)], 0
    while pending:
        key = top, at = pending.pop()
        if key in known:
            continue
        known.add(key)
        if top.op in ("number", "numbers", "reduce") or schedule.in_memory(top, stage):
            count += 1
        elif top.op == "slice":
            pending.append((top.args[0], at + top.param))
        elif top.op == "concat":
            pending.append(piece_at(top, at))
        elif top.op == "pick":
            places = top.args[1]
            if places.op == "numbers" and width <= schedule.lanes:
                count += _OF_A_PLACE
                continue
            count += _OF_A_PLACE * schedule.lanes
            pending.append((places, at if places.width > 1 else 0))
        else:
            count += _OF_A_FUNCTION if top.op == "map" and top.param[0] in FUNCTIONS else 1
            pending.extend((a, at if a.width > 1 else 0) for a in top.args)
    return count
