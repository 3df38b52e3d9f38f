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
        assert '"labels":[["no","yes"]]' in out.read_text("utf-8")
        out.unlink()


def test_view_of_a_model_with_two_inputs(tmp_path):
    a, b = (keras.Input((None,), dtype="int32", name=name) for name in "ab")
    both = layers.Add()([layers.SimpleRNN(2)(layers.Embedding(5, 2)(ids)) for ids in (a, b)])
    keras.Model([a, b], both).save(str(tmp_path / "two.keras"))
    np.savez(tmp_path / "ids.npz", a=[[1, 2]], b=[[1, 2, 3]])
    out = tmp_path / "page.html"
    arguments = ["view", str(tmp_path / "two.keras"), str(tmp_path / "ids.npz"), "--out", str(out)]
    assert main(arguments) == 0
    assert '{"name":"b","tokens":["1","2","3"]}' in out.read_text("utf-8")


def test_clear_cache(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "cache"
    monkeypatch.setenv("RECURRAX_CACHE_DIR", str(folder))
    assert main(["clear-cache"]) == 0
    assert "no cache" in capsys.readouterr().out
    for others in ([], ["diary.txt"]):  # a folder that is not the cache's alone loses nothing else
        folder.mkdir(exist_ok=True)
        for name in ("recurrax_one", ".recurrax_two.begun", *others):
            (folder / name).write_bytes(b"code")
        assert main(["clear-cache"]) == 0
        assert "Removed 2" in capsys.readouterr().out
        assert folder.exists() == bool(others)
    assert [file.name for file in folder.iterdir()] == others


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "missing.keras"], "There is no file 'missing.keras'"),
        (["summary", "{folder}"], "is not a file"),
        (["summary", "{folder}/notes.txt"], "notes.txt'. The file is not a model"),
        (["explain", "{file}", "--timesteps", "0"], "must be positive"),
        (["view", "{file}", "{folder}/notes.txt"], "must be a .npy, a .npz or a .csv"),
        (["view", "{file}", "missing.csv"], "There is no file 'missing.csv'"),
        (["view", "{file}", "{folder}/folder.csv"], "folder.csv': Is a directory"),
        (["view", "{file}", "{folder}/empty.csv"], "holds no samples"),
        (["view", "{file}", "{folder}/empty.npy"], "not a .npy file of numbers"),
        (["view", "{file}", "{folder}/flat.npy"], "array of shape (3,)"),
        (["view", "{file}", "{folder}/uneven.npz"], "numbers of samples: a 2, b 1"),
        (["view", "{file}", "missing.csv", "--samples", "0"], "must be positive"),
        (["convert", "{file}", "out.zip"], "must end in .keras"),
        (["convert", "{file}", "{folder}/folder.csv/a.keras/b.onnx"], "there is no folder"),
        (["demo", "--epochs", "0"], "must be positive"),
    ],
)
def test_a_mistake_is_explained_without_a_traceback(file, tmp_path, capsys, arguments, message):
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "folder.csv").mkdir()
    for name in ("empty.csv", "empty.npy"):
        (tmp_path / name).touch()
    np.save(tmp_path / "flat.npy", np.arange(3))
    np.savez(tmp_path / "uneven.npz", a=np.ones((2, 3)), b=np.ones((1, 3)))
    filled = [a.format(file=file, folder=tmp_path) for a in arguments]
    assert main(filled) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err + printed.out


def test_a_person_who_stops_it_sees_no_traceback(monkeypatch, capsys):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr("recurrax.__main__.info", stopped)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == ""


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
