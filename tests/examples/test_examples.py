"""The examples at reduced size: they run through and learn something."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_digits(example, tmp_path, capsys):
    accuracy = example("digits").main(epochs=5, plot=str(tmp_path / "digits.png"))
    assert accuracy > 0.5  # one in ten would be chance
    assert (tmp_path / "digits.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "Total params: 101,194" in shown
    assert "right: " in shown
    assert len((EXAMPLES / "digits.py").read_text("utf-8").splitlines()) < 80


def test_mnist_rows(example, tmp_path):
    module = example("mnist_rows")
    assert module.main(epochs=3) > 0.7
    images, labels = module.load()
    pixels = (images[:20] * 255).astype(np.uint8)
    head = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes()
    (tmp_path / "images").write_bytes(head + pixels.tobytes())
    head = bytes([0, 0, 8, 1]) + np.array([20], ">u4").tobytes()
    (tmp_path / "labels").write_bytes(head + labels[:20].astype(np.uint8).tobytes())
    x, y = module.load(tmp_path / "images", tmp_path / "labels")
    np.testing.assert_allclose(x, pixels / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, labels[:20])


def test_shakespeare(example, tmp_path, capsys):
    module = example("shakespeare")
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 800)
    loss = module.main(text=text, epochs=3, units=32, batch=8, steps=16, write_n=30)
    assert loss < 1.5  # far below the 2.4 of the letters' frequencies alone
    assert "It writes:\n\nthe cat sat on the m" in capsys.readouterr().out
    assert len(module.load(letters=500)) == 500


def test_forecast(example, tmp_path):
    module = example("forecast")
    plot = tmp_path / "forecast.png"
    assert module.main(epochs=4, hours=24 * 200, plot=str(plot)) < 0.9
    assert plot.stat().st_size > 10_000
    (tmp_path / "data.csv").write_text("date,a,b\nmonday,1,2.5\ntuesday,3,4\n")
    names, data = module.read_csv(tmp_path / "data.csv")
    assert names == ["a", "b"]
    np.testing.assert_array_equal(data, [[1, 2.5], [3, 4]])


def test_custom_cell(example, capsys):
    results = example("custom_cell").main(units=16, batch=2, timesteps=10, features=8, rounds=2)
    assert len(results) == 3
    assert "inside, step by step" in capsys.readouterr().out


def test_translate_dates(example, capsys):
    module = example("translate_dates")
    right = module.main(epochs=1, samples=256)
    assert 0 <= right <= 1
    assert "Right, of 500" in capsys.readouterr().out
    texts, isos = module.dates(3)
    assert all(len(iso) == 10 for iso in isos)
    assert module.encode(texts).shape == (3, module.LONGEST)


def test_every_example_says_how_to_run_it():
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text("utf-8")
        assert f"python examples/{path.name}" in text
