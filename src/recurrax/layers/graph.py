"""Symbolic tensors and the graph that calling layers on them leaves behind."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

_numbers = itertools.count()


class SymbolicTensor:
    """A tensor that is not there yet: a shape, None where unknown, and a dtype.

    Args:
        shape: sizes of the axes, None where unknown.
        dtype: data type.
        name: for messages and summaries.
    """

    def __init__(
        self, shape: Sequence[int | None], dtype: Any = "float32", name: str | None = None
    ) -> None:
        self.shape = tuple(None if size is None else int(size) for size in shape)
        self.dtype = jnp.dtype(dtype).name
        self.name = name or f"tensor_{next(_numbers)}"
        self.node: Node | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"{self!r} is symbolic and holds no values: build a Model(inputs, outputs) and call "
            "that on an array."
        )

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} is symbolic and has no truth value: use recurrax.ops.where or cond."
        )

    def __repr__(self) -> str:
        return f"<SymbolicTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


class Node:
    """One call of a layer on symbolic tensors.

    Args:
        layer: what was called.
        arguments: the call's arguments by name, symbolic tensors among them.
        outputs: what the call returned, any structure of symbolic tensors.
    """

    def __init__(self, layer: Any, arguments: dict[str, Any], outputs: Any) -> None:
        self.layer = layer
        self.arguments = arguments
        self.outputs = outputs
        self.inputs = symbolic_leaves(arguments)
        for tensor in symbolic_leaves(outputs):
            tensor.node = self


def is_symbolic(x: Any) -> bool:
    return isinstance(x, SymbolicTensor)


def symbolic_leaves(tree: Any) -> list[SymbolicTensor]:
    """All symbolic tensors in a structure."""
    return [leaf for leaf in jax.tree.leaves(tree) if is_symbolic(leaf)]
