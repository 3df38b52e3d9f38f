"""The command line, as a person meets it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import recurrax as keras
from recurrax import layers
from recurrax.__main__ import main


@pytest.fixture
def file(tmp_path):
    model = keras.Sequential([layers.Embedding(9, 4), layers.LSTM(5), layers.Dense(2, "softmax")])
    model.save(str(tmp_path / "model.keras"))
    return str(tmp_path / "model.keras")


def test_summary_and_explain(file, capsys):
    assert main(["summary", file]) == 0
    assert "(LSTM)" in capsys.readouterr().out
    assert main(["explain", file, "--timesteps", "7"]) == 0
    assert "A loop of 7 steps" in capsys.readouterr().out


def test_info(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RECURRAX_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert keras.__version__ in shown
    assert "native, xla, lax" in shown
    assert "0 compiled" in shown


@pytest.mark.parametrize("ending", ["keras", "weights.h5", "safetensors"])
def test_convert(file, tmp_path, capsys, ending):
    target = str(tmp_path / f"other.{ending}")
    assert main(["convert", file, target]) == 0
    model = keras.saving.load_model(file)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    model.load_weights(target)
    expected = keras.saving.load_model(file).get_weights()
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert main(["convert", file, target]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["convert", file, target, "--force"]) == 0


def test_convert_to_onnx(file, tmp_path):
    target = tmp_path / "model.onnx"
    assert main(["convert", file, str(target)]) == 0
    ids = np.array([[1, 2, 3]])
    session = onnxruntime.InferenceSession(target.read_bytes())
    (given,) = session.get_inputs()
    dtype = {"tensor(int32)": "int32", "tensor(int64)": "int64"}.get(given.type, "float32")
    (output,) = session.run(None, {given.name: ids.astype(dtype)})
    np.testing.assert_allclose(output, keras.saving.load_model(file)(ids), atol=1e-5)


def test_view(file, tmp_path, capsys):
    (tmp_path / "ids.csv").write_text("1,2,3\n4,5\n\n")
    np.save(tmp_path / "ids.npy", np.array([[1, 2, 3]]))
    out = tmp_path / "page.html"
    for data in ("ids.csv", "ids.npy"):
        arguments = ["view", file, str(tmp_path / data), "--out", str(out), "--labels", "no,yes"]
        assert main(arguments) == 0
        assert f"Open {out}" in capsys.readouterr().out
        assert '"labels":["no","yes"]' in out.read_text("utf-8")
        out.unlink()


def test_clear_cache(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "cache"
    monkeypatch.setenv("RECURRAX_CACHE_DIR", str(folder))
    assert main(["clear-cache"]) == 0
    assert "no cache" in capsys.readouterr().out
    folder.mkdir()
    (folder / "one").write_bytes(b"code")
    assert main(["clear-cache"]) == 0
    assert "Removed 1" in capsys.readouterr().out
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "missing.keras"], "There is no file 'missing.keras'"),
        (["summary", "{not_a_model}"], "recurrax: "),
        (["explain", "{file}", "--timesteps", "0"], "must be positive"),
        (["view", "{file}", "{not_a_model}"], "must be a .npy or a .csv"),
        (["view", "{file}", "missing.csv"], "There is no file 'missing.csv'"),
        (["convert", "{file}", "out.zip"], "must end in .keras"),
        (["demo", "--epochs", "0"], "must be positive"),
    ],
)
def test_a_mistake_is_explained_without_a_traceback(file, tmp_path, capsys, arguments, message):
    wrong = tmp_path / "notes.txt"
    wrong.write_text("no model")
    filled = [a.format(file=file, not_a_model=wrong) for a in arguments]
    assert main(filled) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err + printed.out


def test_wrong_arguments_exit_with_2(capsys):
    for arguments in ([], ["sumary"], ["convert", "one"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "usage: recurrax" in capsys.readouterr().err


def test_demo_as_a_module():
    source = {**os.environ, "PYTHONPATH": str(Path(keras.__file__).parents[1])}
    ran = subprocess.run(
        [sys.executable, "-m", "recurrax", "demo", "--epochs", "1"],
        capture_output=True,
        text=True,
        env=source,
    )
    assert ran.returncode == 0, ran.stderr
    assert "lstm (LSTM)" in ran.stdout
    assert "How deep is each letter?" in ran.stdout
