"""The picture of a training run."""

from typing import Any

from recurrax.view.drawing import new_figure


def plot_history(history: Any) -> Any:
    """Loss and metrics over the epochs, training beside validation.

    Args:
        history: what `fit` returned, or its `history` dictionary.

    Returns:
        A matplotlib figure, with one panel for the loss and one for each metric.

    Raises:
        ValueError: there is no epoch in it.
        ImportError: matplotlib is not installed.
    """
    curves = getattr(history, "history", history)
    names = [name for name in curves if not name.startswith("val_")]
    if not names or not len(curves[names[0]]):
        raise ValueError("The history holds no epoch: pass what fit(...) returned.")
    first = (getattr(history, "epoch", None) or [0])[0] + 1
    figure = new_figure(1 + 4.2 * len(names), 3.6)
    from matplotlib.ticker import MaxNLocator

    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for curve, label in ((name, "training"), (f"val_{name}", "validation")):
            if curve in curves:
                epochs = range(first, first + len(curves[curve]))
                axes.plot(epochs, curves[curve], label=label, marker="o", markersize=3)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend()
    return figure
