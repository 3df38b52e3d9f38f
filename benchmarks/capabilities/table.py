"""Try in each framework what README's table says of it, and write the table, in both languages.

    python benchmarks/capabilities/table.py [--write]

An answer is what a small trial gave here, never what a page says: "yes" where the framework does
it, "by hand" where a few lines around it do, "no" where it refuses. `make test` tries recurrax and
the cheaper rows of Keras again.
"""

import argparse
import importlib
import os
import re
from pathlib import Path

FRAMEWORKS = ("recurrax", "Keras (JAX)", "PyTorch", "Flax NNX")
READMES = [Path(__file__).parents[2] / name for name in ("README.md", "README.ko.md")]
MARKS = re.compile(r"(<!-- table -->\n).*?(<!-- /table -->)", re.DOTALL)
KOREAN = {
    "a cell of one's own in the layer's loop, with masks and in both directions": (
        "직접 만든 셀을 층의 반복문에: 마스크와 양방향까지"
    ),
    "the mask of an `Embedding` reaches the layers": "`Embedding`의 마스크가 다음 층까지 간다",
    "dropout on the recurrent state": "순환 상태에 드롭아웃",
    "one step at a time, from the trained model": "학습한 모델을 한 단계씩 돌리기",
    "training keeps a part of the steps, and computes the rest again": (
        "학습할 때 일부 단계만 남기고 나머지는 다시 계산하기"
    ),
    "the states and gates of every step, by name": "모든 단계의 상태와 게이트를 이름으로 보기",
    "an id outside the `Embedding`": "`Embedding` 범위를 벗어난 번호",
    "forward-mode derivatives through the loop": "반복문을 지나는 순방향 미분",
    "yes": "된다",
    "no": "안 된다",
    "by hand": "손으로 짜면",
    "an error": "오류",
    "NaN, silently": "알리지 않고 NaN",
}


_ROWS = {
    "a cell of one's own in the layer's loop, with masks and in both directions": "cell",
    "the mask of an `Embedding` reaches the layers": "mask",
    "dropout on the recurrent state": "dropout",
    "one step at a time, from the trained model": "stream",
    "training keeps a part of the steps, and computes the rest again": "segments",
    "the states and gates of every step, by name": "states",
    "an id outside the `Embedding`": "outside",
    "forward-mode derivatives through the loop": "forward_mode",
}
_MODULES = {
    "recurrax": ("of_keras", "recurrax"),
    "Keras (JAX)": ("of_keras", "keras"),
    "PyTorch": ("of_torch", "torch"),
    "Flax NNX": ("of_flax", "flax.nnx"),
}


def answer(row: str, framework: str) -> str:
    """What the trial of a row gave in a framework."""
    trials, module = (importlib.import_module(name) for name in _MODULES[framework])
    return getattr(trials, _ROWS[row])(module)


def rows() -> list[str]:
    return list(_ROWS)


def table(answers: dict[str, list[str]], korean: bool) -> str:
    """The Markdown table of the answers, in one of the languages."""
    lines = [f"| | {' | '.join(FRAMEWORKS)} |", "| --- |" + " --- |" * len(FRAMEWORKS)]
    for row, cells in answers.items():
        words = [KOREAN[word] if korean else word for word in (row, *cells)]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def written(readme: Path) -> list[list[str]]:
    """The cells of the table in a README, without its head."""
    found = MARKS.search(readme.read_text("utf-8"))
    assert found is not None, f"{readme.name} has no marks for the table"
    lines = [line for line in found[0].splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def main() -> None:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the table into both READMEs")
    options = parser.parse_args()
    answers = {row: [answer(row, name) for name in FRAMEWORKS] for row in rows()}
    print(table(answers, korean=False))
    if options.write:
        for readme, korean in zip(READMES, (False, True), strict=True):
            filled = f"{table(answers, korean)}\n"
            text = readme.read_text("utf-8")
            readme.write_text(MARKS.sub(lambda m, t=filled: f"{m[1]}{t}{m[2]}", text), "utf-8")


if __name__ == "__main__":
    main()
