"""How much code a schedule becomes: some steps would take minutes to compile."""

from recurrax.loop.native.graph import Value
from recurrax.loop.native.lower import FUNCTIONS
from recurrax.loop.native.rows import piece_at
from recurrax.loop.native.schedule import Schedule, Stage
from recurrax.loop.native.unsupported import Unsupported

LARGEST = 16_000
_OF_A_FUNCTION = 15  # roughly what an exp is made of


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
            total += _emitted(schedule, task.value, task.start, stage, known)
            if total > LARGEST:
                raise Unsupported(
                    f"a step is more than {LARGEST} operations one after another, on features that "
                    "lie in many pieces: it would take too long to compile"
                )


def _emitted(
    schedule: Schedule, value: Value, start: int, stage: Stage, known: set[tuple[Value, int]]
) -> int:
    """Operations to compute `value` from feature `start` on, but for what is `known`."""
    pending, count = [(value, start)], 0
    while pending:
        key = top, at = pending.pop()
        if key in known:
            continue
        known.add(key)
        if top.op in ("number", "reduce") or schedule.in_memory(top, stage):
            count += 1
        elif top.op == "slice":
            pending.append((top.args[0], at + top.param))
        elif top.op == "concat":
            pending.append(piece_at(top, at))
        else:
            count += _OF_A_FUNCTION if top.op == "map" and top.param[0] in FUNCTIONS else 1
            pending.extend((a, at if a.width > 1 else 0) for a in top.args)
    return count
