"""The weights of a kernel: which are packed into panels, where those lie, and which stay."""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import SPILLED
from recurrax.loop.native.panels import Layout, emit_pack


@dataclasses.dataclass(frozen=True)
class Packed:
    """A weight's panels: where they begin in packed memory, and what fills them."""

    offset: int
    weight: Weight
    pack: ir.Function


class Weights:
    """`packed` lists what to pack before the first tile, into `bytes` of memory.

    Panels are up to `widest` vectors wide. Weights of up to `in_place` bytes are read where they
    lie, if they lie well. Functions that pack are called after `name`.
    """

    def __init__(
        self, module: ir.Module, lanes: int, widest: int, in_place: int, name: str = "pack"
    ):
        self.packed: dict[tuple[Weight, str], Packed] = {}
        self.bytes = 0
        self._module = module
        self._name = name
        self._widest = widest
        self._lanes = lanes
        self._in_place = in_place

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
        self.packed[key] = Packed(self.bytes, weight, pack)
        self.bytes += memory.aligned(layout.size * memory.size(SPILLED[kind]))

    def stays(self, weight: Weight, kind: str) -> bool:
        """Whether products read `weight` where it lies, as they can if outputs are neighbours."""
        lies_well = weight.output_stride == 1 and weight.input_stride > 0
        size = weight.inputs * weight.outputs * memory.size(weight.dtype)
        return size <= self._in_place and lies_well and weight.dtype == SPILLED[kind]

    def layout(self, weight: Weight, kind: str) -> Layout:
        apart = weight.input_stride if self.stays(weight, kind) else 0
        return Layout(weight.inputs, weight.outputs, self._lanes, self._widest, apart)
