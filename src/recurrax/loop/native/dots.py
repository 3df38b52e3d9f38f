"""The product of one row with a weight that lies the other way round: a dot product each output.

In such a weight an input's numbers stand apart, an output's side by side (`h @ W.T`). More rows
want it packed, turned in registers; for one row that takes as long as some steps, and is in vain:
the row is multiplied, vector by vector, with the numbers of a few outputs, and neighbours are added
up at the end. The weight is read once, as panels are.
"""

import dataclasses
from collections.abc import Sequence

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.emit import (
    Register,
    at,
    function,
    i1,
    integer,
    loop,
    pointer,
    totals,
    void,
    zero,
)
from recurrax.loop.native.functions import fma
from recurrax.loop.native.memory import SPILLED, TYPES, Lanes

_ROWS = 4  # of the weight, read at a time: more compete for places in the first-level cache


@dataclasses.dataclass(frozen=True)
class Dots:
    """All that such a product is specialised to: numbers of register kind `kind`.

    The numbers of an output lie `apart` from those of the one before. What is made is added to the
    `addends`, of these dtypes.
    """

    inputs: int
    outputs: int
    apart: int
    kind: str
    lanes: int
    addends: tuple[str, ...] = ()


def emit_dots(module: ir.Module, name: str, dots: Dots) -> ir.Function:
    """`void product(row, weight, result, backwards, addends...)`, from the last output to the first
    where it is `backwards` (as `microkernel.py` has it)."""
    arguments = [pointer] * 3 + [i1] + [pointer] * len(dots.addends)
    made, b = function(module, name, void, arguments)
    backwards = made.args[3]
    emit = _Emitter(b, made.args, dots)
    whole, rest = divmod(dots.outputs, dots.lanes)

    def turn(k: Register, _) -> None:
        k = b.select(backwards, b.sub(integer(whole - 1), k), k)
        emit.vector(b.mul(k, integer(dots.lanes)), dots.lanes)

    loop(b, 0, whole, 1, [], turn)
    if rest:
        emit.vector(integer(whole * dots.lanes), rest)
    b.ret_void()
    return made


class _Emitter:
    """Emits such a product a vector of outputs at a time."""

    def __init__(self, b, arguments, dots: Dots):
        self._b, self._dots = b, dots
        self._row, self._weight, self._result = arguments[:3]
        self._addends = arguments[4:]
        self._dtype, self._type = SPILLED[dots.kind], TYPES[dots.kind]
        self._nothing = zero(ir.VectorType(self._type, dots.lanes))

    def vector(self, first: Register, used: int) -> None:
        """Make the outputs from `first` on, as many as are `used`."""
        b, dots = self._b, self._dots
        sums: list[Register] = []
        for start in range(0, used, _ROWS):
            row = b.mul(b.add(first, integer(start)), integer(dots.apart))
            sums += self._sums(at(b, self._weight, self._type, row), min(_ROWS, used - start))
        total = totals(b, sums + [self._nothing] * (dots.lanes - used))
        here = Lanes(dots.lanes, used)
        for base, dtype in zip(self._addends, dots.addends, strict=True):
            total = b.fadd(memory.load(b, base, dtype, [first], here), total)
        memory.store(b, total, self._result, self._dtype, [first], here)

    def _sums(self, weight: Register, rows: int) -> list[Register]:
        """For each of so many rows of the weight, a vector of sums.

        There are two, added to in turn, so that none waits for itself.
        """
        b, lanes, inputs = self._b, self._dots.lanes, self._dots.inputs

        def two(j: Register, sums: Sequence[Register]) -> list[Register]:
            following = b.add(j, integer(lanes))
            first = self._added(weight, j, lanes, sums[:rows])
            return first + self._added(weight, following, lanes, sums[rows:])

        whole = inputs - inputs % (2 * lanes)
        sums = loop(b, 0, whole, 2 * lanes, [self._nothing] * (2 * rows), two)
        sums = [b.fadd(*both) for both in zip(sums[:rows], sums[rows:], strict=True)]
        for j in range(whole, inputs, lanes):
            sums = self._added(weight, integer(j), min(lanes, inputs - j), sums)
        return sums

    def _added(
        self, weight: Register, j: Register, used: int, sums: Sequence[Register]
    ) -> list[Register]:
        """`sums` and the products of the inputs from `j` on."""
        b, here = self._b, Lanes(self._dots.lanes, used)
        x = memory.load(b, self._row, self._dtype, [j], here)
        rows = (
            memory.load(b, weight, self._dtype, [i * self._dots.apart, j], here)
            for i in range(len(sums))
        )
        return [fma(b, x, row, total) for row, total in zip(rows, sums, strict=True)]
