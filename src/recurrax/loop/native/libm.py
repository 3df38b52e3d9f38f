"""Rare functions, by the C library: exact, and one number at a time."""

import llvmlite.ir as ir

from recurrax.loop.native.emit import Builder, Register, declared, element, f32, i32

_NAMES = {"rem": "fmod"}
FUNCTIONS = (
    *("rem", "atan", "atan2", "asin", "acos", "asinh", "acosh", "atanh", "lgamma", "nextafter"),
)


def call(name: str, b: Builder, *args: Register) -> Register:
    """The function `name` of each lane."""
    type_ = args[0].type
    number = element(type_)
    symbol = _NAMES.get(name, name) + ("f" if number == f32 else "")
    callee = declared(b.module, symbol, number, [number] * len(args))
    if not isinstance(type_, ir.VectorType):
        return b.call(callee, args)
    result: Register = ir.Constant(type_, ir.Undefined)
    for lane in range(type_.count):
        numbers = [b.extract_element(a, i32(lane)) for a in args]
        result = b.insert_element(result, b.call(callee, numbers), i32(lane))
    return result
