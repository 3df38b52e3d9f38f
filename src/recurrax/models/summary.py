"""The table that `model.summary()` prints."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from recurrax.layers.call import is_shape
from recurrax.layers.layer import Layer

WIDTH = 65
# Where the columns end, as shares of the width.
POSITIONS = (0.45, 0.85, 1.0)


def print_summary(
    model: Any,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
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
        columns: further columns: a heading and a function of the layer.
    """
    width = line_length or WIDTH + 24 * len(columns) + 12 * show_trainable
    further = list(columns)
    if show_trainable:
        further.append(("Trainable", lambda layer: "Y" if layer.trainable else "N"))
    headings = ["Layer (type)", "Output Shape", "Param #", *(heading for heading, _ in further)]
    ends = _ends(width, positions, len(headings))
    say = print_fn or print
    say(f'Model: "{model.name}"')
    say("_" * width)
    say(_row(headings, ends))
    say("=" * width)
    rows = list(_layers(model, expand_nested))
    for number, (depth, layer) in enumerate(rows):
        cells = [
            "| " * depth + f"{layer.name} ({type(layer).__name__})",
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


def output_shape_text(layer: Layer) -> str:
    """The shapes of what a layer returns, `?` before it is known."""
    if not layer._nodes:
        return "?"
    shapes = jax.tree.map(lambda tensor: tensor.shape, layer._nodes[0].outputs)
    leaves = jax.tree.leaves(shapes, is_leaf=is_shape)
    return str(leaves[0]) if len(leaves) == 1 else str(leaves).replace("'", "")


def _layers(model: Any, expand_nested: bool, depth: int = 0) -> Any:
    for layer in model.layers:
        yield depth, layer
        if expand_nested and getattr(layer, "layers", None):
            yield from _layers(layer, expand_nested, depth + 1)


def _count(weights: Sequence[Any]) -> int:
    return int(sum(np.prod(w.shape, dtype=int) for w in weights))


def _ends(width: int, positions: Sequence[float] | None, number: int) -> list[int]:
    if positions is not None:
        return [int(p * width) if p <= 1 else int(p) for p in positions]
    if number == len(POSITIONS):
        return [int(p * width) for p in POSITIONS]
    first = int(0.35 * width)
    rest = (width - first) / (number - 1)
    return [first + int(rest * k) for k in range(number)]


def _row(cells: Sequence[str], ends: Sequence[int]) -> str:
    line = ""
    for cell, end in zip(cells, ends, strict=False):
        line = (line + cell)[: end - 1].ljust(end)
    return line.rstrip()


def _wrapped(cells: Sequence[str], ends: Sequence[int]) -> list[str]:
    """The lines of a row, cells too long for their column going on below."""
    starts = [0, *ends[:-1]]
    widths = [end - start - 1 for start, end in zip(starts, ends, strict=True)]
    parts = [
        [cell[i : i + width] for i in range(0, len(cell), width)] or [""]
        for cell, width in zip(cells, widths, strict=False)
    ]
    height = max(len(part) for part in parts)
    return [_row([p[k] if k < len(p) else "" for p in parts], ends) for k in range(height)]
