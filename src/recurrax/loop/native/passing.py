"""Tiles that let some steps at a time pass through windows, and what they do with those besides.

They multiply the xs of a window before its steps (`windows.py`), and make the products that trail
the loop after them: weight gradients, the gradient of its inputs. What those read is then in the
cache, and where nobody else reads it, it never leaves.

Each tile adds its part of a weight gradient up by itself, the first in the result, the others in
memory of their own, and all are added up at the end, in order: so the sum does not depend on which
thread took which tile.
"""

from collections.abc import Callable

import llvmlite.ir as ir

from recurrax.loop.native import memory
from recurrax.loop.native.contracting import Contraction, Terms
from recurrax.loop.native.emit import Builder, Register, at, i1, i8, integer, load_pointer, loop
from recurrax.loop.native.gathering import GatherCode
from recurrax.loop.native.graph import Weight
from recurrax.loop.native.jobs import Gathered, Multiplied
from recurrax.loop.native.lower import Place
from recurrax.loop.native.memory import SPILLED, TYPES
from recurrax.loop.native.microkernel import Operand, Shape, block_for, even
from recurrax.loop.native.schedule import Schedule, Slot
from recurrax.loop.native.target import Target
from recurrax.loop.native.tile import Tile, TileCode
from recurrax.loop.native.windows import Window, Windows, copy


class PassingCode(TileCode):
    """Emits the tile functions of one step, for tiles of `rows` rows and one that may have fewer.

    Besides the packed weights, `parts_bytes(tiles)` of memory are shared.
    """

    def __init__(
        self,
        module: ir.Module,
        schedule: Schedule,
        target: Target,
        reverse: bool,
        rows: int,
        in_place: int,
        windows: Windows,
    ):
        # A window has more rows than a step.
        widest = block_for(target.registers).vectors
        super().__init__(module, schedule, target, reverse, widest, in_place)
        self.windows = windows
        self.num_arguments = windows.num_arguments
        self.rows = rows
        for source in windows.sources:
            if source is not None and source.weight is not None:
                self.weights.add(source.weight, memory.REGISTER[source.place.dtype])
        self.gathers: list[tuple[Gathered, GatherCode]] = []
        for product in windows.trailing:
            if isinstance(product, Multiplied):
                self.weights.add(product.weight, product.kind)
            else:
                lanes = target.lanes(64 if product.problem.kind == "f64" else 32)
                code = GatherCode(module, product.problem, target, lanes)
                self.gathers.append((product, code))
        self._part_bytes = sum(code.result_bytes for _, code in self.gathers)

    def tile(self, made: ir.Function, b: Builder, rows: int) -> Tile:
        return PassingTile(self, made, b, rows)

    def buffer(self, result: int) -> int | None:
        """The number of the buffer of a result of the step, if it has one."""
        hidden = [k + self.step.num_carry for k in self.windows.hidden]
        return None if result in hidden else self._shifted(self.num_arguments + result)

    def _shifted(self, number: int) -> int:
        """The number of a buffer where ys without one are not counted."""
        first = self.num_arguments + self.step.num_carry
        return number - sum(first + k < number for k in self.windows.hidden)

    def result_at(self, b: Builder, buffers: Register, number: int) -> Register:
        """Where the result of this number lies, the loop's or a product's."""
        return load_pointer(b, buffers, self._shifted(number))

    def parts_bytes(self, tiles: int) -> int:
        return (tiles - 1) * self._part_bytes

    def parts(
        self, b: Builder, buffers: Register, packed: Register, ticket: Register
    ) -> list[Register]:
        """Where tile `ticket` adds up its part of each gather."""
        first = b.mul(b.sub(ticket, integer(1)), integer(self._part_bytes))
        is_first = b.icmp_signed("==", ticket, integer(0))
        found, start = [], self.weights.bytes
        for product, code in self.gathers:
            own = at(b, packed, i8, first, start)
            found.append(b.select(is_first, self.result_at(b, buffers, product.result), own))
            start += code.result_bytes
        return found

    def finish(self, b: Builder, buffers: Register, packed: Register, tiles: int) -> None:
        """Add the parts of all tiles up."""

        def one(ticket: Register, _) -> None:
            parts = self.parts(b, buffers, packed, ticket)
            for (product, code), part in zip(self.gathers, parts, strict=True):
                code.add(b, self.result_at(b, buffers, product.result), part)

        loop(b, 1, tiles, 1, [], one)


class PassingTile(Tile):
    """One such tile function while it is emitted."""

    def __init__(self, code: PassingCode, made: ir.Function, b: Builder, rows: int):
        super().__init__(code, made, b, rows)
        self._code = code
        self._windows = windows = code.windows
        step = self.step
        self._first_x, self._first_y = step.num_consts + step.num_carry, step.num_carry
        self._y_buffer = code.num_arguments + step.num_carry  # the first y's number
        self._arguments: dict[int, Window] = {}
        self._xs = [self._x_window(k, p) for k, p in enumerate(step.inputs[self._first_x :])]
        self._ys = [self._y_window(k, p) for k, p in enumerate(step.outputs[self._first_y :])]
        self._read_again: dict[int, Window] = {}
        self._made: list[tuple[Multiplied, Window]] = []
        for product in windows.trailing:
            if isinstance(product, Multiplied):
                self._window_of(product.left, product.weight.inputs, product.kind)
                place = Place(product.weight.outputs, SPILLED[product.kind], True)
                self._made.append((product, self._window(place)))
            else:
                problem = product.problem
                self._window_of(product.right, problem.features, problem.kind)
        self._contractions = {n: self._contract(n) for n in dict.fromkeys((windows.steps, 1))}
        sizes = [c.scratch_bytes for n in self._contractions.values() for c, _ in n]
        self._contracting_at = self.take(max(sizes, default=0))

    def _window(self, place: Place) -> Window:
        size = self._windows.steps * self.rows * place.width * memory.size(place.dtype)
        return Window(self.take(size), place, self.rows)

    def _x_window(self, k: int, place: Place) -> Window | None:
        source = self._windows.sources[k]
        if source is None:
            return None
        if source.argument not in self._arguments:
            self._arguments[source.argument] = self._window(source.place)
        return self._arguments[source.argument] if source.weight is None else self._window(place)

    def _y_window(self, k: int, place: Place) -> Window | None:
        swapped = self._windows.lies_by_batch(self._y_buffer + k)
        return self._window(place) if swapped or k in self._windows.hidden else None

    def _window_of(self, stack: int, width: int, kind: str) -> Window:
        """The window through which a product reads a stack."""
        passing = self._passing(stack)
        if passing is not None:
            return passing
        if stack not in self._read_again:
            self._read_again[stack] = self._window(Place(width, SPILLED[kind], True))
        return self._read_again[stack]

    def _passing(self, stack: int) -> Window | None:
        """The window of an argument or a y that the loop itself lets pass."""
        y = stack - self._y_buffer
        return self._ys[y] if y >= 0 else self._arguments.get(stack)

    def _array(self, number: int) -> Register:
        """Where an argument or a result of the loop lies, or that of a product."""
        result = number - self._code.num_arguments
        if result >= len(self.outputs):
            return self._code.result_at(self.b, self.buffers, number)
        return self.inputs[number] if result < 0 else self.outputs[result]

    def _contract(self, steps: int) -> list[tuple[Contraction, list[int]]]:
        """The contractions of so many steps, and which gathers they are: one for each D."""
        by_right: dict[tuple, list[int]] = {}
        for k, (product, _) in enumerate(self._code.gathers):
            problem = product.problem
            key = product.right, problem.start, problem.right, problem.features, problem.kind
            by_right.setdefault(key, []).append(k)
        found = []
        for n, ((_, _, right, features, kind), members) in enumerate(by_right.items()):
            lefts = [self._code.gathers[k][0].problem.left for k in members]
            name = f"contract{n}_{steps}x{self.rows}"
            module, target, rows = self._code.module, self._code.target, steps * self.rows
            terms = Terms(kind, rows, tuple(lefts), right, features, between=right)
            made = Contraction(module, name, target, terms, block_for(target.registers))
            found.append((made, members))
        return found

    def window(self, slot: Slot) -> Window | None:
        if slot.space == "xs":
            return self._xs[slot.index - self._first_x]
        return self._ys[slot.index - self._first_y]

    def all_steps(self, begin: list[Register]) -> list[Register]:
        b = self.b
        ticket = b.udiv(self.first_row, integer(self._code.rows))
        self._parts = self._code.parts(b, self.buffers, self.packed, ticket)
        for (_, code), part in zip(self._code.gathers, self._parts, strict=True):
            code.clear(b, part, code.problem.left, code.problem.right)
        return loop(b, 0, self.length, self._windows.steps, begin, self._some_steps)

    def _some_steps(self, first: Register, carried: list[Register]) -> list[Register]:
        """As many steps as a window holds, from `first` on."""
        b, most = self.b, integer(self._windows.steps)
        left = b.sub(self.length, first)
        count = b.select(b.icmp_signed("<", left, most), left, most)

        def move(window: Window, number: int, *, inwards: bool) -> None:
            array = self._array(number)
            by_batch = self._windows.lies_by_batch(number)

            def row_at(r: Register, s: Register) -> Register:
                return self._row_at(b.add(self.first_row, r), b.add(first, s), by_batch)

            how = {"inwards": inwards, "batch_major": by_batch}
            copy(b, window, self.scratch, array, row_at, count, self.schedule.lanes, **how)

        def step(k: Register, carried: list[Register]) -> list[Register]:
            self._in_window = k
            return self.one_step(b.add(first, k), carried)

        for argument, window in self._arguments.items():
            move(window, argument, inwards=True)
        for source, window in zip(self._windows.sources, self._xs, strict=True):
            if source is not None and source.weight is not None:
                assert window is not None
                self._multiply(source.weight, self._arguments[source.argument], window, count)
        carried = loop(b, 0, count, 1, carried, step)
        for k, window in enumerate(self._ys):
            if window is not None and k not in self._windows.hidden:
                move(window, self._y_buffer + k, inwards=False)
        for stack, window in self._read_again.items():
            move(window, stack, inwards=True)
        for product, window in self._made:
            source = self._window_of(product.left, product.weight.inputs, product.kind)
            self._multiply(product.weight, source, window, count)
            move(window, product.result, inwards=False)
        if self._code.gathers:
            self._by_size(count, lambda k, steps: self._add(b.add(first, k), k, steps))
        return carried

    def _row_at(self, row: Register, step: Register, by_batch: bool) -> Register:
        """Where row `row` of the `step`th step to run stands among the rows of an array."""
        b, time = self.b, self.time_of(step)
        if by_batch:
            return b.add(b.mul(row, self.length), time)
        return b.add(b.mul(time, integer(self.step.rows)), row)

    def _by_size(self, count: Register, some: Callable[[Register, int], None]) -> None:
        """`some(first step, how many)` for a whole window, or for each step of another."""
        b, most = self.b, self._windows.steps
        with b.if_else(b.icmp_signed("==", count, integer(most))) as (whole, rest):
            with whole:
                some(integer(0), most)
            with rest:
                loop(b, 0, count, 1, [], lambda k, _: some(k, 1))

    def _add(self, first: Register, k: Register, steps: int) -> None:
        """Add the contractions of `steps` steps from `first` on, which is the window's `k`th."""
        b = self.b
        scratch = at(b, self.scratch, i8, self._contracting_at)
        for contraction, members in self._contractions[steps]:
            for n, member in enumerate(members):
                product, _ = self._code.gathers[member]
                window = self._passing(product.left)

                def copy_step(s: Register, _, n=n, window=window, p=product, c=contraction) -> None:
                    row, width = b.mul(s, integer(self.rows)), integer(p.problem.left)
                    if window is not None:
                        source, apart = window.at(b, self.scratch, b.add(k, s)), width
                    else:
                        by_batch = self._windows.lies_by_batch(p.left)
                        start = self._row_at(self.first_row, b.add(first, s), by_batch)
                        kind = TYPES[p.problem.kind]
                        source = at(b, self._array(p.left), kind, b.mul(start, width))
                        apart = b.mul(self.length, width) if by_batch else width
                    c.copy(b, scratch, n, source, apart, row, self.rows)

                loop(b, 0, steps, 1, [], copy_step)
            product, _ = self._code.gathers[members[0]]
            problem = product.problem
            window = self._window_of(product.right, problem.features, problem.kind)
            right = at(b, window.at(b, self.scratch, k), TYPES[problem.kind], problem.start)
            contraction.add(b, scratch, right, [self._parts[m] for m in members])

    def _multiply(self, weight: Weight, source: Window, target: Window, count: Register) -> None:
        """Multiply `count` steps of a window with a weight: whole windows at once.

        What the last window has beyond them is left from the one before, and nobody reads it.
        """
        b, most = self.b, self._windows.steps
        kind, block = memory.REGISTER[source.place.dtype], block_for(self._code.target.registers)
        panels = self.panels(weight, kind)

        def some(k: Register, steps: int) -> None:
            shape = Shape(
                blocks=even(steps * self.rows, block.rows),
                kind=kind,
                operand=Operand.by_rows(source.place.width),
                result_stride=target.place.width,
                addends=(),
                layout=self._code.weights.layout(weight, kind),
            )
            ends = [window.at(b, self.scratch, k) for window in (source, target)]
            b.call(self._code.product(shape), [ends[0], panels, ends[1], i1(False)])

        with b.if_else(b.icmp_signed("==", count, integer(most))) as (whole, rest):
            with whole:
                some(integer(0), most)
            with rest:
                size = 1 if self.rows >= block.rows else most
                loop(b, 0, count, size, [], lambda k, _: some(k, size))
