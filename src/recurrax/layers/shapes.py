"""Shapes, and structures of them."""

from typing import Any

import jax


def is_shape(x: Any) -> bool:
    """Whether `x` is a shape, not a structure of shapes."""
    return isinstance(x, list | tuple) and all(s is None or isinstance(s, int) for s in x)


def leaf_shapes(shapes: Any) -> list[tuple[int | None, ...]]:
    """The shapes in a structure of shapes."""
    return [tuple(shape) for shape in jax.tree.leaves(shapes, is_leaf=is_shape)]


def map_shapes(function: Any, shapes: Any) -> Any:
    """`function` of every shape in a structure of shapes."""
    return jax.tree.map(lambda shape: function(tuple(shape)), shapes, is_leaf=is_shape)


def shapes_of(tree: Any) -> Any:
    """The shape of each array in a structure."""
    return jax.tree.map(lambda x: tuple(getattr(x, "shape", ())), tree)


def as_shape(data: Any) -> Any:
    """Shapes out of a configuration, where lists stand for tuples."""
    if isinstance(data, dict):
        return {key: as_shape(value) for key, value in data.items()}
    if data is None or is_shape(data):
        return None if data is None else tuple(data)
    return [as_shape(item) for item in data]
