"""The code blocks of a chapter: read them, run them, and write what they print beneath them.

    python tests/docs/blocks.py docs/en/first-model.md ...

runs the chapters named and writes their real output into them and into their Korean twins, and the
pictures they save into `docs/en/images`. A `text` block straight after a
`python` block is that block's output. All blocks of a chapter share one namespace.
"""

import ast
import contextlib
import io
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

from recurrax.naming import reset_names

_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n*^```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)

_DOCS = Path(__file__).parents[2] / "docs"


class Block(NamedTuple):
    code: str
    output: str  # empty where the chapter shows none

    @property
    def meaning(self) -> str:
        """The code without comments and layout."""
        return ast.dump(ast.parse(self.code))


def read(chapter: Path) -> list[Block]:
    """The Python blocks of a chapter."""
    found = _BLOCK.finditer(chapter.read_text("utf-8"))
    return [Block(match["code"], match["output"] or "") for match in found]


def run(chapter: Path, folder: Path) -> list[str]:
    """What each block of a chapter prints, run in `folder`."""
    namespace = {"__name__": "__main__"}
    reset_names()
    outputs = []
    before = Path.cwd()
    os.chdir(folder)
    try:
        for number, block in enumerate(read(chapter)):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.code, f"<{chapter.name}, block {number}>", "exec"), namespace)
            lines = printed.getvalue().splitlines()
            outputs.append("".join(f"{line.rstrip()}\n" for line in lines))
    finally:
        os.chdir(before)
    return outputs


def write(chapter: Path, outputs: list[str]) -> None:
    """Write what the blocks of a chapter print beneath them."""
    remaining = iter(outputs)

    def filled(match: re.Match[str]) -> str:
        printed = next(remaining)
        shown = f"\n```text\n{printed}```\n" if printed else ""
        return f"```python\n{match['code']}```\n{shown}"

    chapter.write_text(_BLOCK.sub(filled, chapter.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        english = Path(name).resolve()
        folder = Path(mkdtemp())
        outputs = run(english, folder)
        write(english, outputs)
        images = _DOCS / "en" / "images"
        images.mkdir(exist_ok=True)
        for picture in folder.glob("*.png"):
            shutil.copy(picture, images)
        korean = english.with_name("README.ko.md")
        if english.parent.name == "en":
            korean = _DOCS / "ko" / english.name
        if korean.exists():
            write(korean, outputs)
