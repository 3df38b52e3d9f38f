"""The values of one step as a graph: every value is one row of numbers, its features laid flat.

Equal values are one value (hash-consing). Eleven kinds are enough:

| op | args | param | what it is |
| --- | --- | --- | --- |
| `leaf` | – | `Source` | a row of an argument |
| `number` | – | the number | a constant |
| `numbers` | – | the numbers | constants side by side |
| `map` | operands | name, and what else it needs | elementwise; one feature goes with any |
| `slice` | whole | first feature | `width` features of another value |
| `concat` | pieces | their widths | pieces side by side; a piece one wide fills its place |
| `reduce` | operand | `sum`, `max`, `min`, `and`, `or` | all features to one |
| `dot` | operand | `Weight` | the product of a row with a matrix |
| `look_up` | index | `Table` | the row of a table that the index, of one feature, picks |
| `pick` | whole, places | – | for each place the feature of the whole that stands there |
| `scatter` | onto, features, places | how they combine | `onto`, with each feature at its place |
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from recurrax.loop.native.unsupported import Unsupported

MAX_PIECES = 256
_COUNTS_TO = {"i32": 2**31 - 1, "i64": 2**63 - 1}


@dataclasses.dataclass(frozen=True)
class Source:
    """Features `offset` onwards of argument `index`; `kind` is `const`, `carry` or `xs`."""

    kind: str
    index: int
    dtype: str
    by_row: bool


@dataclasses.dataclass(frozen=True)
class Weight:
    """A matrix of `inputs` × `outputs` inside the constant `index`, by strides of elements."""

    index: int
    dtype: str
    offset: int
    inputs: int
    outputs: int
    input_stride: int
    output_stride: int


@dataclasses.dataclass(frozen=True)
class Table:
    """A matrix of neighbouring features inside the constant `index`, by its stride of rows."""

    index: int
    dtype: str
    offset: int
    row_stride: int


class Value:
    """One node of the graph; see the module for what `op`, `args` and `param` may be."""

    __slots__ = ("args", "by_row", "kind", "number", "op", "param", "width")

    def __init__(self, op, args, param, width, kind, by_row, number):
        self.op: str = op
        self.args: tuple[Value, ...] = args
        self.param: Any = param
        self.width: int = width
        self.kind: str = kind
        self.by_row: bool = by_row
        self.number: int = number

    def __repr__(self) -> str:
        args = ", ".join(f"%{a.number}" for a in self.args)
        return f"%{self.number}:{self.kind}[{self.width}] = {self.op} {self.param} {args}"


def stripped(value: Value) -> tuple[Value, int]:
    """What a slice is a slice of, and where it begins there."""
    return (value.args[0], value.param) if value.op == "slice" else (value, 0)


def piece_at(value: Value, start: int) -> tuple[Value, int]:
    """The piece of a `concat` that holds feature `start`, and where in it."""
    begin = 0
    for piece, taken in zip(value.args, value.param, strict=True):
        if start < begin + taken:
            return piece, start - begin if piece.width > 1 else 0
        begin += taken
    raise IndexError(start)


class Graph:
    """Makes values; `values` lists them, operands before what uses them."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._known: dict[Any, Value] = {}

    def _make(self, op, args, param, width, kind, by_row=None) -> Value:
        key = (op, tuple(a.number for a in args), param, type(param), width, kind)
        if key not in self._known:
            if by_row is None:
                by_row = any(a.by_row for a in args)
            value = Value(op, tuple(args), param, width, kind, by_row, len(self.values))
            self._known[key] = value
            self.values.append(value)
        return self._known[key]

    def leaf(self, source: Source, width: int, kind: str) -> Value:
        return self._make("leaf", (), source, width, kind, source.by_row)

    def number(self, number, kind: str) -> Value:
        return self._make("number", (), _told_apart(number, kind), 1, kind)

    def numbers(self, numbers: Sequence[Any], kind: str) -> Value:
        """Numbers side by side; one alone where all are the same."""
        return self._numbers([_told_apart(number, kind) for number in numbers], kind)

    def map(self, name: str, args: Sequence[Value], kind: str, extra: Any = None) -> Value:
        if name == "add" and (spread := self._added_to_products(args)) is not None:
            return spread
        return self._make("map", args, (name, extra), max((a.width for a in args), default=1), kind)

    def slice(self, value: Value, offset: int, width: int) -> Value:
        if value.width == 1 or (offset == 0 and width == value.width):
            return value
        if value.op == "slice":
            return self.slice(value.args[0], value.param + offset, width)
        if value.op == "concat":
            return self._slice_of_concat(value, offset, width)
        if value.op == "numbers":
            return self._numbers(value.param[offset : offset + width], value.kind)
        return self._make("slice", (value,), offset, width, value.kind)

    def concat(self, pieces: Sequence[tuple[Value, int]]) -> Value:
        """Pieces side by side, each with the width it takes."""
        flat: list[tuple[Value, int]] = []
        for value, width in pieces:
            parts = zip(value.args, value.param, strict=True) if value.op == "concat" else ()
            for piece in parts or ((value, width),):
                if not flat or not self._grown(flat, *piece):
                    flat.append(piece)
        if len(flat) == 1:
            value, width = flat[0]
            if value.width == width:
                return value
        values = tuple(v for v, _ in flat)
        widths = tuple(w for _, w in flat)
        return self._make("concat", values, widths, sum(widths), values[0].kind)

    def reduce(self, how: str, value: Value) -> Value:
        return self._make("reduce", (value,), how, 1, value.kind)

    def dot(self, value: Value, weight: Weight) -> Value:
        return self._make("dot", (value,), weight, weight.outputs, value.kind)

    def look_up(self, index: Value, table: Table, width: int, kind: str) -> Value:
        return self._make("look_up", (index,), table, width, kind)

    def pick(self, whole: Value, places: Value) -> Value:
        """The features of `whole` at `places`, which are from 0 to its width - 1."""
        if whole.width == 1:
            return whole
        check_counts(places, whole.width)
        if places.op == "number":
            return self.slice(whole, places.param, 1)
        if places.op == "numbers":
            first = places.param[0]
            if places.param == tuple(range(first, first + places.width)):
                return self.slice(whole, first, places.width)
            if whole.op == "numbers":
                return self._numbers([whole.param[k] for k in places.param], whole.kind)
            if whole.op == "pick" and whole.args[1].op == "numbers":
                return self.pick(whole.args[0], self.pick(whole.args[1], places))
        return self._make("pick", (whole, places), None, places.width, whole.kind)

    def scatter(
        self, onto: Value, features: Value, places: Value, how: str, width: int, count: int
    ) -> Value:
        """`width` features of `onto`, and in turn each of the `count` others combined with the one
        at its place; what has the place `width` is left out."""
        check_counts(places, width)
        args = (onto, features, places)
        return self._make("scatter", args, (how, count), width, onto.kind)

    def _numbers(self, params: Sequence[Any], kind: str) -> Value:
        if len(set(params)) == 1:
            return self._make("number", (), params[0], 1, kind)
        return self._make("numbers", (), tuple(params), len(params), kind)

    def _grown(self, flat: list[tuple[Value, int]], value: Value, width: int) -> bool:
        """Whether `value` continues the last piece, which then is made longer."""
        last, taken = flat[-1]
        if last is value and value.width == 1:
            flat[-1] = (last, taken + width)
            return True
        whole, start = stripped(last)
        follows = value.op == "slice" and value.args[0] is whole and value.param == start + taken
        if follows and taken == last.width and width == value.width:
            flat[-1] = (self.slice(whole, start, taken + width), taken + width)
            return True
        return False

    def _slice_of_concat(self, value: Value, offset: int, width: int) -> Value:
        pieces, start = [], 0
        for piece, taken in zip(value.args, value.param, strict=True):
            low, high = max(start, offset), min(start + taken, offset + width)
            if low < high:
                pieces.append((self.slice(piece, low - start, high - low), high - low))
            start += taken
        if len(pieces) == 1 and pieces[0][0].width == 1:
            return pieces[0][0]
        return self.concat(pieces)

    def _added_to_products(self, args: Sequence[Value]) -> Value | None:
        """An addend of products that stand side by side is added to each: it starts their sums."""
        for side, other in (args, args[::-1]):
            if side.op == "concat" and all(_is_product(piece) for piece in side.args):
                pieces, start = [], 0
                for piece, width in zip(side.args, side.param, strict=True):
                    addend = self.slice(other, start, width)
                    pieces.append((self.map("add", (piece, addend), piece.kind), width))
                    start += width
                return self.concat(pieces)
        return None


def check_counts(places: Value, size: int) -> None:
    """Raise Unsupported where `places` cannot name every one of `size` features."""
    if size > _COUNTS_TO[places.kind]:
        raise Unsupported(f"it picks from {size} numbers, which is more than its indices count")


def _told_apart(number: Any, kind: str) -> str | int:
    """A float by its bits: -0.0 is not 0.0, and NaN is NaN."""
    return float(number).hex() if kind[0] == "f" else int(number)


def number_of(param: str | int, kind: str) -> float | int:
    """The number that a `param` of `number` or `numbers` stands for."""
    return float.fromhex(str(param)) if kind[0] == "f" else int(param)


def _is_product(value: Value) -> bool:
    if value.op == "map" and value.param[0] == "add":
        return any(_is_product(a) for a in value.args)
    return value.op == "dot"
