"""Measure what README shows, draw its picture of speed, and write its table, in both languages.

    python benchmarks/readme.py [--rounds 5]

Each contender runs in a process of its own, in turns; medians of a training step (forward, backward
and all gradients). Takes some minutes on a machine that does nothing else.
"""

import argparse
import functools
import re
from pathlib import Path
from typing import Any

import custom_cells
import harness
import recurrent

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "en" / "images" / "speed.svg"
SHAPE = (32, 100, 64, 128)
LONG = (32, 1000, 64, 128)
NAMES = {"recurrax": "recurrax", "torch": "PyTorch", "keras-jax": "Keras (JAX)", "flax": "Flax NNX"}
KOREAN = {
    "Time of a training step": "학습 한 단계에 걸리는 시간",
    "LSTM, 1000 steps": "LSTM, 1000단계",
    "layer-norm LSTM, a cell of one's own": "layer-norm LSTM, 직접 만든 셀",
    "(batch, steps, features, units) =": "(배치, 단계, 특성, 유닛) =",
    "with 1000 steps": "1000단계는",
}
COLOURS = {"recurrax": "#b0402f", "torch": "#5b6470", "keras-jax": "#8b96a5", "flax": "#bcc5d0"}


def cases() -> dict[str, tuple[dict[str, Any], Any]]:
    """What is measured: a label, the contenders, and the case that they get."""
    builtin = {name: recurrent.CONTENDERS[name] for name in NAMES}
    own = {name: functools.partial(custom_cells.prepare, name) for name in NAMES if "-" not in name}
    return {
        "LSTM": (builtin, recurrent.Case("LSTM", SHAPE, "train")),
        "GRU": (builtin, recurrent.Case("GRU", SHAPE, "train")),
        "LSTM, 1000 steps": (builtin, recurrent.Case("LSTM", LONG, "train")),
        "layer-norm LSTM, a cell of one's own": (own, ("layer-norm LSTM", SHAPE, True)),
    }


def draw(results: dict[str, dict[str, Any]]) -> None:
    """Bars of each contender's time, as a multiple of ours."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.95 * len(results)), layout="constrained")
    ticks, place = [], 0.0
    for label, times in reversed(results.items()):
        bars = [(name, t.median) for name, t in times.items() if isinstance(t, harness.Timing)]
        ours = dict(bars)["recurrax"]
        ticks.append((place + (len(bars) - 1) / 2, label))
        for name, median in reversed(bars):
            axes.barh(place, median / ours, color=COLOURS[name], height=0.85)
            note = f" {NAMES[name]}: {median:.1f} ms"
            axes.text(median / ours, place, note, va="center", fontsize=9)
            place += 1
        place += 0.7
    axes.set_yticks(*zip(*ticks, strict=True))
    axes.set_xlabel("time of a training step; recurrax = 1, shorter is better")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.22)
    figure.savefig(PICTURE, facecolor="white", metadata={"Date": None})


def table(results: dict[str, dict[str, Any]]) -> str:
    """The Markdown table of the same numbers."""
    rows = [f"| ms | {' | '.join(NAMES.values())} |", "| --- |" + " --- |" * len(NAMES)]
    for label, times in results.items():
        cells = []
        for name in NAMES:
            timing = times.get(name)
            cells.append(f"{timing.median:.1f}" if isinstance(timing, harness.Timing) else "–")
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(rows)


def write(text: str) -> None:
    """Put `text` between the marks in both READMEs, its words in Korean in the second."""
    korean = text
    for english, word in KOREAN.items():
        korean = korean.replace(english, word)
    for name, filling in (("README.md", text), ("README.ko.md", korean)):
        path = ROOT / name
        marks = re.compile(r"(<!-- speed -->\n).*?(<!-- /speed -->)", re.DOTALL)
        filled = marks.sub(lambda m, f=filling: f"{m[1]}{f}\n{m[2]}", path.read_text("utf-8"))
        path.write_text(filled, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = {
        label: harness.compare(contenders, case, rounds=options.rounds)
        for label, (contenders, case) in cases().items()
    }
    for label, times in results.items():
        print(f"{label}: {harness.row(times, 'recurrax')}", flush=True)
    draw(results)
    sizes = f"(batch, steps, features, units) = {SHAPE}, with 1000 steps {LONG}"
    picture = f"![Time of a training step]({PICTURE.relative_to(ROOT).as_posix()})"
    write(f"{picture}\n\n{table(results)}\n\n{sizes}; {harness.machine()}.")


if __name__ == "__main__":
    main()
