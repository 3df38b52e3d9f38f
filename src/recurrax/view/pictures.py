"""Pictures of states and gates: units upwards, steps from left to right, tokens under them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurrax.view import drawing
from recurrax.view.states import one_layer, one_value, states


def plot_states(
    model: Any,
    x: Any,
    tokens: Sequence[Any] | None = None,
    layer: str | None = None,
    value: str | None = None,
    sample: int = 0,
    units: Sequence[int] | None = None,
) -> Any:
    """A state of one recurrent layer over one sample, as a heatmap.

    Args:
        model: a model or a recurrent layer.
        x: its input, (batch, timesteps, ...).
        tokens: what stands at each step, written under it: a text, or a list.
        layer: name of the layer; the first where None.
        value: name of the state or gate, as in `view.states`; `h` where None.
        sample: index into the batch.
        units: indices of the units to show, from below; all where None.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: an unknown layer, value or sample, or not one token for each step.
        ImportError: matplotlib is not installed.
    """
    found = states(model, x)
    layer = one_layer(found, layer)
    value = one_value(found[layer], value)
    shown = found[layer][value]
    sample = drawing.one_sample(sample, len(shown))
    limit = drawing.limit_of(shown[sample])
    return _picture({value: shown}, tokens, layer, sample, units, limit)


def plot_gates(
    model: Any,
    x: Any,
    tokens: Sequence[Any] | None = None,
    layer: str | None = None,
    sample: int = 0,
    units: Sequence[int] | None = None,
) -> Any:
    """All states and gates of one recurrent layer over one sample, on one colour scale.

    A gate lies between 0, white (closed), and 1, dark red (open). Values beyond 1, which the state
    `c` of an LSTM can have, are drawn as 1. Arguments as in `plot_states`.
    """
    found = states(model, x)
    layer = one_layer(found, layer)
    return _picture(found[layer], tokens, layer, sample, units, limit=1.0)


def _picture(
    values: dict[str, np.ndarray],
    tokens: Sequence[Any] | None,
    layer: str,
    sample: int,
    units: Sequence[int] | None,
    limit: float,
) -> Any:
    size, steps = next(iter(values.values())).shape[:2]
    drawing.check_tokens(tokens, steps)
    sample = drawing.one_sample(sample, size)
    flat = {name: value[sample].reshape(steps, -1) for name, value in values.items()}
    if units is not None:
        count = min(value.shape[1] for value in flat.values())
        outside = [unit for unit in units if not -count <= unit < count]
        if outside:
            raise ValueError(
                f"There is no unit {outside[0]}: layer {layer!r} has units 0 to {count - 1}."
            )
        flat = {name: value[:, list(units)] for name, value in flat.items()}
    beyond = any(np.abs(value).max() > limit for value in flat.values())

    import matplotlib

    with matplotlib.rc_context(drawing.fonts()):
        tall = 1.0 + (3.2 if len(flat) == 1 else 1.3 * len(flat))
        figure = drawing.new_figure(drawing.width_for(steps), tall)
        grid = figure.subplots(len(flat), 1, sharex=True, squeeze=False)[:, 0]
        image = None
        for axes, (name, value) in zip(grid, flat.items(), strict=True):
            image = drawing.heatmap(axes, value, limit)
            axes.set_ylabel("unit")
            if units is not None:
                axes.set_yticks(range(len(units)), list(map(str, units)))
            axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
        drawing.label_steps(grid[-1], steps, tokens)
        figure.suptitle(f"{layer}, sample {sample}", fontsize=11)
        figure.colorbar(
            image,
            ax=list(grid),
            label="value",
            extend="both" if beyond else "neither",
            shrink=min(1.0, 3 / tall),
            pad=0.02,
        )
    return figure
