"""The tree of everything that a file holds weights of, under the paths that Keras gives.

A path leads along attributes: `layers/lstm/cell` is the cell of the model's layer of class LSTM.
In lists and dictionaries a member is named after its class, since names of layers count on from
model to model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recurrax import registry
from recurrax.layers import Layer, tracking
from recurrax.naming import to_snake_case
from recurrax.random import SeedGenerator
from recurrax.variable import Variable


@dataclass
class Node:
    """Something that has weights, or could have.

    Args:
        path: where it stands in a file.
        owner: the layer, optimizer or seed generator.
        name: its own name.
        required: whether a file must have what it holds: Keras's files have no seeds.
    """

    path: str
    owner: Any
    name: str
    required: bool = True

    @property
    def variables(self) -> list[Variable]:
        """Its own variables, not those of layers below it, in the order of files."""
        if isinstance(self.owner, SeedGenerator):
            return [self.owner.state]
        if not isinstance(self.owner, Layer):
            return list(self.owner.variables)
        return tracking.saved_variables(self.owner)


def walk(root: Any, path: str = "") -> list[Node]:
    """All nodes below `root`, itself first, each object once."""
    return list(_walk(root, path, set()))


def _walk(owner: Any, path: str, visited: set[int]) -> Iterator[Node]:
    if id(owner) in visited:
        return
    visited.add(id(owner))
    seed = isinstance(owner, SeedGenerator)
    yield Node(path, owner, str(getattr(owner, "name", "")), required=not seed)
    if seed:
        return
    for name, value in _attributes(owner):
        below = f"{path}/{name}" if path else name
        if _has_weights(value):
            yield from _walk(value, below, visited)
        elif isinstance(value, list | tuple | dict):
            yield from _within(value, below, visited)


def _within(container: Any, path: str, visited: set[int], depth: int = 0) -> Iterator[Node]:
    if depth > 32:  # a list that holds itself
        return
    used: dict[str, int] = {}
    for value in container.values() if isinstance(container, Mapping) else container:
        if _has_weights(value):
            name = _numbered(_class_name(value), used)
            yield from _walk(value, f"{path}/{name}", visited)
        elif isinstance(value, list | tuple | dict):
            name = _numbered("container", used)
            yield from _within(value, f"{path}/{name}", visited, depth + 1)


def _class_name(value: Any) -> str:
    return to_snake_case(type(value).__name__)


def _numbered(name: str, used: dict[str, int]) -> str:
    number = used[name] = used.get(name, -1) + 1
    return f"{name}_{number}" if number else name


def _has_weights(value: Any) -> bool:
    return isinstance(value, Layer | SeedGenerator) or (
        # An optimizer: it stands on no common base with layers.
        hasattr(value, "apply_gradients") and hasattr(value, "variables")
    )


# Where a compiled model keeps what it was compiled with: only its optimizer has weights.
_OF_TRAINING = {"_compiled_options", "_optimizer", "_objective", "_metric_set", "_loss_tracker"}


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """Attributes by name, private ones last; a model's layers where Keras has them."""
    names = set(vars(owner)) | set(_own_properties(type(owner)))
    names -= getattr(owner, "untracked", frozenset()) | _OF_TRAINING
    if getattr(owner, "optimizer", None) is not None:
        names.add("optimizer")
    is_model = isinstance(getattr(type(owner), "layers", None), property)
    if is_model:
        names.add("layers")
    if is_graph(owner):
        yield "layers", owner.layers
        names.discard("_layers")
    for name in sorted(names, key=lambda name: f"~{name}" if name.startswith("_") else name):
        try:
            value = getattr(owner, name)
        except Exception:  # a property that is not to be asked yet
            continue
        yield name, value


def is_graph(owner: Any) -> bool:
    """Whether `owner` is a model whose list of layers says everything."""
    return isinstance(owner, tuple(filter(None, map(_model_class, _GRAPHS))))


_GRAPHS = [("keras", "Sequential"), ("keras.src.models.functional", "Functional")]


def _model_class(place: tuple[str, str]) -> type | None:
    module, name = place
    return registry.builtin_classes(module).get(name)


def _own_properties(cls: type) -> Iterator[str]:
    """Properties that a user's class defines: Keras follows them too."""
    for base in cls.__mro__:
        if not base.__module__.startswith("recurrax.") and base is not object:
            yield from (k for k, v in vars(base).items() if isinstance(v, property))
