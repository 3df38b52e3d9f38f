"""What an equation's operand is while a body is lowered: a value of the graph, or a fixed block."""

import dataclasses

from recurrax.loop.native.graph import MAX_PIECES, Graph, Source, Value
from recurrax.loop.native.views import View

_FEW = 3
_SHORT = 8


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A constant of the loop that no row differs in (a weight, a bias), or a view of it."""

    source: Source
    size: int
    view: View


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Features of some shape, the row axes left out: a `value`, or a `fixed` block not yet read."""

    shape: tuple[int, ...]
    value: Value | None = None
    fixed: Fixed | None = None
    kind: str = ""

    def __post_init__(self) -> None:
        if self.value is not None:
            object.__setattr__(self, "kind", self.value.kind)


def as_value(graph: Graph, tensor: Tensor) -> Value:
    """The tensor as a value of the graph."""
    if tensor.value is not None:
        return tensor.value
    fixed = tensor.fixed
    assert fixed is not None
    leaf = graph.leaf(fixed.source, fixed.size, tensor.kind)
    return from_view(graph, leaf, fixed.view)


def are_strewn(pieces: int, features: int) -> bool:
    """Whether so many features in so many pieces are better picked one by one."""
    return pieces > MAX_PIECES or (pieces > _FEW and features < _SHORT * pieces)


def from_view(graph: Graph, value: Value, view: View) -> Value:
    """The features of `value` that `view` names, in its order."""
    if value.width == 1:
        return value
    if view.size == 0:  # nothing of it is ever read
        return graph.number(0, value.kind)
    runs = view.runs()
    if are_strewn(len(runs), view.size):
        return graph.pick(value, graph.numbers(tuple(view.offsets()), "i32"))
    pieces = [(graph.slice(value, at, n if step else 1), n) for at, n, step in runs]
    if len(pieces) == 1 and pieces[0][0].width == 1:
        return pieces[0][0]
    return graph.concat(pieces)
