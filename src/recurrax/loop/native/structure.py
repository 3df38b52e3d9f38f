"""Equations that move features about without computing: views, joins, pads and reductions."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from recurrax.loop.native import integers
from recurrax.loop.native.axes import Rows
from recurrax.loop.native.graph import MAX_PIECES, Graph, Value
from recurrax.loop.native.inline import Atom, Equation
from recurrax.loop.native.memory import register_type
from recurrax.loop.native.tensor import Fixed, Tensor, are_strewn, as_value, from_view
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.native.views import View


def through(graph: Graph, tensor: Tensor, view: View) -> Tensor:
    """The features of `tensor` that `view` (of its row-major block) names."""
    return Tensor(view.shape, value=from_view(graph, as_value(graph, tensor), view))


def viewed(graph: Graph, rows: Rows, eqn: Equation, tensor: Tensor) -> Tensor:
    """Slices, broadcasts, transposes, squeezes, reshapes and reversals."""
    shape = rows.feature_shape(eqn.outputs[0])
    if tensor.fixed is not None:
        view = _moved(rows, eqn, tensor.fixed.view, shape)
        if view is not None:
            fixed = Fixed(tensor.fixed.source, tensor.fixed.size, view)
            return Tensor(shape, fixed=fixed, kind=tensor.kind)
    value = as_value(graph, tensor)
    view = _moved(rows, eqn, View.whole(tensor.shape), shape)
    assert view is not None
    return Tensor(shape, value=from_view(graph, value, view))


def _moved(rows: Rows, eqn: Equation, view: View, shape: tuple[int, ...]) -> View | None:
    before, after = rows.features(eqn.inputs[0]), rows.features(eqn.outputs[0])
    params = eqn.params
    match eqn.primitive:
        case "slice":
            steps = params["strides"] or [1] * len(eqn.inputs[0].shape)
            picked = [
                [int(p[k]) for k in before]  # they may be numpy's
                for p in (params["start_indices"], params["limit_indices"], steps)
            ]
            return view.sliced(*picked)
        case "broadcast_in_dim":
            into = [params["broadcast_dimensions"][k] for k in before]
            return _spread(view, into, after, shape)
        case "transpose":
            return view.permuted([before.index(params["permutation"][k]) for k in after])
        case "rev":
            return view.reversed([before.index(k) for k in params["dimensions"]])
        case _:
            return view.reshaped(shape)


def _spread(view: View, into: Sequence[int], after: Sequence[int], shape) -> View:
    """Axis `k` of the view goes to axis `into[k]` of the result; `after` are its feature axes.

    An axis of size one that goes to a row axis is the same for every row, and falls away.
    """
    held = [k for k, axis in enumerate(into) if axis in after]
    return view.permuted(held).broadcast(shape, [after.index(into[k]) for k in held])


def repeated(graph: Graph, rows: Rows, atom: Atom, tensor: Tensor, out: Atom) -> Value:
    """An elementwise operand, its axes of size one repeated to the shape of the result."""
    after = rows.features(out)
    shape = rows.feature_shape(out)
    if not atom.shape or tensor.shape == shape:
        return as_value(graph, tensor)
    before = rows.features(atom)
    if tensor.fixed is not None:
        view = _spread(tensor.fixed.view, before, after, shape)
        fixed = Fixed(tensor.fixed.source, tensor.fixed.size, view)
        return as_value(graph, Tensor(shape, fixed=fixed, kind=tensor.kind))
    view = _spread(View.whole(tensor.shape), before, after, shape)
    return from_view(graph, as_value(graph, tensor), view)


def tiled(graph: Graph, rows: Rows, eqn: Equation, tensor: Tensor) -> Tensor:
    """A tensor repeated side by side: each axis behind one of stride zero."""
    repeats = [eqn.params["reps"][k] for k in rows.features(eqn.inputs[0])]
    view = View.whole(tensor.shape)
    shape = [n for pair in zip(repeats, view.shape, strict=True) for n in pair]
    strides = [s for stride in view.strides for s in (0, stride)]
    value = from_view(graph, as_value(graph, tensor), View(tuple(shape), tuple(strides)))
    return Tensor(rows.feature_shape(eqn.outputs[0]), value=value)


def split(graph: Graph, rows: Rows, eqn: Equation, tensor: Tensor) -> list[Tensor]:
    axis = rows.features(eqn.inputs[0]).index(eqn.params["axis"])
    results, start = [], 0
    for size in map(int, eqn.params["sizes"]):
        bounds = [[0] * len(tensor.shape), list(tensor.shape), [1] * len(tensor.shape)]
        bounds[0][axis], bounds[1][axis] = start, start + size
        if tensor.fixed is not None:
            view = tensor.fixed.view.sliced(*bounds)
            fixed = Fixed(tensor.fixed.source, tensor.fixed.size, view)
            results.append(Tensor(view.shape, fixed=fixed, kind=tensor.kind))
        else:
            results.append(through(graph, tensor, View.whole(tensor.shape).sliced(*bounds)))
        start += size
    return results


def _side_by_side(
    graph: Graph, axis: int, tensors: Sequence[tuple[Value, tuple[int, ...]]]
) -> Value:
    """Values of these feature shapes joined along `axis`."""
    outer = math.prod(tensors[0][1][:axis])
    widths = [math.prod(shape[axis:]) for _, shape in tensors]
    if outer > 1 and are_strewn(outer * len(tensors), outer * sum(widths)):
        sizes = [outer * width for width in widths]
        starts = [0, *itertools.accumulate(sizes)]
        places = [
            start + row * width + k
            for row in range(outer)
            for start, width in zip(starts, widths, strict=False)
            for k in range(width)
        ]
        whole = graph.concat([(v, n) for (v, _), n in zip(tensors, sizes, strict=True) if n])
        return graph.pick(whole, graph.numbers(places, "i32"))
    pieces = []
    for row in range(outer):
        for (value, _), width in zip(tensors, widths, strict=True):
            if width:
                pieces.append((graph.slice(value, row * width, width), width))
    return graph.concat(pieces)


def concatenated(graph: Graph, rows: Rows, eqn: Equation, tensors: Sequence[Tensor]) -> Tensor:
    axis = rows.features(eqn.outputs[0]).index(eqn.params["dimension"])
    value = _side_by_side(graph, axis, [(as_value(graph, t), t.shape) for t in tensors])
    return Tensor(rows.feature_shape(eqn.outputs[0]), value=value)


def padded(graph: Graph, rows: Rows, eqn: Equation, tensor: Tensor, filler: Tensor) -> Tensor:
    fill = as_value(graph, filler)
    value, shape = as_value(graph, tensor), tensor.shape
    for axis, k in enumerate(rows.features(eqn.inputs[0])):
        low, high, _ = map(int, eqn.params["padding_config"][k])
        if low < 0 or high < 0:
            bounds = [[0] * len(shape), list(shape), [1] * len(shape)]
            bounds[0][axis], bounds[1][axis] = max(-low, 0), shape[axis] + min(high, 0)
            view = View.whole(shape).sliced(*bounds)
            value, shape = from_view(graph, value, view), view.shape
        ends = [(*shape[:axis], max(n, 0), *shape[axis + 1 :]) for n in (low, high)]
        if low > 0 or high > 0:
            parts = ((fill, ends[0]), (value, shape), (fill, ends[1]))
            value = _side_by_side(graph, axis, [p for p in parts if p[1][axis]])
            shape = (*shape[:axis], sum(p[1][axis] for p in parts), *shape[axis + 1 :])
    return Tensor(shape, value=value)


def listed(graph: Graph, eqn: Equation) -> Tensor:
    """An array that stands in the step."""
    out, dtype = eqn.outputs[0], np.dtype(eqn.outputs[0].dtype).name
    numbers = [integers.held(n, dtype) for n in eqn.params["array"].ravel().tolist()]
    return Tensor(out.shape, value=graph.numbers(numbers, register_type(out.dtype)))


def counted(graph: Graph, rows: Rows, eqn: Equation) -> Tensor:
    """0, 1, 2, ... along an axis: as many numbers side by side."""
    shape = rows.feature_shape(eqn.outputs[0])
    axis = rows.features(eqn.outputs[0]).index(eqn.params["dimension"])
    kind = register_type(eqn.outputs[0].dtype)
    numbers = graph.numbers(range(shape[axis]), "i64" if kind == "i64" else "i32")
    if numbers.kind != kind:
        numbers = graph.map("convert", (numbers,), kind)
    view = View((shape[axis],), (1,)).broadcast(shape, [axis])
    return Tensor(shape, value=from_view(graph, numbers, view))


def reduced(graph: Graph, rows: Rows, eqn: Equation, tensor: Tensor, how: str) -> Tensor:
    before = rows.features(eqn.inputs[0])
    axes = [before.index(k) for k in eqn.params["axes"]]
    kept = [k for k in range(len(before)) if k not in axes]
    return reduce_axes(graph, tensor, kept, axes, how)


def reduce_axes(
    graph: Graph, tensor: Tensor, kept: Sequence[int], axes: Sequence[int], how: str
) -> Tensor:
    """Reduce the feature axes `axes` away; `kept` are the others, in the order they shall have."""
    value, view = as_value(graph, tensor), View.whole(tensor.shape)
    stay, go = view.permuted(kept), view.permuted(axes)
    if value.width == 1:
        return Tensor(stay.shape, value=_all(graph, value, go.size, how))
    inner = max((k for k, n in enumerate(tensor.shape) if n > 1), default=None)
    if inner in axes:
        if stay.size * len(go.runs()) > MAX_PIECES:
            raise Unsupported(f"it reduces {stay.size} pieces of each row")
        pieces = []
        for at in stay.offsets():
            runs = View(go.shape, go.strides, at).runs()
            parts = [_all(graph, graph.slice(value, k, n), n, how) for k, n, _ in runs]
            pieces.append((_folded(graph, parts, how), 1))
        return Tensor(stay.shape, value=graph.concat(pieces))
    if go.size * len(stay.runs()) > MAX_PIECES:
        raise Unsupported(f"it reduces {go.size} pieces of each row")
    parts = [from_view(graph, value, View(stay.shape, stay.strides, at)) for at in go.offsets()]
    return Tensor(stay.shape, value=_folded(graph, parts, how))


def _all(graph: Graph, value: Value, count: int, how: str) -> Value:
    """`count` features, all those of `value` or one that stands for them, as one."""
    if value.width > 1:
        return graph.reduce(how, value)
    if how not in ("sum", "prod") or count == 1:
        return value
    if how == "prod":
        return graph.map("integer_pow", (value,), value.kind, count)
    return graph.map("mul", (value, graph.number(count, value.kind)), value.kind)


def _folded(graph: Graph, parts: Sequence[Value], how: str) -> Value:
    """The parts combined, in pairs for accuracy."""
    name = {"sum": "add", "prod": "mul"}.get(how, how)
    level = list(parts)
    while len(level) > 1:
        pairs = [level[k : k + 2] for k in range(0, len(level), 2)]
        level = [graph.map(name, p, p[0].kind) if len(p) == 2 else p[0] for p in pairs]
    return level[0]
