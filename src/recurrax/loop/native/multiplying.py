"""The product of many rows, all time steps together, with one weight: `x_t @ W` for all t."""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import Builder, Module, at, i1, integer, load_pointer
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import SPILLED, TYPES
from recurrax.loop.native.microkernel import Operand, Shape, block_for, emit_product, even
from recurrax.loop.native.panels import Layout, emit_pack
from recurrax.loop.native.target import Target
from recurrax.loop.native.work import Work, emit_handler

_TILE = 64


@dataclasses.dataclass(frozen=True)
class Multiplication:
    """A of `rows` × `inputs` times W of `inputs` × `outputs`, both of register kind `kind`."""

    rows: int
    inputs: int
    outputs: int
    kind: str

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inputs * self.outputs


class MultiplicationCode:
    """Emits the product of rows with `weight`, which `pack` puts into `bytes` of memory."""

    def __init__(
        self, module: ir.Module, weight: Weight, kind: str, target: Target, name: str = ""
    ):
        lanes = target.lanes(64 if kind == "f64" else 32)
        self.weight = weight
        self._module, self._kind, self._target, self._name = module, kind, target, name
        self._block = block_for(target.registers)
        self._layout = Layout(weight.inputs, weight.outputs, lanes, self._block.vectors)
        self.bytes = self._layout.size * memory.size(weight.dtype)
        self.pack = emit_pack(module, f"{name}pack", weight, self._layout, kind)

    def product(self, rows: int) -> ir.Function:
        """`void product(rows, packed, result, backwards)`."""
        shape = Shape(
            blocks=even(rows, self._block.rows),
            kind=self._kind,
            operand=Operand.by_rows(self.weight.inputs),
            result_stride=self.weight.outputs,
            addends=(),
            layout=self._layout,
        )
        name = f"{self._name}product{rows}"
        return emit_product(self._module, name, shape, self._target.registers)


def build_multiplication(problem: Multiplication, target: Target, threads: int) -> ir.Module:
    """The module of A W: tiles of rows, the weight packed once."""
    module = Module("multiplication", target)
    dtype, type_ = SPILLED[problem.kind], TYPES[problem.kind]
    weight = Weight(1, dtype, 0, problem.inputs, problem.outputs, problem.outputs, 1)
    code = MultiplicationCode(module, weight, problem.kind, target)
    size = min(_TILE, -(-problem.rows // threads))
    tiles = -(-problem.rows // size)
    rest = problem.rows - (tiles - 1) * size
    products = {rows: code.product(rows) for rows in sorted({size, rest})}

    def prepare(b: Builder, buffers, packed) -> None:
        source = load_pointer(b, buffers, weight.index)
        b.call(code.pack, [source, packed])

    def tile(b: Builder, buffers, scratch, packed, ticket, length) -> None:
        del scratch, length
        row = b.mul(ticket, integer(size))
        left = at(b, load_pointer(b, buffers, 0), type_, b.mul(row, integer(problem.inputs)))
        out = at(b, load_pointer(b, buffers, 2), type_, b.mul(row, integer(problem.outputs)))
        arguments = [left, packed, out, i1(False)]
        with b.if_else(b.icmp_signed("<", ticket, integer(tiles - 1))) as (whole, last):
            with whole:
                b.call(products[size], arguments)
            with last:
                b.call(products[rest], arguments)

    work = Work(
        num_inputs=2,
        num_outputs=1,
        tiles=tiles,
        threads=threads,
        packed_bytes=code.bytes,
        scratch_bytes=0,
        prepare=prepare,
        tile=tile,
        length=problem.rows,
        length_of=None,
        grown_results=((0, problem.outputs * memory.size(dtype)),),
    )
    emit_handler(module, work)
    return module
