"""The table that `model.summary()` prints."""

import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recurrax.layers.graph import symbolic_leaves
from recurrax.layers.input_layer import InputLayer
from recurrax.layers.layer import Layer
from recurrax.registry import nearest

# Width of the table, and where the columns end as shares of it: of a chain of layers, and of a
# graph, whose table also says what each layer is connected to.
CHAIN = (65, (0.45, 0.85, 1.0))
GRAPH = (98, (0.33, 0.55, 0.67, 1.0))


def print_summary(
    model: Any,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
    columns: Sequence[tuple[str, Callable[[Layer], str]]] = (),
) -> None:
    """Print a model's layers, their output shapes and numbers of weights.

    Args:
        model: the model.
        line_length: characters of a line.
        positions: where the columns end, as shares of the line or as characters.
        print_fn: called with each line; `print` where None.
        expand_nested: also show the layers of models inside.
        show_trainable: also show whether each layer trains.
        layer_range: names of the first and the last layer to show, or regular expressions: of the
            layers that match, from the first of one to the last of the other.
        columns: further columns: a heading and a function of the layer.

    Raises:
        ValueError: no layer has a name of `layer_range`.
    """
    shown = _within(model, layer_range)
    network = getattr(model, "network", None)
    if network is not None and not _is_chain(network):
        columns = (("Connected to", network.connections), *columns)
    further = list(columns)
    if show_trainable:
        further.append(("Trainable", _trains))
    usual, shares = GRAPH if network is not None and not _is_chain(network) else CHAIN
    beyond = 3 + len(further) - len(shares)
    width = line_length or usual + 12 * beyond
    headings = ["Layer (type)", "Output Shape", "Param #", *(heading for heading, _ in further)]
    ends = _ends(width, positions or shares, len(headings))
    say = print_fn or print
    say(f'Model: "{model.name}"')
    say("_" * width)
    say(_row(headings, ends))
    say("=" * width)
    rows = list(_layers(shown, expand_nested))
    for number, (depth, layer) in enumerate(rows):
        cells = [
            "| " * depth + f"{layer.name} ({class_name(layer)})",
            output_shape_text(layer),
            str(layer.count_params()) if layer.built else "? (not built)",
            *(describe(layer) for _, describe in further),
        ]
        for line in _wrapped(cells, ends):
            say(line)
        say(("=" if number == len(rows) - 1 else "_") * width)
    trainable, frozen = _count(model.trainable_weights), _count(model.non_trainable_weights)
    say(f"Total params: {trainable + frozen:,}")
    say(f"Trainable params: {trainable:,}")
    say(f"Non-trainable params: {frozen:,}")
    say("_" * width)


def class_name(layer: Any) -> str:
    """The class of a layer, or what an operation does."""
    return getattr(layer, "class_name", type(layer).__name__)


def _trains(layer: Any) -> str:
    if not isinstance(layer, Layer):
        return "-"
    return "Y" if layer.trainable else "N"


def output_shape_text(layer: Any) -> str:
    """The shapes of what a layer returns, `?` before it is known."""
    if not layer._nodes:
        return "?"
    outputs = layer._nodes[0].outputs
    leaves = [tensor.shape for tensor in symbolic_leaves(outputs)]
    # As Keras, an input stands in brackets: it could be one of several.
    listed = len(leaves) != 1 or isinstance(layer, InputLayer)
    return str(leaves) if listed else str(leaves[0])


def _layers(layers: Sequence[Any], expand_nested: bool, depth: int = 0) -> Any:
    for layer in layers:
        yield depth, layer
        if expand_nested and getattr(layer, "layers", None):
            yield from _layers(layer.operations, expand_nested, depth + 1)


def _within(model: Any, names: Sequence[str] | None) -> list[Any]:
    """The layers from the one name to the other, in either order."""
    layers = list(model.operations)
    if names is None:
        return layers
    pair = isinstance(names, list | tuple) and len(names) == 2
    if not pair or not all(isinstance(name, str) for name in names):
        raise ValueError(
            "layer_range must be the names of two layers, the first and the last to show, but it "
            f'is {names!r}: pass ("encoder", "decoder"), say.'
        )
    places = []
    for name in names:
        found = [i for i, layer in enumerate(layers) if re.match(name, layer.name)]
        if not found:
            known = [layer.name for layer in layers]
            raise ValueError(
                f"layer_range names {name!r}, which no layer of model {model.name!r} matches."
                f"{nearest(name, known)} Its layers: {', '.join(known)}."
            )
        places.append(found)
    (first, *_), (*_, last) = places
    if first > last:
        first, last = min(places[1]), max(places[0])
    return layers[first : last + 1]


def _count(weights: Sequence[Any]) -> int:
    return int(sum(np.prod(w.shape, dtype=int) for w in weights))


def _ends(width: int, positions: Sequence[float], number: int) -> list[int]:
    """Where the columns end; those beyond `positions` share the room that these leave."""
    beyond = max(number - len(positions), 0)
    room = width - 12 * beyond
    ends = [int(p * room) if p <= 1 else int(p) for p in positions]
    return ends + [width - 12 * (beyond - 1 - k) for k in range(beyond)]


def _is_chain(network: Any) -> bool:
    """Whether every layer is called once, on what the layer before it returns."""
    calls = network.nodes
    if len(network.layers) != len(calls):
        return False
    for before, node in itertools.pairwise(calls):
        if len(node.inputs) != 1 or node.inputs[0].node is not before:
            return False
    return True


def _row(cells: Sequence[str], ends: Sequence[int]) -> str:
    line = ""
    for cell, end in zip(cells, ends, strict=False):
        line = (line + cell)[: end - 1].ljust(end)
    return line.rstrip()


def _wrapped(cells: Sequence[str], ends: Sequence[int]) -> list[str]:
    """The lines of a row, cells too long for their column going on below."""
    starts = [0, *ends[:-1]]
    widths = [end - start - 1 for start, end in zip(starts, ends, strict=True)]
    parts = [textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, widths, strict=False)]
    height = max(len(part) for part in parts)
    return [_row([p[k] if k < len(p) else "" for p in parts], ends) for k in range(height)]
