"""Whole numbers: division, shifts, bits, unsigned ones; as XLA has it where LLVM leaves it open."""

import functools
from collections.abc import Callable

from recurrax.loop.native.emit import (
    Builder,
    Register,
    Type,
    constant,
    declared,
    element,
    i1,
    i32,
    intrinsic,
    like,
    suffix,
    zero,
)
from recurrax.loop.native.memory import TYPES


def divided(b: Builder, name: str, x: Register, y: Register) -> Register:
    """Signed; by 0 as XLA has it (-1, and x for the rest), where processors trap."""
    one, minus_one = constant(y.type, 1), constant(y.type, -1)
    by_zero = b.icmp_signed("==", y, zero(y.type))
    by_minus_one = b.icmp_signed("==", y, minus_one)
    safe = b.select(b.or_(by_zero, by_minus_one), one, y)
    if name == "rem":
        rest = b.select(by_minus_one, zero(x.type), b.srem(x, safe))
        return b.select(by_zero, x, rest)
    quotient = b.select(by_minus_one, b.neg(x), b.sdiv(x, safe))
    return b.select(by_zero, minus_one, quotient)


def _unsigned_divided(b: Builder, x: Register, y: Register) -> Register:
    by_zero = b.icmp_unsigned("==", y, zero(y.type))
    quotient = b.udiv(x, b.select(by_zero, constant(y.type, 1), y))
    return b.select(by_zero, constant(y.type, -1), quotient)


def _unsigned_rest(b: Builder, x: Register, y: Register) -> Register:
    by_zero = b.icmp_unsigned("==", y, zero(y.type))
    return b.select(by_zero, x, b.urem(x, b.select(by_zero, constant(y.type, 1), y)))


def _unsigned_extreme(b: Builder, x: Register, y: Register, order: str) -> Register:
    return b.select(b.icmp_unsigned(order, x, y), x, y)


def _shifted(b: Builder, x: Register, by: Register, name: str) -> Register:
    """By as many bits as there are, or more (or less than none), nothing is left but the sign."""
    last = constant(by.type, element(x.type).width - 1)
    inside = b.icmp_unsigned("<=", by, last)
    result = getattr(b, name)(x, b.select(inside, by, last))
    return result if name == "ashr" else b.select(inside, result, zero(x.type))


def _wrapped(b: Builder, x: Register, bits: int, signed: bool) -> Register:
    """The lowest bits of `x`, as a number of their own."""
    lost = constant(x.type, element(x.type).width - bits)
    high = b.shl(x, lost)
    return b.ashr(high, lost) if signed else b.lshr(high, lost)


def of_floats(b: Builder, x: Register, type_: Type, signed: bool = True) -> Register:
    """Towards zero; what is too large becomes the largest, NaN becomes 0."""
    name = f"llvm.fpto{'s' if signed else 'u'}i.sat.{suffix(type_)}.{suffix(x.type)}"
    return b.call(declared(b.module, name, type_, [x.type]), [x])


def _of_unsigned(b: Builder, x: Register, kind: str) -> Register:
    """uint32 as the nearest float."""
    return b.uitofp(x, like(x.type, TYPES[kind]))


def _to_unsigned(b: Builder, x: Register) -> Register:
    """A float as uint32."""
    return of_floats(b, x, like(x.type, i32), signed=False)


def _population_count(b: Builder, x: Register) -> Register:
    return intrinsic(b, "ctpop", x)


def _leading_zeros(b: Builder, x: Register) -> Register:
    return intrinsic(b, "ctlz", x, i1(False))


# What is signed by another name is an operation of its own here.
OPERATIONS: dict[str, Callable[..., Register]] = {
    "udiv": _unsigned_divided,
    "urem": _unsigned_rest,
    **{
        f"u{name}": functools.partial(_unsigned_extreme, order=order)
        for name, order in (("max", ">"), ("min", "<"))
    },
    **{
        f"u{name}": lambda b, x, y, order=order: b.icmp_unsigned(order, x, y)
        for name, order in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="))
    },
    "shift_left": functools.partial(_shifted, name="shl"),
    "shift_right_logical": functools.partial(_shifted, name="lshr"),
    "shift_right_arithmetic": functools.partial(_shifted, name="ashr"),
    "wrapped": _wrapped,
    "of_unsigned": _of_unsigned,
    "to_unsigned": _to_unsigned,
    "population_count": _population_count,
    "clz": _leading_zeros,
}
