"""Every code block of the guide runs and prints what the guide shows."""

import importlib.util
import re
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("blocks", Path(__file__).with_name("blocks.py"))
blocks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(blocks)

DOCS = Path(__file__).parents[2] / "docs"
CHAPTERS = sorted(path.name for path in (DOCS / "en").glob("*.md"))


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_chapter_shows_what_its_code_prints(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    chapter = DOCS / "en" / name
    shown = [block.output for block in blocks.read(chapter)]
    assert blocks.run(chapter, tmp_path) == shown


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_korean_chapter_has_the_same_code(name):
    english, korean = (blocks.read(DOCS / language / name) for language in ("en", "ko"))
    assert [block.meaning for block in korean] == [block.meaning for block in english]
    assert [block.output for block in korean] == [block.output for block in english]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_links_and_pictures_lead_somewhere(language):
    for chapter in (DOCS / language).glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)[)#]", chapter.read_text("utf-8")):
            # What the Korean folder lacks is taken from the English one.
            places = [DOCS / language / target, DOCS / "en" / target]
            assert any(place.exists() for place in places), f"{chapter.name}: {target}"


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_the_readme_runs(readme, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    path = DOCS.parent / readme
    found = blocks.read(path)
    assert found
    if readme == "README.md":
        assert blocks.run(path, tmp_path) == [block.output for block in found]
    else:
        english = blocks.read(DOCS.parent / "README.md")
        assert [block.meaning for block in found] == [block.meaning for block in english]
