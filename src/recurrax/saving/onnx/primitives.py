"""For each primitive of JAX, the ONNX nodes that compute it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from recurrax.saving.onnx.graph import Graph, same_shape

# A rule: (graph, equation, names of the inputs) -> names of the outputs.
Rule = Callable[[Graph, Any, list[str]], list[str]]
RULES: dict[str, Rule] = {}

_SAME = {
    **{n: n.capitalize() for n in ("add", "sub", "mul", "div", "max", "min", "pow", "exp", "log")},
    **{n: n.capitalize() for n in ("tanh", "abs", "neg", "sign", "floor", "ceil", "sqrt", "erf")},
    **{n: n.capitalize() for n in ("sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan")},
    **{n: n.capitalize() for n in ("and", "or", "xor", "not")},
    "logistic": "Sigmoid",
    "eq": "Equal",
    "gt": "Greater",
    "lt": "Less",
    "round": "Round",
    "ge": "GreaterOrEqual",
    "le": "LessOrEqual",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "stop_gradient": "Identity",
    "copy": "Identity",
    "optimization_barrier": "Identity",
    "reduce_precision": "Identity",
}


def _elementwise(op: str) -> Rule:
    return lambda graph, equation, names: [graph.add(op, names)]


RULES.update((name, _elementwise(op)) for name, op in _SAME.items())


def rule(*primitives: str) -> Callable[[Rule], Rule]:
    """Enter a rule for these primitives."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(primitives, function))
        return function

    return enter


def _one(equation: Any, value: float) -> np.ndarray:
    return np.asarray(value, equation.invars[0].aval.dtype)


@rule("ne")
def _ne(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Not", [graph.add("Equal", names)])]


@rule("square")
def _square(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Mul", [names[0], names[0]])]


@rule("rsqrt")
def _rsqrt(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Reciprocal", [graph.add("Sqrt", names)])]


@rule("integer_pow")
def _integer_pow(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Pow", [names[0], graph.constant(_one(equation, equation.params["y"]))])]


@rule("log1p")
def _log1p(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Log", [graph.add("Add", [names[0], graph.constant(_one(equation, 1))])])]


@rule("expm1")
def _expm1(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Sub", [graph.add("Exp", names), graph.constant(_one(equation, 1))])]


@rule("erfc")
def _erfc(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Sub", [graph.constant(_one(equation, 1)), graph.add("Erf", names)])]


@rule("exp2")
def _exp2(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Pow", [graph.constant(_one(equation, 2)), names[0]])]


@rule("is_finite")
def _is_finite(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    bad = graph.add("Or", [graph.add("IsNaN", names), graph.add("IsInf", names)])
    return [graph.add("Not", [bad])]


@rule("rem")
def _rem(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Mod", names, fmod=1)]


@rule("clamp")
def _clamp(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    low, x, high = names
    return [graph.add("Max", [graph.add("Min", [x, high]), low])]


@rule("select_n")
def _select_n(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    which, *cases = names
    if len(cases) != 2 or equation.invars[0].aval.dtype != bool:
        raise NotImplementedError("select_n of more than two cases")
    if equation.outvars[0].aval.dtype == bool:  # for which onnxruntime has no Where
        other = graph.add("And", [graph.add("Not", [which]), cases[0]])
        return [graph.add("Or", [graph.add("And", [which, cases[1]]), other])]
    return [graph.add("Where", [which, cases[1], cases[0]])]


@rule("convert_element_type")
def _convert(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.cast(names[0], equation.params["new_dtype"])]


@rule("broadcast_in_dim")
def _broadcast_in_dim(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    shape, places = equation.outvars[0].aval.shape, equation.params["broadcast_dimensions"]
    x, old = names[0], equation.invars[0].aval.shape
    new_axes = [axis for axis in range(len(shape)) if axis not in places]
    if new_axes:
        x = graph.add("Unsqueeze", [x, graph.axes(new_axes)])
    padded: list[Any] = [1] * len(shape)
    for place, size in zip(places, old, strict=True):
        padded[place] = size
    return [x if same_shape(padded, shape) else graph.add("Expand", [x, graph.shape(shape)])]


@rule("reshape")
def _reshape(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Reshape", [names[0], graph.shape(equation.outvars[0].aval.shape)])]


@rule("squeeze")
def _squeeze(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Squeeze", [names[0], graph.axes(equation.params["dimensions"])])]


@rule("transpose")
def _transpose(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Transpose", names, perm=list(equation.params["permutation"]))]


@rule("concatenate")
def _concatenate(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.add("Concat", names, axis=equation.params["dimension"])]


@rule("slice")
def _slice(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    p = equation.params
    rank = len(p["start_indices"])
    starts, ends = graph.shape(p["start_indices"]), graph.shape(p["limit_indices"])
    steps = graph.axes(p["strides"] or [1] * rank)
    return [graph.add("Slice", [names[0], starts, ends, graph.axes(range(rank)), steps])]


@rule("dynamic_slice")
def _dynamic_slice(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    zero = graph.axes([0])
    whole = [graph.add("Unsqueeze", [graph.cast(n, "int64"), zero]) for n in names[1:]]
    starts = graph.add("Concat", whole, axis=0)
    return [part_from(graph, names[0], starts, equation.params["slice_sizes"])]


def part_from(graph: Graph, x: str, starts: str, sizes: Any, axes: Any = None) -> str:
    """The part of `x` of these sizes that begins at `starts`, an int64 vector."""
    axes = range(len(sizes)) if axes is None else axes
    ends = graph.add("Add", [starts, graph.shape(sizes)])
    return graph.add("Slice", [x, starts, ends, graph.axes(axes)])


@rule("split")
def _split(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    sizes = equation.params["sizes"]
    parts = graph.add(
        "Split", [names[0], graph.shape(sizes)], len(sizes), axis=equation.params["axis"]
    )
    return parts if isinstance(parts, list) else [parts]


@rule("rev")
def _rev(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    axes = equation.params["dimensions"]
    return [reverse(graph, names[0], axes)]


def reverse(graph: Graph, x: str, axes: Any) -> str:
    """`x` with the order along some axes turned round."""
    count = len(axes)
    ends = graph.axes([np.iinfo(np.int64).min] * count)
    return graph.add(
        "Slice", [x, graph.axes([-1] * count), ends, graph.axes(axes), graph.axes([-1] * count)]
    )


@rule("pad")
def _pad(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    config = equation.params["padding_config"]
    if any(low < 0 or high < 0 or inner for low, high, inner in config):
        raise NotImplementedError("pad by a negative or an inner amount")
    amounts = graph.shape([c[0] for c in config] + [c[1] for c in config])
    return [graph.add("Pad", [names[0], amounts, names[1]])]


@rule("iota")
def _iota(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    shape, axis = equation.outvars[0].aval.shape, equation.params["dimension"]
    zero, one = graph.constant(np.int64(0)), graph.constant(np.int64(1))
    x = graph.cast(
        graph.add("Range", [zero, graph.size(shape[axis]), one]), equation.params["dtype"]
    )
    others = [a for a in range(len(shape)) if a != axis]
    if not others:
        return [x]
    x = graph.add("Unsqueeze", [x, graph.axes(others)])
    return [graph.add("Expand", [x, graph.shape(shape)])]


@rule("dim_as_value")
def _dim_as_value(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    return [graph.cast(graph.size(equation.params["dim"]), equation.outvars[0].aval.dtype)]


def _reduction(op: str) -> Rule:
    def reduce(graph: Graph, equation: Any, names: list[str]) -> list[str]:
        axes = graph.axes(equation.params["axes"])
        return [graph.add(op, [names[0], axes], keepdims=0)]

    return reduce


for _name, _op in {"sum": "Sum", "max": "Max", "min": "Min", "prod": "Prod"}.items():
    RULES[f"reduce_{_name}"] = _reduction(f"Reduce{_op}")


@rule("reduce_and", "reduce_or")
def _reduce_bool(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    op = "ReduceMin" if equation.primitive.name == "reduce_and" else "ReduceMax"
    numbers = graph.cast(names[0], "int32")
    found = graph.add(op, [numbers, graph.axes(equation.params["axes"])], keepdims=0)
    return [graph.cast(found, "bool")]


@rule("argmax", "argmin")
def _argmax(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    op = "ArgMax" if equation.primitive.name == "argmax" else "ArgMin"
    (axis,) = equation.params["axes"]
    found = graph.add(op, names, axis=axis, keepdims=0)
    return [graph.cast(found, equation.params["index_dtype"])]


@rule("cumsum")
def _cumsum(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    axis = graph.constant(np.int64(equation.params["axis"]))
    return [graph.add("CumSum", [names[0], axis], reverse=int(equation.params["reverse"]))]


@rule("cummax", "cummin")
def _cummax(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    """A loop along the axis, since ONNX has a node for sums alone."""
    p, aval = equation.params, equation.invars[0].aval
    axis, direction = p["axis"], int(p["reverse"])
    ends = (-1, np.iinfo(np.int64).max) if direction else (0, 1)
    first = graph.add("Slice", [names[0], *(graph.axes([end]) for end in (*ends, axis))])
    first = graph.add("Squeeze", [first, graph.axes([axis])])
    body, helper = Graph(graph.onnx, graph), graph.onnx.helper
    state, x = graph.name("in"), graph.name("in")
    op = "Max" if equation.primitive.name == "cummax" else "Min"
    new = body.add(op, [state, x])
    results = [body.add("Identity", [new]) for _ in range(2)]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(aval.dtype))
    sizes = [d if isinstance(d, int) else None for i, d in enumerate(aval.shape) if i != axis]
    infos = [helper.make_tensor_value_info(name, kind, sizes) for name in (state, x, *results)]
    made = helper.make_graph(body.nodes, graph.name("body"), infos[:2], infos[2:])
    found = graph.add(
        "Scan",
        [first, names[0]],
        2,
        body=made,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[axis],
        scan_input_directions=[direction],
        scan_output_directions=[direction],
    )
    return [found[1]]
