"""The order of instructions that lets independent chains of them run beside each other.

A processor looks some hundred instructions ahead for one that it can begin. A function is thirty of
them, each waiting for the one before: written function after function, they leave most of its units
idle. Compilers do not mend that: they keep to the order they are given.
"""

from collections.abc import Sequence

from recurrax.loop.native.emit import Register


def overlapped(instructions: Sequence[Register]) -> list[Register]:
    """Straight code, ordered by how many instructions have to come before each.

    A number is loaded where it is first used. All that is read is read before anything is written.
    """
    depth: dict[int, int] = {}
    used: dict[int, int] = {}
    for each in instructions:
        before = [id(o) for o in each.operands if id(o) in depth]
        depth[id(each)] = own = max((depth[o] + 1 for o in before), default=0)
        for o in before:
            used[o] = min(used.get(o, own), own)
    loads = [id(each) for each in instructions if each.opname == "load"]
    depth |= {load: used[load] for load in loads if load in used}
    last = max((depth[load] for load in loads), default=0)

    def place(each: Register) -> tuple[int, bool]:
        is_store = each.opname == "store"
        return max(depth[id(each)], last) if is_store else depth[id(each)], is_store

    return sorted(instructions, key=place)
