"""Structures of lists, tuples and dictionaries (`keras.tree`); None is a leaf."""

from collections.abc import Callable
from typing import Any

import jax

from recurrax.variable import Variable


def _is_leaf(x: Any) -> bool:
    return x is None or isinstance(x, Variable)


def is_nested(structure: Any) -> bool:
    """Whether it is a list, a tuple or a dictionary (of anything), not a leaf."""
    if _is_leaf(structure):
        return False
    definition = jax.tree.structure(structure, is_leaf=_is_leaf)
    return definition != jax.tree.structure(0)


def flatten(structure: Any) -> list[Any]:
    """The leaves, in order; those of a dictionary by sorted key."""
    return jax.tree.leaves(structure, is_leaf=_is_leaf)


def flatten_with_path(structure: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Pairs of a path, a tuple of keys and indices, and the leaf there."""
    pairs = jax.tree_util.tree_flatten_with_path(structure, is_leaf=_is_leaf)[0]
    return [(tuple(_key(entry) for entry in path), leaf) for path, leaf in pairs]


def _key(entry: Any) -> Any:
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry


def map_structure(function: Callable[..., Any], *structures: Any) -> Any:
    """The structure of `function` applied to the leaves, one of each of `structures`."""
    return jax.tree.map(function, *structures, is_leaf=_is_leaf)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """The leaves of `flat_sequence` in the structure of `structure`.

    Raises:
        ValueError: their number differs.
    """
    return jax.tree.unflatten(jax.tree.structure(structure, is_leaf=_is_leaf), flat_sequence)


def assert_same_structure(a: Any, b: Any) -> None:
    """Raise ValueError where two structures differ."""
    first, second = (jax.tree.structure(x, is_leaf=_is_leaf) for x in (a, b))
    if first != second:
        raise ValueError(f"The structures differ: {first} and {second}.")


def lists_to_tuples(structure: Any) -> Any:
    """The structure with a tuple in place of each list."""
    if isinstance(structure, list | tuple):
        return tuple(lists_to_tuples(item) for item in structure)
    if isinstance(structure, dict):
        return {key: lists_to_tuples(value) for key, value in structure.items()}
    return structure
