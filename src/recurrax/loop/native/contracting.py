"""AᵀD over some rows, for several As and one D, added to what is there.

Nothing is transposed as a whole: columns of A are copied in blocks, as the product takes its
operand. A panel of D's columns is packed at a time, and all As are multiplied with it, so that it
is still in the cache. Where D lies in memory, the products ask for the next panel meanwhile.
"""

import dataclasses
import functools
from collections.abc import Sequence

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    function,
    i1,
    i8,
    integer,
    joined,
    loop,
    pointer,
    void,
)
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import LINE, SPILLED, TYPES, Lanes, aligned, size
from recurrax.loop.native.microkernel import Block, Lines, Operand, Shape, emit_product
from recurrax.loop.native.panels import Layout, emit_pack, over_panels
from recurrax.loop.native.target import Target


@dataclasses.dataclass(frozen=True)
class Terms:
    """`rows` rows of As with so many columns as `lefts` tells, and of D with `right` of them.

    All are of register kind `kind`. Rows of D lie `features` numbers apart, those of the results
    `between`. Where D and the results are `far`, they come from memory, and after these rows of D
    the next ones are contracted. The first of all are `fresh`: nothing is there to be added to.
    """

    kind: str
    rows: int
    lefts: tuple[int, ...]
    right: int
    features: int
    between: int
    far: bool = False
    fresh: bool = False


class Contraction:
    """Emits the contraction of some `terms`; `scratch_bytes` of memory are needed.

    It goes over the results in blocks of `block`.
    """

    def __init__(self, module: ir.Module, name: str, target: Target, terms: Terms, block: Block):
        self._module, self._name, self._target = module, name, target
        self._terms, self._block = terms, block
        self._lanes = target.lanes(64 if terms.kind == "f64" else 32)
        self._starts, start = [], 0
        for columns in terms.lefts:
            self._starts.append(start)
            in_blocks = -(-columns // block.rows) * block.rows
            start += aligned(in_blocks * terms.rows * size(SPILLED[terms.kind]))
        self._panel_at = start
        panel = terms.rows * block.vectors * self._lanes * size(SPILLED[terms.kind])
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
        type_ = TYPES[self._terms.kind]
        to = at(b, scratch, i8, self._starts[k])
        to = at(b, to, type_, b.mul(first, integer(self._block.rows)))
        # As many rows together as make a line that is written at once.
        together = max(1, self._lanes // self._block.rows)
        whole = rows - rows % together

        def some(r: Register, number: int) -> None:
            lines = [
                at(b, source, type_, b.mul(b.add(r, integer(i)), apart)) for i in range(number)
            ]
            self._copy_blocks(b, lines, at(b, to, type_, b.mul(r, integer(self._block.rows))), k)

        loop(b, 0, whole, together, [], lambda r, _: some(r, together))
        loop(b, whole, rows, 1, [], lambda r, _: some(r, 1))

    def _copy_blocks(self, b: Builder, rows: Sequence[Register], to: Register, k: int) -> None:
        """Copy neighbouring rows of the `k`th A: a block has its columns of the first, then of the
        second. From one block to the next, `to` goes over the columns of all rows.
        """
        dtype, width = SPILLED[self._terms.kind], self._block.rows
        whole, rest = divmod(self._terms.lefts[k], width)
        lanes = Lanes(len(rows) * width, len(rows) * width)

        def block(number: Register, used: int) -> None:
            start = b.mul(number, integer(width))
            values = [memory.load(b, row, dtype, [start], Lanes(width, used)) for row in rows]
            place = b.mul(start, integer(self._terms.rows))
            memory.store(b, joined(b, values), to, dtype, [place], lanes)

        loop(b, 0, whole, 1, [], lambda number, _: block(number, width))
        if rest:
            block(integer(whole), rest)

    def add(
        self, b: Builder, scratch: Register, right: Register, results: Sequence[Register]
    ) -> None:
        """Add the contraction of the rows taken and of `right` to `results`."""
        b.call(self._function, [scratch, right, *results])

    def _emit(self) -> ir.Function:
        """`void contract(scratch, right, results...)`."""
        terms = self._terms
        made, b = function(self._module, self._name, void, [pointer] * (2 + len(terms.lefts)))
        scratch, right, *results = made.args
        layout = Layout(terms.rows, terms.right, self._lanes, self._block.vectors)
        panel = functools.partial(self._panel, b, scratch, right, results)
        over_panels(b, layout, panel)
        b.ret_void()
        return made

    def _panel(self, b: Builder, scratch, right, results, column, used: int, vectors: int) -> None:
        """Pack the `used` columns of D from `column` on, and multiply all As with them."""
        terms, type_ = self._terms, TYPES[self._terms.kind]
        name = f"{self._name}_{vectors}of{used}"
        layout = Layout(terms.rows, used, self._lanes, vectors)
        weight = Weight(0, SPILLED[terms.kind], 0, terms.rows, used, terms.features, 1)
        pack = emit_pack(self._module, f"{name}_pack", weight, layout, terms.kind)
        packed = at(b, scratch, i8, self._panel_at)
        b.call(pack, [at(b, right, type_, column), packed, integer(0), integer(terms.rows)])
        following = b.add(column, integer(used))
        is_last = b.icmp_signed(">=", following, integer(terms.right))
        following = b.select(is_last, integer(terms.rows * terms.features), following)
        for k, start in enumerate(self._starts):
            asks = terms.far and k == 0
            product = self._product(f"{name}_product{k}", terms.lefts[k], layout, asks)
            blocks, result = at(b, scratch, i8, start), at(b, results[k], type_, column)
            arguments = [blocks, packed, result, i1(False)]
            b.call(product, arguments + [at(b, right, type_, following)] * asks)

    def _product(self, name: str, left: int, layout: Layout, asks: bool) -> ir.Function:
        """The product of one A with a panel, which `asks` for the next panel of D."""
        terms, width = self._terms, self._block.rows
        number = size(SPILLED[terms.kind])
        panel = Lines(-(-layout.outputs * number // LINE), terms.rows, terms.features * number)
        whole, rest = divmod(left, width)
        shape = Shape(
            blocks=(*([(width, whole)] if whole else []), *([(rest, 1)] if rest else [])),
            kind=terms.kind,
            operand=Operand.by_blocks(terms.rows, width),
            result_stride=terms.between,
            addends=(),
            layout=layout,
            fetched=(panel,) if asks else (),
            adds_up=not terms.fresh,
            is_far=terms.far,
        )
        return emit_product(self._module, name, shape, self._target.registers)
