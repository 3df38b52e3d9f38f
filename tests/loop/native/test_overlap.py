"""Independent chains of instructions run beside each other, and mean what they meant."""

import llvmlite.ir as ir

from recurrax.loop.native.emit import at, f32, function, pointer, void
from recurrax.loop.native.overlap import overlapped


def test_chains_alternate_and_what_is_read_is_read_first():
    module = ir.Module()
    made, b = function(module, "chains", void, [pointer])
    chains = []
    for k in range(2):
        start = at(b, made.args[0], f32, 1 + k)
        x = first = b.load(start, typ=f32)
        links = [x := b.fmul(x, first) for _ in range(3)]
        b.store(x, start)
        chains.append([start, first, *links])
    late = b.load(made.args[0], typ=f32)
    b.store(b.fadd(chains[0][-1], late), made.args[0])

    before = list(b.block.instructions)
    after = overlapped(before)
    place = {id(each): k for k, each in enumerate(after)}
    assert sorted(place) == sorted(map(id, before))
    for each in before:
        assert all(place[id(o)] < place[id(each)] for o in each.operands if id(o) in place)
    assert [each for each in after if each.opname == "fmul"] == [
        chain[2 + link] for link in range(3) for chain in chains
    ]
    kinds = [each.opname for each in after]
    assert max(k for k, kind in enumerate(kinds) if kind == "load") < kinds.index("store")
    # a number that is used late is loaded late
    assert place[id(late)] > place[id(chains[0][3])]
