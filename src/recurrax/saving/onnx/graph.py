"""An ONNX graph under construction."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

# What opset 18 brought, the axes of reductions as inputs, is used here.
OPSET = 18


class Graph:
    """Nodes and constants; a body inside a `Scan` shares names and constants with its parent.

    Args:
        onnx: the package.
        parent: the graph around this one.
    """

    def __init__(self, onnx: Any, parent: "Graph | None" = None) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self._root: Graph = self if parent is None else parent._root
        if parent is None:
            self.constants: list[Any] = []
            # For each symbol of a shape, the int64 scalar that holds it.
            self.symbols: dict[str, str] = {}
            self._numbers = itertools.count()
            self._known: dict[Any, str] = {}

    def name(self, hint: str = "v") -> str:
        """A fresh name."""
        return f"{hint}_{next(self._root._numbers)}"

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """A node; returns the name of its output, or a list of several."""
        names = [self.name(op) for _ in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, name: str | None = None) -> str:
        """The name of a tensor of this value."""
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < 64 else None
        root = self._root
        if name is None and key in root._known:
            return root._known[key]
        name = name or self.name("c")
        root.constants.append(self.onnx.numpy_helper.from_array(array, name))
        if key is not None:
            root._known[key] = name
        return name

    def cast(self, x: str, dtype: Any) -> str:
        """`x` as elements of another type."""
        return self.add("Cast", [x], to=self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def size(self, dim: Any) -> str:
        """The int64 scalar that holds a size of a shape, which may be symbolic."""
        if isinstance(dim, int | np.integer):
            return self.constant(np.int64(dim))
        symbols = {k: Size(self, v) for k, v in self._root.symbols.items()}
        result = dim._evaluate(symbols)
        return result.name if isinstance(result, Size) else self.constant(np.int64(result))

    def shape(self, dims: Sequence[Any]) -> str:
        """The vector that holds a shape."""
        if all(isinstance(dim, int | np.integer) for dim in dims):
            return self.constant(np.array(dims, np.int64))
        zero = self.constant(np.array([0], np.int64))
        return self.add(
            "Concat", [self.add("Unsqueeze", [self.size(d), zero]) for d in dims], axis=0
        )

    def axes(self, axes: Sequence[int]) -> str:
        """The vector that holds numbers of axes."""
        return self.constant(np.array(axes, np.int64))


class Size:
    """An int64 scalar of a graph, with which sizes are computed."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name

    def _with(self, op: str, other: Any, swapped: bool = False) -> "Size":
        other = other.name if isinstance(other, Size) else self.graph.constant(np.int64(other))
        names = [other, self.name] if swapped else [self.name, other]
        return Size(self.graph, self.graph.add(op, names))

    def __add__(self, other: Any) -> "Size":
        return self._with("Add", other)

    def __sub__(self, other: Any) -> "Size":
        return self._with("Sub", other)

    def __rsub__(self, other: Any) -> "Size":
        return self._with("Sub", other, swapped=True)

    def __mul__(self, other: Any) -> "Size":
        return self._with("Mul", other)

    def __floordiv__(self, other: Any) -> "Size":
        return self._with("Div", other)

    def __mod__(self, other: Any) -> "Size":
        return self._with("Mod", other)

    __radd__, __rmul__ = __add__, __mul__


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes, symbolic sizes included, are the same for sure."""
    return len(a) == len(b) and all(x is y or x == y for x, y in zip(a, b, strict=True))
