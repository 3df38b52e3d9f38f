"""Symbolic tensors and the graph that calling layers on them leaves behind."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.variable import Variable

_numbers = itertools.count()


class SymbolicTensor:
    """A tensor that is not there yet: a shape, None where unknown, and a dtype.

    Layers, operators (`+`, `@`, `x[:, -1]`, ...) and the functions of `recurrax.ops` take it, and
    `Model(inputs, outputs)` makes a model of what they noted down.

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
        self.index = 0

    @property
    def ndim(self) -> int:
        return len(self.shape)

    rank = ndim

    @functools.cached_property
    def _keras_mask(self) -> Any:
        """The symbolic mask that the tensor will have, under Keras's name; None where none."""
        node = self.node
        if node is None or not getattr(node.layer, "hands_masks_on", False):
            return None
        mask = node.kwargs.get("mask")
        if mask is None:
            mask = replace_symbols(node.first, lambda tensor: tensor._keras_mask)
            mask = mask if symbolic_leaves(mask) else None
        mask = node.layer.compute_mask(node.first, mask)
        masks = jax.tree.leaves(mask, is_leaf=lambda m: m is None)
        return masks[self.index] if self.index < len(masks) else None

    def _no_values(self) -> TypeError:
        return TypeError(
            f"{self!r} is symbolic and holds no values: use a function of recurrax.ops or a "
            "layers.Lambda on it, or build a Model(inputs, outputs) and call that on an array."
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self._no_values()

    @property
    def __jax_array__(
        self,
    ) -> Any:  # JAX asks for it, and would put words of its own for TypeErrors
        raise ValueError(str(self._no_values()))

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} is symbolic and has no truth value: use recurrax.ops.where or cond."
        )

    def __iter__(self) -> Any:
        raise TypeError(
            f"{self!r} is symbolic and cannot be iterated over: use recurrax.ops.split."
        )

    def __repr__(self) -> str:
        return f"<SymbolicTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


class Node:
    """One call of a layer, or of an operation, on symbolic tensors.

    Args:
        layer: what was called.
        args, kwargs: what it was called with, symbolic tensors among them.
        outputs: what the call returned, any structure of symbolic tensors.
    """

    def __init__(
        self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
    ) -> None:
        self.layer = layer
        self.args, self.kwargs = args, kwargs
        self.outputs = outputs
        self.number = next(_numbers)
        self.inputs = symbolic_leaves((args, kwargs))
        for index, tensor in enumerate(symbolic_leaves(outputs)):
            tensor.node, tensor.index = self, index

    @property
    def first(self) -> Any:
        """What the layer was called on."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)


def is_symbolic(x: Any) -> bool:
    return isinstance(x, SymbolicTensor)


def symbolic_leaves(tree: Any) -> list[SymbolicTensor]:
    """All symbolic tensors in a structure."""
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=whole) if is_symbolic(leaf)]


def replace_symbols(tree: Any, replace: Any) -> Any:
    """The structure with `replace(tensor)` in place of each symbolic tensor."""
    return jax.tree.map(lambda x: replace(x) if is_symbolic(x) else x, tree, is_leaf=whole)


def whole(x: Any) -> bool:
    """What a structure is not taken apart below: a variable."""
    return isinstance(x, Variable)
