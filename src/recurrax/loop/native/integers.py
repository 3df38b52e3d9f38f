"""Whole numbers of every size as values of the graph, which holds 32 or 64 bits of them.

Smaller ones stand there as their own value, and wrap after what may leave their range. A uint32
stands there by its bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurrax.loop.native.graph import Graph, Value
from recurrax.loop.native.unsupported import Unsupported

ARITHMETIC = {
    *("add", "sub", "mul", "max", "min", "neg", "abs", "sign", "square", "integer_pow", "div"),
    *("rem", "and", "or", "xor", "not", "population_count", "clz"),
    *("shift_left", "shift_right_logical", "shift_right_arithmetic"),
}
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
_SMALL = {"int8": (8, True), "uint8": (8, False), "int16": (16, True), "uint16": (16, False)}
_STAYS = {"max", "min", "sign", "rem", "and", "or", "xor", "shift_right_arithmetic"}
_OF_BITS = {"population_count", "clz", "shift_right_logical"}
_BY_SIGN = {"max", "min", "div", "rem", "lt", "le", "gt", "ge"}
_RANGE = {
    name: (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    for name, (bits, signed) in _SMALL.items()
}


def is_whole(dtype: str) -> bool:
    return dtype.startswith(("int", "uint"))


def named(name: str, dtype: str) -> str:
    """The operation `name` on numbers of `dtype`."""
    return f"u{name}" if dtype == "uint32" and name in _BY_SIGN else name


def held(number: Any, dtype: str) -> Any:
    """A number of `dtype` as it stands in the graph."""
    return int(np.uint32(number).view(np.int32)) if dtype == "uint32" else number


def elementwise(
    graph: Graph, name: str, args: Sequence[Value], dtype: str, kind: str, power: int | None
) -> Value:
    """One of `ARITHMETIC` or `COMPARISONS` on whole numbers of `dtype`."""
    unsigned = dtype.startswith("u")
    if unsigned and name == "abs":
        return args[0]
    if unsigned and name == "sign":
        return graph.map(named("min", dtype), (args[0], graph.number(1, kind)), kind)
    if unsigned and name == "shift_right_arithmetic":
        raise Unsupported(f"no native form for dtype {dtype}")
    args = list(args)
    bits, signed = _SMALL.get(dtype, (0, False))
    if bits and name in _OF_BITS:
        args[0] = graph.map("wrapped", args[:1], kind, (bits, False))
    result = graph.map(named(name, dtype), args, kind, power)
    if bits and name == "clz":
        return graph.map("sub", (result, graph.number(32 - bits, kind)), kind)
    if bits and name not in _STAYS | COMPARISONS:
        return graph.map("wrapped", (result,), kind, (bits, signed))
    return result


def converted(graph: Graph, value: Value, source: str, target: str, kind: str) -> Value:
    """`value` of dtype `source` as one of dtype `target`, where either is a whole number."""
    if not is_whole(target):
        if source == "uint32" and kind in ("f32", "f64"):
            return graph.map("of_unsigned", (value,), kind, (kind,))
        return graph.map("convert", (value,), kind)
    if value.kind in ("f32", "f64"):
        if target == "uint32":
            return graph.map("to_unsigned", (value,), kind)
        value = graph.map("convert", (value,), kind)
        for name, limit in zip(("max", "min"), _RANGE.get(target, ()), strict=False):
            value = graph.map(name, (value, graph.number(limit, kind)), kind)
        return value
    if value.kind != kind:
        value = graph.map("convert", (value,), kind)
    if source == "uint32" and kind == "i64":
        return graph.map("wrapped", (value,), kind, (32, False))
    if target in _SMALL and source not in (target, "bool"):
        return graph.map("wrapped", (value,), kind, _SMALL[target])
    return value
