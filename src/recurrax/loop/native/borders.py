"""Where the pieces of a value meet: what is computed by whole vectors is cut there."""

from collections.abc import Callable

from recurrax.loop.native.graph import Value


def borders(value: Value, start: int, width: int, in_memory: Callable[[Value], bool]) -> set[int]:
    """Where, in `width` features of `value` from `start`, one piece ends and another begins."""
    found: set[int] = set()
    pending, seen = [(value, start, 0, width)], set()
    while pending:  # features of a value from `begin` on, as many as `size`, that stand at `at`
        key = top, begin, at, size = pending.pop()
        if key in seen or top.width == 1 or top.op in ("leaf", "numbers") or in_memory(top):
            continue
        seen.add(key)
        if top.op == "slice":
            pending.append((top.args[0], begin + top.param, at, size))
        elif top.op == "concat":
            piece_begins = 0
            for piece, taken in zip(top.args, top.param, strict=True):
                low, high = max(piece_begins, begin), min(piece_begins + taken, begin + size)
                if low < high:
                    if low > begin:
                        found.add(at + low - begin)
                    pending.append((piece, low - piece_begins, at + low - begin, high - low))
                piece_begins += taken
        else:
            operands = top.args[1:] if top.op == "pick" else top.args
            pending += [(operand, begin, at, size) for operand in operands]
    return found
