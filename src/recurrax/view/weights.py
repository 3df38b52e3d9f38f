"""The picture of weights."""

from typing import Any

import numpy as np

from recurrax.view.drawing import heatmap, new_figure


def plot_weights(layer: Any) -> Any:
    """The weights of a layer or a model as heatmaps on one colour scale.

    Args:
        layer: a built layer or model.

    Returns:
        A matplotlib figure: for each weight one panel, its last axis from left to right; vectors
        are one row, and further axes are laid into rows.

    Raises:
        ValueError: it has no weights, or is not built.
        ImportError: matplotlib is not installed.
    """
    if not layer.built or not layer.weights:
        raise ValueError(
            f"{layer.name!r} has no weights to plot: build it, or call it on data, first."
        )
    weights = {v.path: np.atleast_2d(v.numpy()) for v in layer.weights}
    weights = {path: value.reshape(-1, value.shape[-1]) for path, value in weights.items()}
    # A few large values would leave the rest white.
    limit = max(np.quantile(np.abs(value), 0.995) for value in weights.values()) or 1.0
    heights = [max(0.35, 2.2 * min(1.0, len(value) / 64)) for value in weights.values()]
    figure = new_figure(8, 0.6 + sum(h + 0.75 for h in heights))
    from matplotlib.ticker import MaxNLocator

    grid = figure.subplots(len(weights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[
        :, 0
    ]
    image = None
    for axes, (path, value) in zip(grid, weights.items(), strict=True):
        image = heatmap(axes, value.T, limit)
        axes.set_title(f"{path} {tuple(value.shape)}", loc="left", fontsize=9)
        axes.set_yticks([] if len(value) == 1 else [0, len(value) - 1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
    figure.supxlabel("index on the last axis (units)", fontsize=9)
    figure.supylabel("index on the axes before it (features)", fontsize=9)
    figure.colorbar(image, ax=list(grid), label="weight", extend="both", pad=0.02, aspect=60)
    return figure
