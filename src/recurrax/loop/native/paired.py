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
    integer,
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
from recurrax.loop.native.trial import Trial
from recurrax.loop.native.weights import Weights

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


def is_worth_waking(schedule: Schedule, length: int) -> bool:
    """Whether a loop gains from a partner what it takes to wake one."""
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
    """Emits a tile function of one row, and what its partner does.

    The partner has a copy of its own of weights that the tile reads where they lie.
    """

    @functools.cached_property
    def halves(self) -> dict[Product, tuple[Weight, Weight]]:
        """Of each shared product, the tile's half of the weight and the partner's."""
        lanes = self.schedule.lanes
        return {p: halves(p.weight, lanes) for p in shared_products(self.schedule)}

    @functools.cached_property
    def _copies(self) -> Weights:
        copies = self.weights.none_in_place("copy")
        for product, (_, other) in self.halves.items():
            if self.weights.stays(other, product.result.kind):
                copies.add(other, product.result.kind)
        return copies

    @property
    def packed_bytes(self) -> int:
        return self.answers_at + max(o.outputs * size for _, o, size in self.pairs())

    @property
    def answers_at(self) -> int:
        """Where in shared memory the partner's halves are made: one that is late may still write
        when the scratch memory of the tile has become another's."""
        return self.weights.bytes + self._copies.bytes

    def pairs(self) -> list[tuple[Product, Weight, int]]:
        """The shared products, the partner's half of the weight, and the size of a number."""
        halves = self.halves.items()
        return [(p, other, memory.size(SPILLED[p.result.kind])) for p, (_, other) in halves]

    def add_weight(self, product: Product) -> None:
        for part in self.halves.get(product, (product.weight,)):
            self.weights.add(part, product.result.kind)

    def tile(self, made: ir.Function, b: Builder, rows: int) -> Tile:
        assert rows == 1
        return PairedTile(self, made, b, rows)

    def other_half(self, product: Product, weights: Weights) -> ir.Function:
        """Makes the partner's half from one of two kinds of panels; nothing is added to it."""
        kind, weight = product.result.kind, self.halves[product][1]
        shape = Shape(
            blocks=((1, 1),),
            kind=kind,
            operand=Operand.by_rows(weight.inputs),
            result_stride=weight.outputs,
            addends=(),
            layout=weights.layout(weight, kind),
        )
        return self.product(shape)

    def half(self, b: Builder, buffers, packed, number, operand, result) -> None:
        """Emit what the partner does for post `number`, or when it gets ready."""
        copies = at(b, packed, i8, self.weights.bytes)
        with b.if_else(b.icmp_signed("==", number, integer(0))) as (ready, posted):
            with ready:
                self._copies.pack(b, buffers, copies)
            with posted:
                past = b.sub(number, integer(1))
                step, place = (f(past, integer(len(self.halves))) for f in (b.udiv, b.urem))
                for k, product in enumerate(self.halves):
                    with b.if_then(b.icmp_signed("==", place, integer(k))):
                        self._answer(b, product, packed, copies, operand, result, step)

    def _answer(self, b, product: Product, packed, copies, operand, result, step) -> None:
        kind, weight = product.result.kind, self.halves[product][1]
        weights, start = self.weights, packed
        if weights.stays(weight, kind):
            weights, start = self._copies, copies
        _ask_for_all(b, operand, weight.inputs * memory.size(SPILLED[kind]))
        panels = at(b, start, i8, weights.packed[weight, kind].offset)
        arguments = [operand, panels, result, b.trunc(step, i1)]
        b.call(self.other_half(product, weights), arguments)


def _ask_for_all(b: Builder, operand: Register, size: int) -> None:
    """Ask for an operand at once: the tile has just written it, so lines come from its core."""

    def line(start: Register, _) -> None:
        prefetch(b, at(b, operand, i8, start), to_write=False)

    loop(b, 0, size, LINE, [], line)


class PairedTile(Tile):
    """One such tile function while it is emitted."""

    def __init__(self, code: PairedCode, made: ir.Function, b: Builder, rows: int):
        super().__init__(code, made, b, rows)
        self._code = code
        self._own = self.take(max(o.outputs * size for _, o, size in code.pairs()))
        self._lent = self.take(max(o.inputs * size for _, o, size in code.pairs()))
        self._step: Register = integer(0)
        self._trial = Trial(b, code.target, len(code.halves))

    def all_steps(self, begin: list[Register]) -> list[Register]:
        self._trial.begin()
        last = super().all_steps(begin)
        pairing.end(self.b, self.buffers)
        return last

    def one_step(self, i: Register, carried: list[Register]) -> list[Register]:
        self._step = i
        carried = super().one_step(i, carried)
        self._trial.judge(self.buffers)
        return carried

    def multiply(self, product: Product, ahead: Sequence[Stretch]) -> None:
        if product not in self._code.halves:
            super().multiply(product, ahead)
            return
        b, code = self.b, self._code
        own, other = code.halves[product]
        answers, apart = at(b, self.packed, i8, code.answers_at), at(b, self.scratch, i8, self._own)
        place = list(code.halves).index(product)
        before = b.mul(self._step, integer(len(code.halves)))
        number = b.add(before, integer(place + 1))
        asks = b.and_(self._trial.has_begun(self._step), pairing.is_free(b, self.buffers))
        with b.if_then(asks):
            pairing.post(b, self.buffers, number, self._lend(product), answers)
        super().multiply(dataclasses.replace(product, weight=own), ahead)
        before = b.block
        with b.if_then(asks):
            is_there = pairing.meet(b, self.buffers, number, _bytes(other))
            after = b.block
        answered = b.phi(i1)
        answered.add_incoming(i1(False), before)
        answered.add_incoming(is_there, after)
        self._trial.note(answered)
        with b.if_then(b.not_(answered)):
            panels = self.panels(other, product.result.kind)
            arguments = [self._address(product.operand), panels, apart, b.trunc(self._step, i1)]
            b.call(code.other_half(product, code.weights), arguments)
        self._take_in(product, b.select(answered, answers, apart))

    def _lend(self, product: Product) -> Register:
        """Where the partner finds an operand: inside the block."""
        b, operand = self.b, product.operand
        slot, address = self.schedule.whereabouts(operand), self._address(operand)
        if slot.space in ("scratch", "carry", "next"):
            return address
        lent = at(b, self.scratch, i8, self._lent)
        self.by_vectors(
            product.weight.inputs,
            lambda j, lanes: memory.store(
                b, memory.load(b, address, slot.dtype, [j], lanes), lent, slot.dtype, [j], lanes
            ),
        )
        return lent

    def _take_in(self, product: Product, half: Register) -> None:
        """Add what the sums start from to the other half, and put it beside one's own."""
        b = self.b
        own, other = self._code.halves[product]
        kind = product.result.kind
        slots = [self.schedule.whereabouts(a) for a in product.addends]
        bases = [self._address(a) for a in product.addends]
        result = self._address(product.result)

        def some(j: int | Register, lanes: Lanes) -> None:
            total = memory.load(b, half, SPILLED[kind], [j], lanes)
            for base, slot in zip(bases, slots, strict=True):
                total = b.fadd(total, memory.load(b, base, slot.dtype, [own.outputs, j], lanes))
            memory.store(b, total, result, SPILLED[kind], [own.outputs, j], lanes)

        self.by_vectors(other.outputs, some)
