"""The elementwise operations of the graph, each as IR."""

import functools
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from recurrax.loop.native import functions, libm, special, whole
from recurrax.loop.native.emit import (
    Builder,
    Register,
    Type,
    constant,
    element,
    f32,
    f64,
    i1,
    intrinsic,
    like,
    zero,
)
from recurrax.loop.native.memory import TYPES

_FUSED = ("contract",)
_FUNCTIONS: dict[str, Callable[..., Register]] = {
    **{
        name: getattr(functions, name)
        for name in ("tanh", "logistic", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt")
    },
    **{
        name: getattr(special, name)
        for name in ("sin", "cos", "tan", "sinh", "cosh", "exp2", "pow", "cbrt", "erf", "erfc")
    },
    **{name: getattr(special, name) for name in ("floor", "ceil")},
    **{name: functools.partial(libm.call, name) for name in libm.FUNCTIONS},
}
_ORDER = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def apply(b: Builder, name: str, extra: Any, args: list[Register], kind: str) -> Register:
    """The operation `name` on registers; `kind` is the kind of the result."""
    floating = element(args[-1].type) in (f32, f64)
    if name in _FUNCTIONS and floating:
        return _FUNCTIONS[name](b, *args)
    if name in whole.OPERATIONS:
        return whole.OPERATIONS[name](b, *args, *(extra or ()))
    if name in _ORDER:
        if not floating:
            return b.icmp_signed(_ORDER[name], *args)
        compare = b.fcmp_unordered if name == "ne" else b.fcmp_ordered
        return compare(_ORDER[name], *args)
    match name:
        case "add":
            return b.fadd(*args, flags=_flags(b)) if floating else b.add(*args)
        case "sub":
            return b.fsub(*args, flags=_flags(b)) if floating else b.sub(*args)
        case "mul":
            return b.fmul(*args, flags=_flags(b)) if floating else b.mul(*args)
        case "div" | "rem":
            return b.fdiv(*args) if floating else whole.divided(b, name, *args)
        case "max" | "min":
            return extreme(b, name, *args)
        case "neg":
            return b.fneg(args[0]) if floating else b.neg(args[0])
        case "abs":
            return _absolute(b, args[0], floating)
        case "sign":
            return _sign(b, args[0], floating)
        case "square":
            return apply(b, "mul", None, [args[0], args[0]], kind)
        case "integer_pow":
            return _power(b, args[0], extra, kind)
        case "select":
            return b.select(*args)
        case "convert":
            return _convert(b, args[0], kind)
        case "bitcast":
            return b.bitcast(args[0], like(args[0].type, TYPES[kind]))
        case "and":
            return b.and_(*args)
        case "or":
            return b.or_(*args)
        case "xor":
            return b.xor(*args)
        case "not":
            return b.not_(args[0])
        case "round":
            return special.rounded(b, args[0], to_even=extra == 1)
        case "is_finite":
            size = functions.absolute(b, args[0])
            return b.fcmp_ordered("<", size, constant(size.type, float("inf")))
        case _:
            raise NotImplementedError(name)


def _flags(b: Builder) -> tuple[str, ...]:
    """LLVM fuses a product and a sum at one place and not at another, as their other uses are."""
    return () if b.module.repeatable else _FUSED


def extreme(b: Builder, name: str, x: Register, y: Register) -> Register:
    """The larger or the smaller; NaN if either is NaN."""
    if element(x.type) in (f32, f64):
        return intrinsic(b, {"max": "maximum", "min": "minimum"}[name], x, y, flags=("nsz",))
    if element(x.type) == i1:
        return b.or_(x, y) if name == "max" else b.and_(x, y)
    return b.select(b.icmp_signed(">" if name == "max" else "<", x, y), x, y)


def combine(b: Builder, how: str, x: Register, y: Register) -> Register:
    """Two parts of a reduction as one."""
    match how:
        case "sum":
            return b.fadd(x, y) if element(x.type) in (f32, f64) else b.add(x, y)
        case "difference":
            return b.fsub(x, y) if element(x.type) in (f32, f64) else b.sub(x, y)
        case "prod":
            return b.fmul(x, y) if element(x.type) in (f32, f64) else b.mul(x, y)
        case "and":
            return b.and_(x, y)
        case "or":
            return b.or_(x, y)
        case "umax" | "umin":
            return whole.OPERATIONS[how](b, x, y)
        case _:
            return extreme(b, how, x, y)


def neutral(how: str, type_: Type) -> ir.Constant:
    """What a reduction starts from."""
    if element(type_) == i1:
        return constant(type_, int(how in ("and", "min")))
    if element(type_) not in (f32, f64):
        largest = 2 ** (element(type_).width - 1) - 1
        start = {"sum": 0, "prod": 1, "max": -largest - 1, "min": largest, "umax": 0, "umin": -1}
        start |= {"and": -1, "or": 0}
        return constant(type_, start[how])
    number = {"sum": 0.0, "prod": 1.0, "max": float("-inf"), "min": float("inf")}[how]
    return constant(type_, number)


def _absolute(b: Builder, x: Register, floating: bool) -> Register:
    if floating:
        return functions.absolute(b, x)
    return b.select(b.icmp_signed("<", x, zero(x.type)), b.neg(x), x)


def _sign(b: Builder, x: Register, floating: bool) -> Register:
    one = constant(x.type, 1.0 if floating else 1)
    if floating:
        unit = functions.copysign(b, one, x)
        ordinary = b.fcmp_ordered("!=", x, zero(x.type))
        return b.select(ordinary, unit, x)
    below = b.icmp_signed("<", x, zero(x.type))
    unit = b.select(below, b.neg(one), one)
    return b.select(b.icmp_signed("==", x, zero(x.type)), x, unit)


def _power(b: Builder, x: Register, n: int, kind: str) -> Register:
    """xⁿ by squaring."""
    result, base, left = None, x, abs(n)
    while left:
        if left & 1:
            result = base if result is None else apply(b, "mul", None, [result, base], kind)
        left >>= 1
        if left:
            base = apply(b, "mul", None, [base, base], kind)
    if result is None:
        return constant(x.type, 1.0 if kind[0] == "f" else 1)
    return result if n > 0 else b.fdiv(constant(x.type, 1.0), result)


def _convert(b: Builder, x: Register, kind: str) -> Register:
    source, target = element(x.type), TYPES[kind]
    type_ = like(x.type, target)
    if source == target:
        return x
    if target in (f32, f64):
        if source == i1:
            return b.select(x, constant(type_, 1.0), constant(type_, 0.0))
        if source in (f32, f64):
            return b.fpext(x, type_) if target == f64 else b.fptrunc(x, type_)
        return b.sitofp(x, type_)
    if target == i1:
        if source in (f32, f64):
            return b.fcmp_unordered("!=", x, zero(x.type))
        return b.icmp_signed("!=", x, zero(x.type))
    if source in (f32, f64):
        return whole.of_floats(b, x, type_)
    if source == i1:
        return b.zext(x, type_)
    return b.sext(x, type_) if source.width < target.width else b.trunc(x, type_)
