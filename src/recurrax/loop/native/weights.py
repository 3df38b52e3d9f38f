"""The weights of a kernel: which are packed into panels, where those lie, and which stay."""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import Builder, Register, at, i8, integer, load_pointer
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import SPILLED
from recurrax.loop.native.panels import Layout, emit_pack

_PART = 1 << 16  # bytes that a thread packs at a time


def bytes_of(weight: Weight) -> int:
    """What a weight takes where it lies."""
    return weight.inputs * weight.outputs * memory.size(weight.dtype)


@dataclasses.dataclass(frozen=True)
class Packed:
    """A weight's panels: where they begin in packed memory, and what fills them, in `parts` of so
    many `inputs`."""

    offset: int
    weight: Weight
    pack: ir.Function
    inputs: int

    @property
    def parts(self) -> int:
        return -(-self.weight.inputs // self.inputs)

    def part(self, b: Builder, buffers: Register, packed: Register, number: Register) -> None:
        """Pack one of the parts."""
        first = b.mul(number, integer(self.inputs))
        stop, last = b.add(first, integer(self.inputs)), integer(self.weight.inputs)
        self._call(b, buffers, packed, first, b.select(b.icmp_signed("<", stop, last), stop, last))

    def whole(self, b: Builder, buffers: Register, packed: Register) -> None:
        """Pack all of it."""
        self._call(b, buffers, packed, integer(0), integer(self.weight.inputs))

    def _call(self, b: Builder, buffers, packed, first: Register, stop: Register) -> None:
        source = load_pointer(b, buffers, self.weight.index)
        b.call(self.pack, [source, at(b, packed, i8, self.offset), first, stop])


class Weights:
    """`packed` lists what to pack before the first tile, into `bytes` of memory.

    Panels are up to `widest` vectors wide. Weights of up to `in_place` bytes are read where they
    lie, if outputs are neighbours; of up to `turned` bytes, for products of one row alone, if
    inputs are (`dots.py`). Functions that pack are called after `name`.
    """

    def __init__(
        self,
        module: ir.Module,
        lanes: int,
        widest: int,
        in_place: int,
        name: str = "pack",
        turned: int = 0,
    ):
        self.packed: dict[tuple[Weight, str], Packed] = {}
        self.bytes = 0
        self._module = module
        self._name = name
        self._widest = widest
        self._lanes = lanes
        self._in_place = in_place
        self._turned = turned

    def none_in_place(self, name: str) -> "Weights":
        """No weights yet, for panels as wide, all of them packed."""
        return Weights(self._module, self._lanes, self._widest, 0, name)

    def add(self, weight: Weight, kind: str) -> None:
        """Make room for a weight that products of registers `kind` read."""
        key = (weight, kind)
        if key in self.packed or self.stays(weight, kind):
            return
        layout = self.layout(weight, kind)
        pack = emit_pack(self._module, f"{self._name}{len(self.packed)}", weight, layout, kind)
        size = layout.size * memory.size(SPILLED[kind])
        inputs = max(1, _PART * weight.inputs // (size * self._lanes)) * self._lanes
        self.packed[key] = Packed(self.bytes, weight, pack, inputs)
        self.bytes += memory.aligned(size)

    @property
    def parts(self) -> int:
        """The parts of all packed weights."""
        return sum(p.parts for p in self.packed.values())

    def pack(self, b: Builder, buffers: Register, packed: Register) -> None:
        """Emit the packing of all weights, whose addresses are among `buffers`."""
        for weight in self.packed.values():
            weight.whole(b, buffers, packed)

    def pack_part(self, b: Builder, buffers: Register, packed: Register, part: Register) -> None:
        """Emit the packing of one part of all."""
        before = 0
        for weight in self.packed.values():
            number = b.sub(part, integer(before))
            before += weight.parts
            is_here = b.icmp_unsigned("<", number, integer(weight.parts))
            with b.if_then(is_here):
                weight.part(b, buffers, packed, number)

    def stays(self, weight: Weight, kind: str) -> bool:
        """Whether products read `weight` where it lies."""
        if weight.output_stride == 1 and weight.input_stride > 0:
            most = self._in_place
        elif weight.input_stride == 1 and weight.output_stride > 0:
            most = self._turned
        else:
            return False
        return bytes_of(weight) <= most and weight.dtype == SPILLED[kind]

    def stays_turned(self, weight: Weight, kind: str) -> bool:
        """Whether they do so though outputs are no neighbours."""
        return weight.output_stride != 1 and self.stays(weight, kind)

    def layout(self, weight: Weight, kind: str) -> Layout:
        apart = weight.input_stride if self.stays(weight, kind) else 0
        return Layout(weight.inputs, weight.outputs, self._lanes, self._widest, apart)
