"""The function that runs all steps for one row, where a partner makes half of large products.

See `pairing.py` for how the two meet.
"""

import dataclasses
import functools
from collections.abc import Sequence

import llvmlite.ir as ir

from recurrax.loop.native import memory, pairing
from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    i1,
    i8,
    i64,
    integer,
    load_pointer,
    loop,
    prefetch,
)
from recurrax.loop.native.fetching import Stretch
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import LINE, SPILLED, Lanes
from recurrax.loop.native.microkernel import Operand, Shape
from recurrax.loop.native.schedule import Schedule
from recurrax.loop.native.stages import Product
from recurrax.loop.native.tile import Tile, TileCode

# Found by measurement: the bytes of a weight that are worth two threads' meeting, and those of all
# steps that are worth waking one.
_LARGE = 1 << 16
_WORTH_WAKING = 8 << 20
# Bytes that the tile reads until the partner has seen a post and got at the operand.
_BEHIND = 20 << 10


def shared_products(schedule: Schedule) -> list[Product]:
    """The products of a step, of one row, that are worth a partner."""
    return [p for p in schedule.products if _is_large(p.weight, schedule.lanes)]


def _is_large(weight: Weight, lanes: int) -> bool:
    return _bytes(weight) >= _LARGE and weight.outputs > lanes


def _bytes(weight: Weight) -> int:
    return weight.inputs * weight.outputs * memory.size(weight.dtype)


def pays(schedule: Schedule, length: int) -> bool:
    """Whether a loop is worth waking a thread to be its partner."""
    read = sum(_bytes(p.weight) for p in shared_products(schedule))
    return schedule.step.rows == 1 and length * read >= _WORTH_WAKING


def halves(weight: Weight, lanes: int) -> tuple[Weight, Weight]:
    """The tile's own outputs, and the partner's, as weights."""
    vectors, size = -(-weight.outputs // lanes), _bytes(weight)
    cut = min(vectors - 1, round(vectors * (size + _BEHIND) / (2 * size))) * lanes
    own = dataclasses.replace(weight, outputs=cut)
    offset = weight.offset + cut * weight.output_stride
    return own, dataclasses.replace(weight, offset=offset, outputs=weight.outputs - cut)


class PairedCode(TileCode):
    """Emits a tile function of one row, and what its partner does."""

    def __init__(self, module: ir.Module, schedule: Schedule, *how, **named):
        self.halves = {p: halves(p.weight, schedule.lanes) for p in shared_products(schedule)}
        super().__init__(module, schedule, *how, **named)

    def add_weight(self, product: Product) -> None:
        for part in self.halves.get(product, (product.weight,)):
            self.weights.add(part, product.result.kind)

    def tile(self, made: ir.Function, b: Builder, rows: int) -> Tile:
        assert rows == 1
        return PairedTile(self, made, b, rows)

    def partners_shape(self, product: Product) -> Shape:
        """The partner's half, of which nothing is added up."""
        kind, weight = product.result.kind, self.halves[product][1]
        return Shape(
            blocks=((1, 1),),
            kind=kind,
            operand=Operand.by_rows(weight.inputs),
            result_stride=weight.outputs,
            addends=(),
            layout=self.weights.layout(weight, kind),
        )

    def half(self, b: Builder, buffers, packed, number, operand, result) -> None:
        """Emit the partner's half of post `number`."""
        whole = functools.partial(load_pointer, b, buffers)
        past = b.sub(number, integer(1))
        step, place = (f(past, integer(len(self.halves))) for f in (b.udiv, b.urem))
        for k, (product, (_, weight)) in enumerate(self.halves.items()):
            with b.if_then(b.icmp_signed("==", place, integer(k))):
                panels = self.panels(b, whole, packed, weight, product.result.kind)
                size = weight.inputs * memory.size(SPILLED[product.result.kind])
                _ask_for_all(b, operand, size)
                product_of_half = self.product(self.partners_shape(product))
                b.call(product_of_half, [operand, panels, result, b.trunc(step, i1)])


def _ask_for_all(b: Builder, operand: Register, size: int) -> None:
    """Ask for an operand at once: the tile has just written it, and each line comes from its core."""

    def line(start: Register, _) -> None:
        prefetch(b, at(b, operand, i8, start), to_write=False)

    loop(b, 0, size, LINE, [], line)


class PairedTile(Tile):
    """One such tile function while it is emitted."""

    def __init__(self, code: PairedCode, made: ir.Function, b: Builder, rows: int):
        super().__init__(code, made, b, rows)
        self._code = code
        rooms = [
            other.outputs * memory.size(SPILLED[product.result.kind])
            for product, (_, other) in code.halves.items()
        ]
        self._mail = self.take(max(rooms))
        self._is_alone = b.alloca(i64)  # 1 from when the partner was late
        self._step: Register = integer(0)

    def all_steps(self, begin: list[Register]) -> list[Register]:
        self.b.store(integer(0), self._is_alone)
        last = super().all_steps(begin)
        pairing.end(self.b, self.buffers)
        return last

    def one_step(self, i: Register, carried: list[Register]) -> list[Register]:
        self._step = i
        return super().one_step(i, carried)

    def multiply(self, product: Product, ahead: Sequence[Stretch]) -> None:
        if product not in self._code.halves:
            super().multiply(product, ahead)
            return
        b, code = self.b, self._code
        own, other = code.halves[product]
        kind = product.result.kind
        operand, mail = self._address(product.operand), at(b, self.scratch, i8, self._mail)
        place = list(code.halves).index(product)
        before = b.mul(self._step, integer(len(code.halves)))
        number = b.add(before, integer(place + 1))
        odd = b.trunc(self._step, i1)
        asks = b.and_(
            pairing.is_present(b, self.buffers),
            b.icmp_signed("==", b.load(self._is_alone, typ=i64), integer(0)),
        )
        with b.if_then(asks):
            pairing.post(b, self.buffers, number, operand, mail)
        super().multiply(dataclasses.replace(product, weight=own), ahead)
        with b.if_else(asks) as (shared, alone):
            with shared:
                late = pairing.meet(b, self.buffers, number)
                with b.if_then(late, likely=False):
                    b.store(integer(1), self._is_alone)
                    pairing.end(b, self.buffers)
            with alone:
                panels = self.panels(other, kind)
                shape = code.partners_shape(product)
                b.call(code.product(shape), [operand, panels, mail, odd])
        self._take_in(product, mail)

    def _take_in(self, product: Product, mail: Register) -> None:
        """Add what the sums start from to the partner's half, and put it beside one's own."""
        b, lanes = self.b, self.schedule.lanes
        own, other = self._code.halves[product]
        kind = product.result.kind
        slots = [self.schedule.whereabouts(a) for a in product.addends]
        bases = [self._address(a) for a in product.addends]
        result = self._address(product.result)

        def some(j: Register, used: int) -> None:
            taken = Lanes(lanes, used)
            total = memory.load(b, mail, SPILLED[kind], [j], taken)
            for base, slot in zip(bases, slots, strict=True):
                total = b.fadd(total, memory.load(b, base, slot.dtype, [own.outputs, j], taken))
            memory.store(b, total, result, SPILLED[kind], [own.outputs, j], taken)

        whole = other.outputs - other.outputs % lanes
        loop(b, 0, whole, lanes, [], lambda j, _: some(j, lanes))
        if whole < other.outputs:
            some(integer(whole), other.outputs - whole)
