"""AᵀD over the rows of a window, for several As and one D, added to what is there.

D is in the cache already: a panel of its columns is packed at a time, and all As are multiplied
with it, so that neither needs room for the whole of D again.
"""

from collections.abc import Sequence

import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    function,
    i1,
    i8,
    integer,
    loop,
    pointer,
    void,
)
from recurrax.loop.native.gathering import blocks_bytes, copy_blocks, whole_blocks
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import SPILLED, TYPES, aligned, size
from recurrax.loop.native.microkernel import Addend, Operand, Shape, block_for, emit_product
from recurrax.loop.native.panels import Layout, emit_pack
from recurrax.loop.native.target import Target


class Contraction:
    """Emits the contraction of `rows` rows, each A of so many columns as `lefts` says.

    D is `right` columns of rows that lie `features` apart. `scratch_bytes` of memory are needed.
    """

    def __init__(
        self,
        module: ir.Module,
        name: str,
        target: Target,
        kind: str,
        rows: int,
        lefts: Sequence[int],
        right: int,
        features: int,
    ):
        self._module, self._name, self._target, self._kind = module, name, target, kind
        self._rows, self._lefts, self._right, self._features = rows, lefts, right, features
        self._lanes = target.lanes(64 if kind == "f64" else 32)
        self._block = block_for(target.registers)
        self._starts, start = [], 0
        for columns in lefts:
            self._starts.append(start)
            start += blocks_bytes(rows, columns, self._block.rows, kind)
        self._panel_at = start
        panel = rows * self._block.vectors * self._lanes * size(SPILLED[kind])
        self.scratch_bytes = start + aligned(panel)
        self._function = self._emit()

    def copy(
        self,
        b: Builder,
        scratch: Register,
        k: int,
        source: Register,
        apart: Register,
        first: Register,
        rows: int,
    ) -> None:
        """Take `rows` rows of the `k`th A, `apart` from each other, as those from `first` on."""
        width = self._block.rows
        to = at(b, scratch, i8, self._starts[k])
        to = at(b, to, TYPES[self._kind], b.mul(first, integer(width)))
        columns = self._lefts[k], apart
        copy_blocks(b, source, to, self._kind, columns, width, rows, self._rows)

    def add(
        self, b: Builder, scratch: Register, right: Register, results: Sequence[Register]
    ) -> None:
        """Add the contraction of the rows taken and of `right` to `results`."""
        b.call(self._function, [scratch, right, *results])

    def _emit(self) -> ir.Function:
        """`void contract(scratch, right, results...)`."""
        types = [pointer] * (2 + len(self._lefts))
        made, b = function(self._module, self._name, void, types)
        lanes, type_ = self._lanes, TYPES[self._kind]
        scratch, right, *results = made.args
        packed = at(b, scratch, i8, self._panel_at)
        whole = Layout(self._rows, self._right, lanes, self._block.vectors)
        for run in whole.panels():
            width = run.vectors * lanes
            stop = run.column + run.count * width
            rest = whole.outputs - (stop - width) if stop > whole.outputs else 0

            def panel(column: Register, used: int, vectors: int = run.vectors) -> None:
                name = f"{self._name}_{vectors}of{used}"
                layout = Layout(self._rows, used, lanes, vectors)
                dtype = SPILLED[self._kind]
                weight = Weight(0, dtype, 0, self._rows, used, self._features, 1)
                pack = emit_pack(self._module, f"{name}_pack", weight, layout, self._kind)
                b.call(pack, [at(b, right, type_, column), packed])
                for k, start in enumerate(self._starts):
                    product = self._product(f"{name}_product{k}", self._lefts[k], layout)
                    blocks = at(b, scratch, i8, start)
                    result = at(b, results[k], type_, column)
                    b.call(product, [blocks, packed, result, i1(False), result])

            if rest:
                stop -= width
            if stop > run.column:
                loop(b, run.column, stop, width, [], lambda c, _, p=panel, w=width: p(c, w))
            if rest:
                panel(integer(stop), rest)
        b.ret_void()
        return made

    def _product(self, name: str, left: int, layout: Layout) -> ir.Function:
        shape = Shape(
            blocks=whole_blocks(left, self._block.rows),
            kind=self._kind,
            operand=Operand.by_blocks(self._rows, self._block.rows),
            result_stride=self._right,
            addends=(Addend(SPILLED[self._kind], self._right),),
            layout=layout,
        )
        return emit_product(self._module, name, shape, self._target.registers)
