"""What the pictures share: a figure, tokens under the steps, heatmaps on one colour scale."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

# Fonts tried for characters that the first of them does not have, such as Korean ones.
_FONTS = (
    *("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Nanum Gothic", "Malgun Gothic"),
    *("Apple SD Gothic Neo", "Noto Sans CJK JP", "Noto Sans CJK SC"),
)
# More tokens than this do not fit under a picture.
_MOST_TICKS = 60
# Blue below zero, red above; equally dark at both ends.
DIVERGING = "RdBu_r"


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of this size, in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib import pyplot
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "The pictures of recurrax.view need matplotlib: pip install matplotlib."
        ) from error
    # A notebook shows a returned figure by itself; one known to pyplot it would show twice.
    make = Figure if "inline" in matplotlib.get_backend() else pyplot.figure
    return make(figsize=(width, height), layout="constrained")


def fonts() -> Any:
    """Settings under which text beyond Latin letters is drawn, where the machine has a font."""
    import matplotlib
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    usual = matplotlib.rcParams["font.family"]
    return {"font.family": [*usual, *(name for name in _FONTS if name in installed)]}


def width_for(steps: int) -> float:
    """Inches of a picture with this many steps side by side."""
    return float(np.clip(2.5 + 0.16 * steps, 6, 14))


def heatmap(axes: Any, values: np.ndarray, limit: float) -> Any:
    """Draw `values` (timesteps, units), units upwards, on a scale from -limit to limit."""
    return axes.imshow(
        values.T,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
    )


def limit_of(values: np.ndarray) -> float:
    """The end of the colour scale: 1 for what lies between -1 and 1, else the largest size."""
    largest = float(np.max(np.abs(values), initial=0.0))
    return 1.0 if largest <= 1 else largest


def label_steps(axes: Any, steps: int, tokens: Sequence[Any] | None) -> None:
    """Put the tokens, or the numbers of the steps, under the time axis."""
    if tokens is None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("step")
        return
    labels = ["␣" if str(token) == " " else str(token) for token in tokens]
    every = -(-steps // _MOST_TICKS)
    size = 8 if steps > 30 else 10
    labels = labels[::every]
    # A letter is about as wide as 0.7 of its height, in points; a picture is 72 of them an inch.
    wide = max(map(_columns, labels), default=0) * 0.7 * size / 72
    upright = wide * len(labels) > 0.8 * width_for(steps)
    axes.set_xticks(range(0, steps, every), labels, rotation=90 if upright else 0, fontsize=size)
    axes.tick_params(axis="x", length=2)
    axes.set_xlabel("token at each step" if every == 1 else f"token at one step in {every}")


def _columns(text: str) -> int:
    """How many Latin letters wide a text is."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def check_tokens(tokens: Sequence[Any] | None, steps: int) -> None:
    """Raise ValueError where there is not one token for each step."""
    if tokens is not None and len(tokens) != steps:
        raise ValueError(
            f"tokens has {len(tokens)} entries, but the sample has {steps} steps: pass one token "
            "for each step."
        )


def one_sample(sample: int, size: int) -> int:
    """The sample asked for; raises ValueError where the batch has none of this number."""
    if not -size <= sample < size:
        raise ValueError(f"sample is {sample}, but the batch has {size} samples: from 0.")
    return sample
