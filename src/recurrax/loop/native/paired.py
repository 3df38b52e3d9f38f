"""The function that runs all steps for one row, on two threads that share large products.

See `pairing.py` for how the two meet.
"""

import dataclasses
import functools
from collections.abc import Sequence

import llvmlite.ir as ir

from recurrax.loop.native import memory, pairing
from recurrax.loop.native.emit import Builder, Register, at, i1, i8, i64, integer, loop
from recurrax.loop.native.fetching import Stretch
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.memory import SPILLED, Lanes, aligned
from recurrax.loop.native.schedule import Schedule, Slot
from recurrax.loop.native.stages import Product
from recurrax.loop.native.tile import Tile, TileCode
from recurrax.loop.native.trial import Trial
from recurrax.loop.native.weights import bytes_of

# Found by measurement: the bytes of a weight that are worth two threads' meeting, and those of all
# steps that are worth waking one.
_LARGE = 1 << 15
_WORTH_WAKING = 8 << 20


def shared_products(schedule: Schedule) -> list[Product]:
    """The products of a step, of one row, that are worth a partner, who is handed the carry."""
    found = [p for p in schedule.products if _is_large(p.weight, schedule.lanes)]
    carried = sum(size for _, size in _carries(schedule))
    return found if carried <= sum(bytes_of(p.weight) for p in found) else []


def _carries(schedule: Schedule) -> list[tuple[str, int]]:
    """The dtype of each carry as it stands in scratch memory, and the bytes of a row."""
    return [
        (dtype, aligned(schedule.padded(place.width) * memory.size(dtype)))
        for place, dtype in schedule.carries
    ]


def _is_large(weight: Weight, lanes: int) -> bool:
    return bytes_of(weight) >= _LARGE and weight.outputs > lanes


def is_worth_waking(schedule: Schedule, length: int) -> bool:
    """Whether a loop gains from a partner what it takes to wake one."""
    read = sum(bytes_of(p.weight) for p in shared_products(schedule))
    return schedule.step.rows == 1 and length * read >= _WORTH_WAKING


def halves(weight: Weight, lanes: int) -> tuple[Weight, Weight]:
    """The tile's outputs, and the partner's, as weights."""
    vectors = -(-weight.outputs // lanes)
    cut = -(-vectors // 2) * lanes
    own = dataclasses.replace(weight, outputs=cut)
    offset = weight.offset + cut * weight.output_stride
    return own, dataclasses.replace(weight, offset=offset, outputs=weight.outputs - cut)


class PairedCode(TileCode):
    """Emits a tile function of one row, which the partner runs too: as tile number 1."""

    @functools.cached_property
    def halves(self) -> dict[Product, tuple[Weight, Weight]]:
        """Of each shared product, the tile's half of the weight and the partner's."""
        lanes = self.schedule.lanes
        return {p: halves(p.weight, lanes) for p in shared_products(self.schedule)}

    @property
    def box_bytes(self) -> int:
        """Of what one of the two swaps at a time."""
        shared = self.halves.items()
        sizes = (own.outputs * memory.size(SPILLED[p.result.kind]) for p, (own, _) in shared)
        return aligned(max(sizes))

    @property
    def packed_bytes(self) -> int:
        carry = sum(size for _, size in _carries(self.schedule))
        return self.boxes_at + 4 * self.box_bytes + carry

    @property
    def boxes_at(self) -> int:
        """Where in shared memory halves are swapped: each of the two has two boxes in turn, so that
        nobody writes to one that is still read. The carry of who is invited lies behind them."""
        return self.weights.bytes

    def add_weight(self, product: Product) -> None:
        for part in self.halves.get(product, (product.weight,)):
            self.weights.add(part, product.result.kind)

    def tile(self, made: ir.Function, b: Builder, rows: int) -> Tile:
        assert rows == 1
        return PairedTile(self, made, b, rows)


class PairedTile(Tile):
    """One such tile function while it is emitted."""

    def __init__(self, code: PairedCode, made: ir.Function, b: Builder, rows: int):
        super().__init__(code, made, b, rows)
        self._code = code
        self._role = pairing.Role(b.icmp_signed("==", self.first_row, integer(0)))
        self.first_row = integer(0)
        self._unseen = {
            k: self.take(p.width * memory.size(p.dtype))
            for k, p in enumerate(self.step.outputs)
            if k >= self.step.num_carry
        }
        self._step, self._stop = integer(0), self.length
        self._are_two, self._invited = b.alloca(i1), b.alloca(i64)
        self._trial = Trial(b, code.target, len(code.halves))

    @property
    def _is_partner(self) -> Register:
        return self.b.not_(self._role.is_tile)

    def bring_in(self, store: Register) -> None:
        with self.b.if_else(self._role.is_tile) as (tile, partner):
            with tile:
                super().bring_in(store)
            with partner:
                self._move_carry(store, inwards=True)

    def _move_carry(self, store: Register, inwards: bool) -> None:
        """Bring the carry from where the invited partner finds it, or there."""
        b, code = self.b, self._code
        place = code.boxes_at + 4 * code.box_bytes
        for k, (dtype, size) in enumerate(_carries(self.schedule)):
            there, here = at(b, self.packed, i8, place), self._carry_base(k, store)
            source, target = (there, here) if inwards else (here, there)
            self._copy(source, target, dtype, size // memory.size(dtype))
            place += size

    def _copy(self, source: Register, target: Register, dtype: str, count: int) -> None:
        def some(j: int | Register, lanes: Lanes) -> None:
            vector = memory.load(self.b, source, dtype, [j], lanes)
            memory.store(self.b, vector, target, dtype, [j], lanes)

        self.by_vectors(count, some)

    def all_steps(self, begin: list[Register]) -> list[Register]:
        b, role = self.b, self._role
        self._trial.begin()
        b.store(self._is_partner, self._are_two)
        b.store(integer(0), self._invited)
        first, stop = pairing.partners_steps(b, self.buffers)
        self._stop = role.of(b, self.length, stop)
        last = loop(b, role.of(b, integer(0), first), self._stop, 1, begin, self.one_step)
        with b.if_then(self._is_partner):
            b.ret_void()
        return last

    def bring_out(self, store: Register) -> None:
        super().bring_out(store)
        pairing.end(self.b, self.buffers)

    def one_step(self, i: Register, carried: list[Register]) -> list[Register]:
        b, self._step = self.b, i
        is_alone = b.not_(b.load(self._are_two, typ=i1))
        waited = pairing.times_waited(b, self.buffers)
        waits = b.icmp_signed("!=", waited, b.load(self._invited, typ=i64))
        with b.if_then(b.and_(b.and_(is_alone, waits), self._trial.admits(i))):
            self._move_carry(carried[0], inwards=False)
            pairing.invite(b, self.buffers, i)
            b.store(waited, self._invited)
            b.store(i1(True), self._are_two)
        carried = super().one_step(i, carried)
        with b.if_then(self._role.is_tile):
            is_lost = self._trial.judge()
            with b.if_then(is_lost, likely=False):
                pairing.dismiss(b, self.buffers)
                b.store(i1(False), self._are_two)
        return carried

    def announce(self, count: Register) -> None:
        with self.b.if_then(self._role.is_tile):
            super().announce(count)

    def _new_base(self, slot: Slot) -> Register:
        base = super()._new_base(slot)
        if slot.space != "ys":
            return base
        unseen = at(self.b, self.scratch, i8, self._unseen[slot.index])
        return self._role.of(self.b, base, unseen)

    def multiply(self, product: Product, ahead: Sequence[Stretch], column: int = 0) -> None:
        if product not in self._code.halves:
            super().multiply(product, ahead, column)
            return
        b = self.b
        with b.if_else(self._role.is_tile) as (tile, partner):
            with tile:
                self._make(product, 0)
            with partner:
                self.partners_half(product)
        before = b.block
        with b.if_then(b.load(self._are_two, typ=i1)):
            is_there = self._swap(product)
            after = b.block
        swapped = b.phi(i1)
        swapped.add_incoming(i1(False), before)
        swapped.add_incoming(is_there, after)
        self._trial.note(swapped)
        with b.if_then(b.not_(swapped)):
            self._make(product, 1)

    def partners_half(self, product: Product) -> None:
        """Emit what the partner makes."""
        self._make(product, 1)

    def _make(self, product: Product, half: int) -> None:
        """Make the first or the second half."""
        both = self._code.halves[product]
        column = both[0].outputs if half else 0
        super().multiply(dataclasses.replace(product, weight=both[half]), [], column)

    def _swap(self, product: Product) -> Register:
        """Give one half and take the other; tells whether that is there."""
        b, code, role = self.b, self._code, self._role
        _, other = code.halves[product]
        places = list(code.halves)
        place = places.index(product)
        number = b.add(b.mul(self._step, integer(len(places))), integer(place + 1))
        odd = b.mul(b.and_(number, integer(1)), integer(code.box_bytes))
        boxes = at(b, self.packed, i8, code.boxes_at)
        first, second = (at(b, boxes, i8, odd, k * 2 * code.box_bytes) for k in (0, 1))
        with b.if_else(role.is_tile) as (tile, partner):
            with tile:
                self._move_half(product, 0, first, gives=True)
            with partner:
                self._move_half(product, 1, second, gives=True)
        goes_on = b.icmp_signed("<", b.add(self._step, integer(1)), self._stop)
        stays = i1(True) if product is not places[-1] else goes_on
        pairing.say(b, self.buffers, role, number, b.or_(role.is_tile, stays))
        met = pairing.meet(b, self.buffers, role, number, bytes_of(other))
        is_there = b.icmp_signed(">=", met, integer(0))
        with b.if_then(b.not_(is_there)):
            with b.if_then(self._is_partner):
                b.ret_void()
            pairing.part(b, self.buffers)
            self._trial.note_late()
        with b.if_then(role.is_tile):
            b.store(b.icmp_signed(">", met, integer(0)), self._are_two)
        with b.if_then(is_there), b.if_else(role.is_tile) as (tile, partner):
            with tile:
                self._move_half(product, 1, second, gives=False)
            with partner:
                self._move_half(product, 0, first, gives=False)
        return is_there

    def _move_half(self, product: Product, half: int, box: Register, *, gives: bool) -> None:
        """Move the first or the second half of a product into a box, or out of it."""
        both, dtype = self._code.halves[product], SPILLED[product.result.kind]
        result = self.address(product.result, both[0].outputs if half else 0)
        source, target = (result, box) if gives else (box, result)
        self._copy(source, target, dtype, both[half].outputs)
