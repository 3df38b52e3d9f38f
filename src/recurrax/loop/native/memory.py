"""Numbers in memory: how each dtype is stored, and what it is while it stands in a register.

A register holds float32, float64, int32, int64 or a truth value; bfloat16 and float16 are widened
to float32 as they are loaded and rounded to nearest even as they are stored, small integers are
widened to int32. The bits of uint32 stand in an int32: operations know that they are unsigned.
"""

import dataclasses

import llvmlite.ir as ir
import numpy as np

from recurrax.loop.native import half
from recurrax.loop.native.emit import (
    Builder,
    Register,
    Type,
    at,
    constant,
    declared,
    element,
    f32,
    f64,
    i1,
    i8,
    i16,
    i32,
    i64,
    like,
    pointer,
    void,
    zero,
)
from recurrax.loop.native.unsupported import Unsupported

LINE = 64  # bytes of a cache line
REGISTER = {
    "float32": "f32",
    "float64": "f64",
    "bfloat16": "f32",
    "float16": "f32",
    "bool": "i1",
    "int8": "i32",
    "uint8": "i32",
    "int16": "i32",
    "uint16": "i32",
    "int32": "i32",
    "uint32": "i32",
    "int64": "i64",
}
TYPES = {"f32": f32, "f64": f64, "i1": i1, "i32": i32, "i64": i64}
SPILLED = {"f32": "float32", "f64": "float64", "i1": "bool", "i32": "int32", "i64": "int64"}
_STORED = {
    "float32": f32,
    "float64": f64,
    "bfloat16": i16,
    "float16": i16,
    "bool": i8,
    "int8": i8,
    "uint8": i8,
    "int16": i16,
    "uint16": i16,
    "int32": i32,
    "uint32": i32,
    "int64": i64,
}


def register_type(dtype) -> str:
    """The kind of register that a number of this dtype is computed in.

    Raises:
        Unsupported: for a dtype that has none (complex, uint64, keys, ...).
    """
    name = np.dtype(dtype).name if not hasattr(dtype, "name") else dtype.name
    if name not in REGISTER:
        raise Unsupported(f"numbers of dtype {name} are not computed natively")
    return REGISTER[name]


def stored_type(dtype: str) -> Type:
    return _STORED[dtype]


def size(dtype: str) -> int:
    """Bytes of one stored number."""
    type_ = _STORED[dtype]
    return {f32: 4, f64: 8}.get(type_) or type_.width // 8


def aligned(size: int, to: int = LINE) -> int:
    """`size` bytes in whole cache lines, or in whole units of `to` bytes."""
    return -(-size // to) * to


@dataclasses.dataclass(frozen=True)
class Lanes:
    """How many numbers one instruction takes: `count` (0: a scalar), of which the first `used`."""

    count: int
    used: int

    @classmethod
    def scalar(cls) -> "Lanes":
        return cls(0, 0)

    def type(self, element_type: Type) -> Type:
        return ir.VectorType(element_type, self.count) if self.count else element_type


def load(b: Builder, base: Register, dtype: str, offsets, lanes: Lanes) -> Register:
    """The numbers that start at `offsets` after `base`, in registers; unused lanes are zero."""
    stored = _STORED[dtype]
    address = at(b, base, stored, *offsets)
    type_ = lanes.type(stored)
    if not lanes.count:
        raw = b.load(address, typ=stored)
    elif lanes.used == lanes.count:
        raw = b.load(address, align=size(dtype), typ=type_)
    else:
        raw = _masked_load(b, address, type_, lanes, size(dtype))
    return _widened(b, raw, dtype)


def load_each(b: Builder, base: Register, dtype: str, offsets, places: list[Register]) -> Register:
    """A number for each of a vector's lanes, at `places` from `offsets` after `base` on."""
    stored = _STORED[dtype]
    start = at(b, base, stored, *offsets)
    raw: Register = ir.Constant(ir.VectorType(stored, len(places)), ir.Undefined)
    for lane, place in enumerate(places):
        number = b.load(at(b, start, stored, place), typ=stored)
        raw = b.insert_element(raw, number, i32(lane))
    return _widened(b, raw, dtype)


def _widened(b: Builder, raw: Register, dtype: str) -> Register:
    """Stored numbers as they stand in registers."""
    type_ = raw.type
    match dtype:
        case "bfloat16":
            wide = b.shl(b.zext(raw, like(type_, i32)), constant(like(type_, i32), 16))
            return b.bitcast(wide, like(type_, f32))
        case "float16":
            return half.widened(b, raw)
        case "bool":
            return b.icmp_unsigned("!=", raw, zero(type_))
        case "int8" | "int16":
            return b.sext(raw, like(type_, i32))
        case "uint8" | "uint16":
            return b.zext(raw, like(type_, i32))
        case _:
            return raw


def store(b: Builder, value: Register, base: Register, dtype: str, offsets, lanes: Lanes) -> None:
    """Write the used lanes of `value` to memory that starts at `offsets` after `base`."""
    stored = _STORED[dtype]
    match dtype:
        case "bfloat16":
            value = _rounded(b, value)
        case "float16":
            value = half.rounded(b, value)
        case "bool":
            value = b.zext(value, like(value.type, i8))
        case "int8" | "uint8" | "int16" | "uint16":
            value = b.trunc(value, like(value.type, stored))
    address = at(b, base, stored, *offsets)
    if not lanes.count:
        b.store(value, address)
    elif lanes.used == lanes.count:
        b.store(value, address, align=size(dtype))
    elif lanes.used == 1:  # LLVM writes four bytes of a number that it has just made smaller
        b.store(b.extract_element(value, i32(0)), address)
    else:
        _masked_store(b, value, address, lanes, size(dtype))


def _rounded(b: Builder, value: Register) -> Register:
    """float32 to the bits of the nearest bfloat16, ties to even, NaN kept NaN."""
    word = like(value.type, i32)
    bits = b.bitcast(value, word)
    odd = b.and_(b.lshr(bits, constant(word, 16)), constant(word, 1))
    near = b.lshr(b.add(bits, b.add(odd, constant(word, 0x7FFF))), constant(word, 16))
    nan = b.or_(b.lshr(bits, constant(word, 16)), constant(word, 0x40))
    kept = b.select(b.fcmp_unordered("uno", value, value), nan, near)
    return b.trunc(kept, like(value.type, i16))


def _mask(lanes: Lanes) -> ir.Constant:
    bits = [int(k < lanes.used) for k in range(lanes.count)]
    return ir.Constant(ir.VectorType(i1, lanes.count), bits)


def _suffix(type_: Type) -> str:
    kind = element(type_)
    name = {f32: "f32", f64: "f64"}.get(kind) or f"i{kind.width}"
    return f"v{type_.count}{name}.p0"


def _masked_load(b, address, type_, lanes: Lanes, align: int) -> Register:
    name = f"llvm.masked.load.{_suffix(type_)}"
    mask = _mask(lanes)
    callee = declared(b.module, name, type_, [pointer, i32, mask.type, type_])
    return b.call(callee, [address, i32(align), mask, zero(type_)])


def _masked_store(b, value, address, lanes: Lanes, align: int) -> None:
    name = f"llvm.masked.store.{_suffix(value.type)}"
    mask = _mask(lanes)
    callee = declared(b.module, name, void, [value.type, pointer, i32, mask.type])
    b.call(callee, [value, address, i32(align), mask])
