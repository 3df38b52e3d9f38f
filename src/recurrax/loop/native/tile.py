"""The function that owns a tile of rows and runs all steps for it."""

from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.dots import Dots, emit_dots
from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    function,
    i1,
    i8,
    i64,
    integer,
    load_pointer,
    loop,
    pointer,
    prefetch,
    void,
)
from recurrax.loop.native.fetching import Stretch, leaves_memory_idle, stretches
from recurrax.loop.native.graph import Value, Weight
from recurrax.loop.native.in_place import carries_in_place
from recurrax.loop.native.jobs import Company
from recurrax.loop.native.memory import LINE, Lanes, aligned
from recurrax.loop.native.microkernel import (
    Addend,
    Lines,
    Operand,
    Shape,
    block_for,
    emit_product,
    even,
)
from recurrax.loop.native.rows import Row
from recurrax.loop.native.schedule import Schedule, Slot
from recurrax.loop.native.stages import Product
from recurrax.loop.native.target import Target
from recurrax.loop.native.weights import Weights
from recurrax.loop.native.windows import Window
from recurrax.loop.native.work import announce, await_step


class TileCode:
    """Emits the tile functions of one step into a module.

    Panels of weights are up to `widest` vectors wide; weights of up to `in_place` bytes are read
    where they lie, or of up to `turned` (`weights.py`). Where `company` goes alongside, the tile
    waits for what leads it, and tells what trails it. `scratch_bytes` of memory are needed for each
    tile at work, besides the packed `weights`.
    """

    def __init__(
        self,
        module: ir.Module,
        schedule: Schedule,
        target: Target,
        reverse: bool,
        widest: int,
        in_place: int = 0,
        turned: int = 0,
        company: Company | None = None,
    ):
        self.module = module
        self.schedule = schedule
        self.step = schedule.step
        self.target = target
        self.reverse = reverse
        self.company = company
        self.num_arguments = company.num_arguments if company else len(schedule.step.inputs)
        self.weights = Weights(module, schedule.lanes, widest, in_place, turned=turned)
        self.scratch_bytes = 0
        self.carries_in_place = carries_in_place(schedule)
        self._products: dict[Shape | Dots, ir.Function] = {}
        for product in schedule.products:
            self.add_weight(product)

    @property
    def packed_bytes(self) -> int:
        """Memory for weights, and what else all threads share."""
        return self.weights.bytes

    def add_weight(self, product: Product) -> None:
        self.weights.add(product.weight, product.result.kind)

    def emit(self, rows: int) -> ir.Function:
        """`void tile(buffers, scratch, packed, first_row, length)` for `rows` rows."""
        arguments = [pointer, pointer, pointer, i64, i64]
        made, b = function(self.module, f"tile{rows}", void, arguments)
        self.tile(made, b, rows).emit()
        b.ret_void()
        return made

    def tile(self, made: ir.Function, b: Builder, rows: int) -> "Tile":
        return Tile(self, made, b, rows)

    def buffer(self, result: int) -> int | None:
        """The number of the buffer of a result of the step, if it has one."""
        return self.num_arguments + result

    def product(self, shape: Shape | Dots) -> ir.Function:
        if shape not in self._products:
            name = f"product{len(self._products)}"
            self._products[shape] = (
                emit_dots(self.module, name, shape)
                if isinstance(shape, Dots)
                else emit_product(self.module, name, shape, self.target.registers)
            )
        return self._products[shape]


class Tile:
    """One tile function while it is emitted."""

    def __init__(self, code: TileCode, made: ir.Function, b: Builder, rows: int):
        self.code = code
        self.schedule = code.schedule
        self.step = code.step
        self.b = b
        self.rows = rows
        self.buffers, self.scratch, self.packed, self.first_row, self.length = made.args
        led = {p.left: p.result for p in code.company.leading} if code.company else {}
        self.inputs = [self._buffer(led.get(k, k)) for k in range(code.num_arguments)]
        self.outputs = [self._buffer(code.buffer(k)) for k in range(len(self.step.outputs))]
        self._size = 0
        self._scratch_at = [self._room(*slot) for slot in self.schedule.scratch]
        self._carry_at, self._carry_size = self._carry_layout()
        self._now = self._next = self._time = None
        self._in_window: Register = integer(0)
        self._bases: dict[tuple[str, int], Register] = {}

    def _buffer(self, k: int | None) -> Register:
        return None if k is None else load_pointer(self.b, self.buffers, k)

    def _room(self, width: int, dtype: str, one_row: bool) -> int:
        """Take scratch memory; returns where it begins."""
        rows = 1 if one_row else self.rows
        return self.take(rows * self.schedule.padded(width) * memory.size(dtype))

    def take(self, size: int) -> int:
        start = self._size
        self._size += aligned(size)
        return start

    def _carry_layout(self) -> tuple[list[int], int]:
        """Where each carry lies: in scratch memory if in place, else in each step's own."""
        starts, size = [], 0
        for k in range(self.step.num_carry):
            place, kind = self.schedule.carries[k]
            if k in self.code.carries_in_place:
                starts.append(self._room(place.width, kind, False))
                continue
            starts.append(size)
            size += aligned(self.rows * self.schedule.padded(place.width) * memory.size(kind))
        return starts, size

    def _carry_base(self, k: int, store: Register) -> Register:
        """The first row of carry `k`, of which `store` holds those that are not in place."""
        store = self.scratch if k in self.code.carries_in_place else store
        return at(self.b, store, i8, self._carry_at[k])

    def emit(self) -> None:
        b = self.b
        first = at(b, self.scratch, i8, self._size)
        second = at(b, first, i8, self._carry_size)
        # results without rows are every tile's alike; only the first tile's go out
        shared = [p.width * memory.size(p.dtype) for p in self.step.outputs if not p.by_row]
        self._nowhere = at(b, second, i8, self._carry_size)
        total = self._size + 2 * self._carry_size + aligned(max(shared, default=0)) + LINE
        self.code.scratch_bytes = max(self.code.scratch_bytes, total)
        self._is_first = b.icmp_signed("==", self.first_row, integer(0))
        self.bring_in(first)
        last, _ = self.all_steps([first, second])
        self.bring_out(last)

    def bring_in(self, store: Register) -> None:
        """Bring the carry that the loop begins with."""
        for k in range(self.step.num_carry):
            self._copy_carry(k, self.inputs[self.step.num_consts + k], store, inwards=True)

    def bring_out(self, store: Register) -> None:
        """Bring the last carry to the results."""
        for k in range(self.step.num_carry):
            self._copy_carry(k, self.outputs[k], store, inwards=False)

    def all_steps(self, begin: list[Register]) -> list[Register]:
        return loop(self.b, 0, self.length, 1, begin, self.one_step)

    def one_step(self, i: Register, carried: list[Register]) -> list[Register]:
        """The `i`th step to run."""
        self._now, self._next = carried
        self._time = self.time_of(i)
        company = self.code.company
        if company and company.leading:
            await_step(self.b, self.buffers, self.scratch, i)
        self._one_step()
        if company and company.trailing:
            self.announce(self.b.add(i, integer(1)))
        return [self._next, self._now]

    def announce(self, count: Register) -> None:
        """Tell what trails the loop that `count` steps are done."""
        announce(self.b, self.buffers, count)

    def time_of(self, i: Register) -> Register:
        """Where along time the `i`th step to run stands."""
        return self.b.sub(self.b.sub(self.length, integer(1)), i) if self.code.reverse else i

    def panels(self, weight: Weight, kind: str) -> Register:
        if self.code.weights.stays(weight, kind):
            return self._within(self.inputs[weight.index], weight.dtype, integer(weight.offset))
        return at(self.b, self.packed, i8, self.code.weights.packed[weight, kind].offset)

    def _one_step(self) -> None:
        b, schedule = self.b, self.schedule
        self._bases = {}
        ahead = self._ahead()
        asking = self._asking(ahead)
        for slot in self._slots():  # ahead of all loops, so that they are known in each
            self._base(slot)
        last = max((level for level, _ in schedule.tasks), default=0)
        for level in range(schedule.levels):
            stages = sorted(s for s in schedule.tasks if s[0] == level)
            if stages:

                def row(r: Register, _, stages=stages, level=level) -> None:
                    if level == last and asking is None:
                        self._fetch_row(r, ahead)
                    emitter = Row(b, schedule, self._base, r)
                    for stage in stages:
                        emitter.emit(stage)

                loop(b, 0, self.rows, 1, [], row)
            for product in schedule.products:
                if product.level == level + 1:
                    self.multiply(product, ahead if product is asking else [])

    def _ahead(self) -> list[Stretch]:
        """What to ask for: what lies in windows is there."""
        stacks = (s for s in self._slots() if s.space in ("xs", "ys"))
        slots = [s for s in stacks if self.window(s) is None]
        return stretches(self.step, slots, self.code.reverse)

    def _asking(self, ahead: Sequence[Stretch]) -> Product | None:
        """The product that has time to ask for all that is needed ahead."""
        registers = self.code.target.registers
        products = self.schedule.products if self.rows >= block_for(registers).rows else []
        largest = max(products, key=lambda p: p.weight.inputs * p.weight.outputs, default=None)
        if largest is None or not ahead or not leaves_memory_idle(largest.weight):
            return None
        shape = self._shape(largest, ahead)
        return largest if shape.can_fetch(registers) else None

    def _fetch_row(self, row: Register, ahead: Sequence[Stretch]) -> None:
        """Ask for what this row reads and writes at the next step.

        Emitted in the last loop over features, whose work is in registers.
        """
        b = self.b
        for stretch in ahead:
            along = b.mul(row, integer(stretch.size))
            start = at(b, self._base(stretch.slot), i8, along, stretch.following)
            for line in range(0, stretch.size, LINE):
                prefetch(b, at(b, start, i8, line), to_write=stretch.slot.space == "ys")

    def _slots(self):
        yield from self.schedule.home.values()
        yield from self.schedule.tables.values()
        for tasks in self.schedule.tasks.values():
            yield from (t.slot for t in tasks if t.slot is not None)

    def _base(self, slot: Slot) -> Register:
        key = (slot.space, slot.index)
        if key not in self._bases:
            self._bases[key] = self._new_base(slot)
        return self._bases[key]

    def _new_base(self, slot: Slot) -> Register:
        """The first row of the tile in a slot, at this step."""
        b = self.b
        assert self._now is not None and self._next is not None and self._time is not None
        match slot.space:
            case "scratch":
                return at(b, self.scratch, i8, self._scratch_at[slot.index])
            case "carry":
                return self._carry_base(slot.index - self.step.num_consts, self._now)
            case "next":
                return self._carry_base(slot.index, self._next)
            case "const":
                start = b.mul(self.first_row, integer(slot.stride))
                return self._within(self.inputs[slot.index], slot.dtype, start)
        window = self.window(slot)
        if window is not None:
            return window.at(b, self.scratch, self._in_window)
        is_input = slot.space == "xs"
        place = (self.step.inputs if is_input else self.step.outputs)[slot.index]
        buffer = (self.inputs if is_input else self.outputs)[slot.index]
        if place.by_row:
            rows = b.add(b.mul(self._time, integer(self.step.rows)), self.first_row)
            return self._within(buffer, place.dtype, b.mul(rows, integer(place.width)))
        start = b.mul(self._time, integer(place.width))
        base = self._within(buffer, place.dtype, start)
        if is_input:
            return base
        return b.select(self._is_first, base, self._nowhere)

    def window(self, slot: Slot) -> Window | None:
        """The window that an x or y passes through."""
        del slot

    def _within(self, buffer: Register, dtype: str, start: Register) -> Register:
        return at(self.b, buffer, memory.stored_type(dtype), start)

    def address(self, value: Value, column: int = 0) -> Register:
        """Where a number of a product's operand, addend or result lies, the first or another."""
        slot = self.schedule.whereabouts(value)
        return at(self.b, self._base(slot), memory.stored_type(slot.dtype), slot.offset, column)

    def _dots(self, product: Product) -> Dots:
        weight, kind = product.weight, product.result.kind
        addends = tuple(self.schedule.whereabouts(a).dtype for a in product.addends)
        size = weight.inputs, weight.outputs, weight.output_stride
        return Dots(*size, kind, self.schedule.lanes, addends)

    def _shape(self, product: Product, ahead: Sequence[Stretch]) -> Shape:
        where, kind = self.schedule.whereabouts, product.result.kind
        addends = [where(a) for a in product.addends]
        return Shape(
            blocks=even(self.rows, block_for(self.code.target.registers).rows),
            kind=kind,
            operand=Operand.by_rows(where(product.operand).stride),
            result_stride=where(product.result).stride,
            addends=tuple(Addend(slot.dtype, slot.stride) for slot in addends),
            layout=self.code.weights.layout(product.weight, kind),
            fetched=tuple(Lines(s.lines(self.rows)) for s in ahead),
        )

    def multiply(self, product: Product, ahead: Sequence[Stretch], column: int = 0) -> None:
        """Make a product, or outputs from `column` on; it asks for what is needed `ahead`."""
        b, kind = self.b, product.result.kind
        is_turned = self.code.weights.stays_turned(product.weight, kind)
        shape = self._dots(product) if is_turned else self._shape(product, ahead)
        panels = self.panels(product.weight, kind)
        operand, result = self.address(product.operand), self.address(product.result, column)
        odd = b.trunc(self._time, i1)
        arguments = [
            operand,
            panels,
            result,
            odd,
            *(self.address(a, column) for a in product.addends),
        ]
        arguments += [at(b, self._base(s.slot), i8, s.following) for s in ahead]
        b.call(self.code.product(shape), arguments)

    def _copy_carry(self, k: int, buffer: Register, store: Register, inwards: bool) -> None:
        """Bring this tile's rows of carry `k` into scratch memory, or out of it."""
        b = self.b
        place, dtype = self.schedule.carries[k]
        outside = place.width if place.by_row else 0
        inside = self.schedule.padded(place.width)
        scratch = self._carry_base(k, store)
        start = b.mul(self.first_row, integer(outside))

        def row(r: Register, _) -> None:
            there = [start, b.mul(r, integer(outside))]
            here = [b.mul(r, integer(inside))]

            def move(j: int | Register, lanes: Lanes) -> None:
                if inwards:
                    value = memory.load(b, buffer, place.dtype, [*there, j], lanes)
                    memory.store(b, value, scratch, dtype, [*here, j], lanes)
                else:
                    value = memory.load(b, scratch, dtype, [*here, j], lanes)
                    memory.store(b, value, buffer, place.dtype, [*there, j], lanes)

            self.by_vectors(place.width, move)

        if place.by_row or inwards:
            loop(b, 0, self.rows, 1, [], row)
        else:
            with b.if_then(self._is_first):
                row(integer(0), [])

    def by_vectors(self, width: int, some: Callable[[int | Register, Lanes], None]) -> None:
        """`some(start, lanes)` for each vector of a row, the last of which may be a part of one."""
        lanes = self.schedule.lanes
        whole = width - width % lanes
        loop(self.b, 0, whole, lanes, [], lambda j, _: some(j, Lanes(lanes, lanes)))
        if whole < width:
            some(whole, Lanes(lanes, width - whole))
