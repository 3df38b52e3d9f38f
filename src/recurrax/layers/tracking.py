"""Finding the variables and layers that an object holds in its attributes."""

from collections.abc import Iterator, Mapping
from typing import Any

from recurrax.random import SeedGenerator
from recurrax.variable import Variable


def held(owner: Any, kind: Any) -> Iterator[Any]:
    """Every `kind` in the attributes of `owner`, in lists, tuples and dictionaries too."""
    for name, value in vars(owner).items():
        if name not in owner.untracked:
            yield from _within(value, kind)


def _within(value: Any, kind: Any) -> Iterator[Any]:
    if isinstance(value, kind):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _within(item, kind)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _within(item, kind)


def unique(items: Any) -> list[Any]:
    """`items` in order, each object once."""
    return list({id(item): item for item in items}.values())


def own_variables(layer: Any) -> list[Variable]:
    """The variables of a layer itself: those it added, then those it was given otherwise."""
    return unique([*layer._weights, *held(layer, Variable)])


def saved_variables(layer: Any) -> list[Variable]:
    """The variables of a layer itself in the order of files: what trains comes first."""
    return sorted(own_variables(layer), key=lambda variable: not variable.trainable)


def seed_states(layer: Any) -> list[Variable]:
    """The states of a layer's seed generators."""
    return unique(generator.state for generator in held(layer, SeedGenerator))
