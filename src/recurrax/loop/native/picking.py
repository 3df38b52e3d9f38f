"""Gathers and scatters: features at places that integers tell, of each row or of all alike.

The places are computed as any other value is, element by element of what is taken or brought: the
indices where they start, and where in its window each element stands.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from jax import lax

from recurrax.loop.native import integers, places
from recurrax.loop.native.axes import Rows
from recurrax.loop.native.graph import Graph, Value
from recurrax.loop.native.inline import Equation
from recurrax.loop.native.memory import register_type
from recurrax.loop.native.places import Places
from recurrax.loop.native.tensor import Tensor, as_value, from_view
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.native.views import View

SCATTERS = {
    "scatter": "last",
    "scatter-add": "sum",
    "scatter-sub": "difference",
    "scatter-mul": "prod",
    "scatter-min": "min",
    "scatter-max": "max",
}
_OF_TWO = {"sum": "add", "difference": "sub", "prod": "mul"}
_OF_TRUTH = {"sum": "or", "prod": "and"}
_MODES = lax.GatherScatterMode


def gathered(graph: Graph, rows: Rows, eqn: Equation, inputs: Sequence[Tensor]) -> Tensor:
    """The windows that start where the indices say.

    Out of bounds, the nearest window, or what the mode fills in.
    """
    found = _Found(graph, rows, eqn, places.of_gather(eqn), eqn.outputs[0], inputs[1])
    whole, shape = inputs[0], rows.feature_shape(eqn.outputs[0])
    kind = register_type(eqn.outputs[0].dtype)
    if 0 in shape:
        return Tensor(shape, value=graph.number(0, kind))
    if 0 in whole.shape:
        raise Unsupported("it takes from an array that holds nothing")
    value, view = as_value(graph, whole), View.whole(whole.shape)
    if whole.fixed is not None:
        fixed = whole.fixed
        value, view = graph.leaf(fixed.source, fixed.size, whole.kind), fixed.view
    mode = eqn.params["mode"]
    picked = graph.pick(value, found.places(view))
    inside = found.inside() if mode == _MODES.FILL_OR_DROP else None
    if inside is not None:
        filler = graph.number(_filler(eqn), kind)
        picked = graph.map("select", (inside, picked, filler), kind)
    elif mode not in (_MODES.CLIP, _MODES.PROMISE_IN_BOUNDS, _MODES.FILL_OR_DROP):
        raise Unsupported(f"it takes indices in the mode {mode}")
    return Tensor(shape, value=picked)


def _filler(eqn: Equation) -> float | int | bool:
    """What stands for windows out of bounds, as JAX has it."""
    given, dtype = eqn.params["fill_value"], eqn.outputs[0].dtype
    if given is not None:
        return np.asarray(given).item()
    if np.dtype(dtype) == bool:
        return True
    if not np.issubdtype(dtype, np.integer):
        return math.nan
    limits = np.iinfo(dtype)
    return int(limits.max if limits.min == 0 else limits.min)


def scattered(graph: Graph, rows: Rows, eqn: Equation, inputs: Sequence[Tensor]) -> Value:
    """The whole, with the updates combined in; windows out of bounds are left out, or moved in."""
    updates = eqn.inputs[2]
    found = _Found(graph, rows, eqn, places.of_scatter(eqn), updates, inputs[1])
    whole, _, part = inputs
    size = math.prod(whole.shape)
    onto = as_value(graph, whole)
    if 0 in part.shape or 0 in whole.shape:
        return onto
    clipped = eqn.params["mode"] == _MODES.CLIP
    at = found.places(View.whole(whole.shape))
    inside = None if clipped else found.inside()
    if inside is not None:
        at = graph.map("select", (inside, at, graph.number(size, at.kind)), at.kind)
    how = SCATTERS[eqn.primitive]
    if onto.kind == "i1":
        how = _OF_TRUTH.get(how, how)
    how = integers.named(how, np.dtype(eqn.outputs[0].dtype).name)
    features, count = as_value(graph, part), math.prod(part.shape)
    if how == "last":  # of windows that overlap
        in_turn = View.whole(part.shape).permuted(found.by_window())
        features, at = (from_view(graph, value, in_turn) for value in (features, at))
    if at.op in ("number", "numbers"):
        first = at.param[0] if at.op == "numbers" else at.param
        run = graph.numbers(range(first, first + count), at.kind)
        if run is at and first + count <= size:
            return _written(graph, onto, features, first, how, size, count)
    return graph.scatter(onto, features, at, how, size, count)


def _written(
    graph: Graph, onto: Value, features: Value, start: int, how: str, size: int, count: int
) -> Value:
    """`size` features of `onto`, of which `count` from `start` on are combined with others."""
    if how != "last":
        here = graph.slice(onto, start, count)
        features = graph.map(_OF_TWO.get(how, how), (here, features), onto.kind)
    pieces = [(features, count)]
    if start:
        pieces.insert(0, (graph.slice(onto, 0, start), start))
    if (rest := size - start - count) > 0:
        pieces.append((graph.slice(onto, start + count, rest), rest))
    return graph.concat(pieces)


class _Found:
    """Where each element of the part stands in the features of the whole."""

    def __init__(self, graph: Graph, rows: Rows, eqn: Equation, at: Places, part, indices: Tensor):
        self.graph = graph
        self.at = at
        self.whole = eqn.inputs[0]
        self.dtype = np.dtype(eqn.inputs[1].dtype).name
        self.kind = register_type(eqn.inputs[1].dtype)
        self.part_axes = rows.features(part)
        self.shape = rows.feature_shape(part)
        self.whole_axes = rows.features(self.whole)
        self.index_axes = rows.features(eqn.inputs[1])
        for one, other in ((self.whole, part), (eqn.inputs[1], part)):
            if len(rows.of(one)) not in (0, len(rows.of(other))):
                raise Unsupported("some of its rows stand in other arrays than others")
        self._starts = self._read(as_value(graph, indices), indices.shape) if at.starts else []

    def _read(self, value: Value, shape: Sequence[int]) -> list[Value]:
        """For each axis that is indexed the start of each element's window along it."""
        view = View.whole(shape)
        stride_of = dict(zip(self.index_axes, view.strides, strict=True))
        strides = [stride_of.get(self.at.indexed.get(k, -1), 0) for k in self.part_axes]
        return [
            from_view(self.graph, value, View(self.shape, tuple(strides), k * view.strides[-1]))
            for k in range(len(self.at.starts))
        ]

    def by_window(self) -> list[int]:
        """The axes of the part's features, window by window."""
        axes = self.part_axes
        return sorted(range(len(axes)), key=lambda k: axes[k] in self.at.windowed)

    def _limits(self) -> list[int]:
        """The last start of a window along each axis that is indexed."""
        return [self.whole.shape[axis] - self.at.sizes[axis] for axis in self.at.starts]

    def inside(self) -> Value | None:
        """Whether each element's window lies inside the whole; None if all surely do."""
        known: Value | None = None
        for start, limit in zip(self._starts, self._limits(), strict=True):
            if (fixed := self._fixed(start)) and min(fixed) >= 0 and max(fixed) <= limit:
                continue
            for name, bound in (("ge", 0), ("le", limit)):
                if name == "ge" and self.dtype.startswith("u"):
                    continue
                args = (start, self.graph.number(bound, self.kind))
                part = self.graph.map(integers.named(name, self.dtype), args, "i1")
                known = part if known is None else self.graph.map("and", (known, part), "i1")
        return known

    def places(self, view: View) -> Value:
        """Where each element stands in the block that `view` is of, windows moved inside."""
        graph = self.graph
        stride_of = dict(zip(self.whole_axes, view.strides, strict=True))
        along = self.at.windowed | self.at.paired
        strides = [stride_of.get(along.get(k, -1), 0) for k in self.part_axes]
        known = list(View(self.shape, tuple(strides), view.offset).offsets())
        moving = []
        for start, axis, limit in zip(self._starts, self.at.starts, self._limits(), strict=True):
            if fixed := self._fixed(start):
                moved = [stride_of[axis] * min(max(n, 0), limit) for n in fixed]
                moved *= len(known) // len(moved)
                known = [a + b for a, b in zip(known, moved, strict=True)]
                continue
            for name, bound in (("max", 0), ("min", limit)):
                args = (start, graph.number(bound, self.kind))
                start = graph.map(integers.named(name, self.dtype), args, self.kind)
            if stride_of[axis] != 1:
                args = (start, graph.number(stride_of[axis], self.kind))
                start = graph.map("mul", args, self.kind)
            moving.append(start)
        if any(known) or not moving:
            moving.append(graph.numbers(known, self.kind))
        return functools.reduce(lambda a, b: graph.map("add", (a, b), self.kind), moving)

    def _fixed(self, start: Value) -> Sequence[int]:
        """The numbers that a value stands for, none where it is not known what they are."""
        if self.dtype == "uint32" or start.op not in ("number", "numbers"):
            return ()
        return start.param if start.op == "numbers" else (start.param,)
