"""Small words of LLVM IR: numbers, addresses, loops, vectors. Everything here takes a builder."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir

from recurrax.loop.native.target import Target

# llvmlite has no types that a checker could use: these names only say what is meant.
Builder = Any
Register = Any
Type = Any

i1, i8, i16, i32, i64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
f32, f64 = ir.FloatType(), ir.DoubleType()
void = ir.VoidType()
pointer = ir.PointerType()


class Module(ir.Module):
    """A module that knows the processor it is for, and whether values must be the same to the last
    bit wherever they are computed again."""

    def __init__(self, name: str, target: Target, repeatable: bool = False):
        super().__init__(name)
        self.target = target
        self.repeatable = repeatable


Body = Callable[[Register, list[Register]], Sequence[Register] | None]


def integer(n: int) -> ir.Constant:
    return ir.Constant(i64, int(n))


def constant(type_: Type, number: float | int | bool) -> ir.Constant:
    """`number`, in every lane when `type_` is a vector."""
    if isinstance(type_, ir.VectorType):
        return _same(type_.element, type_.count, repr(number), number)
    return ir.Constant(type_, number)


@functools.lru_cache(maxsize=1024)
def _same(element_type: Type, lanes: int, told_apart: str, number) -> ir.Constant:
    """A vector of one number. Made once: llvmlite takes long to write one, and keeps what it wrote.

    Numbers are told apart by how they are written: 0.0 equals -0.0.
    """
    del told_apart
    return ir.Constant(ir.VectorType(element_type, lanes), [number] * lanes)


def zero(type_: Type) -> ir.Constant:
    return constant(type_, 0.0 if element(type_) in (f32, f64) else 0)


def element(type_: Type) -> Type:
    return type_.element if isinstance(type_, ir.VectorType) else type_


def like(type_: Type, element_type: Type) -> Type:
    """`element_type` in as many lanes as `type_` has."""
    if isinstance(type_, ir.VectorType):
        return ir.VectorType(element_type, type_.count)
    return element_type


def function(
    module: ir.Module, name: str, result: Type, arguments: Sequence[Type]
) -> tuple[ir.Function, Builder]:
    """A new function private to the module, and a builder at its first block."""
    made = ir.Function(module, ir.FunctionType(result, arguments), name)
    made.linkage = "internal"
    made.attributes.add("noinline")
    made.attributes.add("nounwind")
    return made, ir.IRBuilder(made.append_basic_block("entry"))


def declared(module: ir.Module, name: str, result: Type, arguments: Sequence[Type]) -> ir.Function:
    """The function `name` from outside the module (an intrinsic, or the C library's)."""
    known = module.globals.get(name)
    return known or ir.Function(module, ir.FunctionType(result, arguments), name)


def intrinsic(b: Builder, name: str, *args: Register, flags: Sequence[str] = ()) -> Register:
    """Call the LLVM intrinsic `name` of one overloaded type, that of the first argument."""
    type_ = args[0].type
    callee = declared(b.module, f"llvm.{name}.{suffix(type_)}", type_, [a.type for a in args])
    return b.call(callee, args, fastmath=flags)


def suffix(type_: Type) -> str:
    """What an intrinsic's name tells of a type."""
    name = {f32: "f32", f64: "f64", i32: "i32", i64: "i64"}[element(type_)]
    return f"v{type_.count}{name}" if isinstance(type_, ir.VectorType) else name


def at(b: Builder, base: Register, element_type: Type, *offsets) -> Register:
    """The address of an element, `base` seen as an array of `element_type`."""
    known = sum(offset for offset in offsets if isinstance(offset, int))
    for offset in (*(offset for offset in offsets if not isinstance(offset, int)), known):
        if offset != 0:
            index = integer(offset) if isinstance(offset, int) else offset
            base = b.gep(base, [index], source_etype=element_type)
    return base


def as_offset(b: Builder, place: Register) -> Register:
    """A whole number as one that addresses are computed with."""
    return b.sext(place, i64) if place.type.width < 64 else place


def load_field(b: Builder, base: Register, offset: int, type_: Type) -> Register:
    """Read a field of a C structure, by its offset in bytes."""
    return b.load(at(b, base, i8, offset), typ=type_)


def load_pointer(b: Builder, table: Register, k: int) -> Register:
    """Entry `k` of a table of addresses."""
    return load_field(b, table, 8 * k, pointer)


def store_field(b: Builder, base: Register, offset: int, value: Register) -> None:
    b.store(value, at(b, base, i8, offset))


def store_release(b: Builder, value: Register, address: Register) -> None:
    """Store a number for another thread, which then also sees all that was written before."""
    # llvmlite's own `store_atomic` wants pointers that tell their type, which it no longer has.
    plain, size = b.store(value, address), value.type.width // 8
    atomic = ir.instructions.StoreAtomicInstr(b.block, value, address, "release", size)
    b.block.replace(plain, atomic)


def loop(
    b: Builder,
    start: int | Register,
    stop: int | Register,
    step: int,
    carried: Sequence[Register],
    body: Body,
) -> list[Register]:
    """`for i in range(start, stop, step): carried = body(i, carried)`; at least one turn is run.

    A loop of known length zero is left out; one of known length one is laid out straight.
    """
    if isinstance(start, int) and isinstance(stop, int):
        if start >= stop:
            return list(carried)
        if start + step >= stop:
            return list(body(integer(start), list(carried)) or [])
    before = b.block
    head = b.function.append_basic_block("loop")
    done = b.function.append_basic_block("done")
    b.branch(head)
    b.position_at_end(head)
    index = b.phi(i64)
    index.add_incoming(integer(start) if isinstance(start, int) else start, before)
    phis = [b.phi(value.type) for value in carried]
    for phi, value in zip(phis, carried, strict=True):
        phi.add_incoming(value, before)
    results = list(body(index, list(phis)) or [])
    following = b.add(index, integer(step))
    index.add_incoming(following, b.block)
    for phi, value in zip(phis, results, strict=True):
        phi.add_incoming(value, b.block)
    last = integer(stop) if isinstance(stop, int) else stop
    b.cbranch(b.icmp_signed("<", following, last), head, done)
    b.position_at_end(done)
    return results


def prefetch(b: Builder, address: Register, *, to_write: bool) -> None:
    """Ask for the cache line at `address`, which may lie anywhere, even outside any memory."""
    callee = declared(b.module, "llvm.prefetch.p0", void, [pointer, i32, i32, i32])
    b.call(callee, [address, i32(int(to_write)), i32(2), i32(1)])


def splat(b: Builder, scalar: Register, lanes: int) -> Register:
    """`scalar` in every lane (itself when `lanes` is 0)."""
    if not lanes:
        return scalar
    if isinstance(scalar, ir.Constant):
        return constant(ir.VectorType(scalar.type, lanes), scalar.constant)
    empty = _same(scalar.type, lanes, "undef", ir.Undefined)
    one = b.insert_element(empty, scalar, i32(0))
    return b.shuffle_vector(one, empty, _same(i32, lanes, "0", 0))


def across(b: Builder, vector: Register, combine: Callable) -> Register:
    """All lanes of `vector` combined into a scalar, pairwise."""
    lanes = vector.type.count
    while lanes > 1:
        half = lanes // 2
        low, high = (
            b.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(i32, half), list(range(s, s + half)))
            )
            for s in (0, half)
        )
        vector, lanes = combine(low, high), half
    return b.extract_element(vector, i32(0))


def joined(b: Builder, vectors: Sequence[Register]) -> Register:
    """The lanes of a power of two of vectors, one vector behind the other."""
    while len(vectors) > 1:
        lanes = range(2 * vectors[0].type.count)
        mask = ir.Constant(ir.VectorType(i32, len(lanes)), list(lanes))
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.shuffle_vector(first, second, mask) for first, second in pairs]
    return vectors[0]


def transposed(b: Builder, rows: Sequence[Register]) -> list[Register]:
    """As many vectors as each has lanes: lane i of vector j becomes lane j of vector i.

    Each round shuffles vectors of the first half with those of the second, like cards.
    """
    count = len(rows)
    half = count // 2
    picks = [
        [start + k // 2 + (count if k % 2 else 0) for k in range(count)] for start in (0, half)
    ]
    low, high = (ir.Constant(ir.VectorType(i32, count), pick) for pick in picks)
    found = list(rows)
    for _ in range(count.bit_length() - 1):
        pairs = [(found[i], found[i + half]) for i in range(half)]
        found = [b.shuffle_vector(x, y, mask) for x, y in pairs for mask in (low, high)]
    return found


def totals(b: Builder, vectors: Sequence[Register]) -> Register:
    """Of as many vectors as each has lanes, the sum of each: lane i is that of vector i.

    Each round adds neighbours, of two vectors side by side.
    """
    count = len(vectors)
    even, odd = (
        ir.Constant(ir.VectorType(i32, count), list(range(start, 2 * count, 2))) for start in (0, 1)
    )
    found = list(vectors)
    while len(found) > 1:
        pairs = zip(found[::2], found[1::2], strict=True)
        found = [
            b.fadd(b.shuffle_vector(x, y, even), b.shuffle_vector(x, y, odd)) for x, y in pairs
        ]
    return found[0]
