"""The product of many rows, all time steps together, with one weight: `x_t @ W` for all t."""

import dataclasses

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import Builder, Module, Register, at, i1, integer, load_pointer
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import SPILLED, TYPES
from recurrax.loop.native.microkernel import Operand, Shape, block_for, emit_product, even
from recurrax.loop.native.stacks import Stack
from recurrax.loop.native.target import Target
from recurrax.loop.native.weights import Weights
from recurrax.loop.native.work import Work, emit_handler

_TILE = 64


@dataclasses.dataclass(frozen=True)
class Multiplication:
    """A times W of `inputs` × `outputs`, both of register kind `kind`.

    `left` and `result` are the rows of A and of the result. Where `transposed`, W is stored as
    `outputs` × `inputs`.
    """

    left: Stack
    result: Stack
    inputs: int
    outputs: int
    kind: str
    transposed: bool = False

    @property
    def flops(self) -> int:
        return 2 * self.left.rows * self.inputs * self.outputs

    @property
    def weight(self) -> Weight:
        strides = (1, self.inputs) if self.transposed else (self.outputs, 1)
        return Weight(1, SPILLED[self.kind], 0, self.inputs, self.outputs, *strides)


class MultiplicationCode:
    """Emits the product of rows with `weight`, the one of the `weights` that are to be packed,
    unless it lies well and takes up to `in_place` bytes."""

    def __init__(
        self,
        module: ir.Module,
        weight: Weight,
        kind: str,
        target: Target,
        name: str = "",
        in_place: int = 0,
    ):
        lanes = target.lanes(64 if kind == "f64" else 32)
        self.weight = weight
        self._module, self._kind, self._target, self._name = module, kind, target, name
        self._block = block_for(target.registers)
        self.weights = Weights(module, lanes, self._block.vectors, in_place, f"{name}pack")
        self.weights.add(weight, kind)

    def panels(self, b: Builder, buffers: Register, packed: Register) -> Register:
        """What products read of the weight."""
        if not self.weights.stays(self.weight, self._kind):
            return packed
        source = load_pointer(b, buffers, self.weight.index)
        return at(b, source, TYPES[self._kind], self.weight.offset)

    def product(self, rows: int) -> ir.Function:
        """`void product(rows, packed, result, backwards)`, of rows one behind the other."""
        stack = Stack(1, rows, False)
        return self.product_of_steps(1, stack, stack)

    def product_of_steps(self, steps: int, left: Stack, result: Stack) -> ir.Function:
        """The same for so many steps of stacks."""
        inputs, outputs = self.weight.inputs, self.weight.outputs
        shape = Shape(
            blocks=even(left.batch, self._block.rows),
            kind=self._kind,
            operand=Operand.by_rows(left.between_rows(inputs), left.between_steps(inputs)),
            result_stride=result.between_rows(outputs),
            addends=(),
            layout=self.weights.layout(self.weight, self._kind),
            groups=steps,
            result_group=result.between_steps(outputs),
        )
        name = f"{self._name}product{steps}x{left.batch}"
        return emit_product(self._module, name, shape, self._target.registers)


def build_multiplication(problem: Multiplication, target: Target, threads: int) -> ir.Module:
    """The module of A W: tiles of some steps, the weight packed once."""
    module = Module("multiplication", target)
    type_, weight = TYPES[problem.kind], problem.weight
    code = MultiplicationCode(module, weight, problem.kind, target)
    left, result = problem.left, problem.result
    if not left.swapped and not result.swapped:  # rows are as good as steps
        left = result = Stack(left.rows, 1, False)
    size = min(max(1, _TILE // left.batch), -(-left.steps // threads))
    tiles = -(-left.steps // size)
    rest = left.steps - (tiles - 1) * size
    products = {
        steps: code.product(steps)
        if left.batch == 1
        else code.product_of_steps(steps, left, result)
        for steps in sorted({size, rest})
    }

    def tile(b: Builder, buffers, scratch, packed, ticket, length) -> None:
        del scratch, length
        step, ends = b.mul(ticket, integer(size)), []
        for k, stack, width in ((0, left, weight.inputs), (2, result, weight.outputs)):
            start = b.mul(step, integer(stack.between_steps(width)))
            ends.append(at(b, load_pointer(b, buffers, k), type_, start))
        arguments = [ends[0], packed, ends[1], i1(False)]
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
        packed_bytes=code.weights.bytes,
        scratch_bytes=0,
        parts=code.weights.parts,
        prepare=code.weights.pack_part,
        tile=tile,
        length=problem.left.rows,
        length_of=None,
        grown_results=((0, problem.outputs * memory.size(weight.dtype)),),
    )
    emit_handler(module, work)
    return module
