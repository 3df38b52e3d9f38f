"""README's table against what the trials give, where that is quick to try."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "capabilities"
# Trials of Keras that take seconds are left to the script.
COSTLY = ("cell", "mask", "training keeps")


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("table")


@pytest.mark.parametrize("framework", ["recurrax", "Keras (JAX)"])
def test_the_table_says_what_the_trials_give(table, framework):
    column = table.FRAMEWORKS.index(framework) + 1
    shown = table.written(table.READMES[0])
    assert [row[0] for row in shown] == table.rows()
    for row in shown:
        if framework == "recurrax" or not any(word in row[0] for word in COSTLY):
            assert row[column] == table.answer(row[0], framework), row[0]


def test_the_korean_table_is_the_same(table):
    english, korean = map(table.written, table.READMES)
    assert korean == [[table.KOREAN[word] for word in row] for row in english]
