"""Files of weights: by order, by name, with mismatches; all weights are taken or none."""

import os
import struct
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import safetensors.numpy

import recurrax as rx
from recurrax.saving import LoadError, atomic

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


def model(units=4, names=("lstm", "out"), **options):
    return rx.Sequential(
        [
            rx.Input((5, 3)),
            rx.layers.LSTM(units, name=names[0], **options),
            rx.layers.Dense(2, name=names[1]),
        ]
    )


@pytest.fixture(params=[".weights.h5", ".safetensors"])
def path(request, tmp_path):
    return tmp_path / f"m{request.param}"


def weights(m):
    return [w.copy() for w in m.get_weights()]


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_weights_come_back(path):
    saved, other = model(), model()
    saved.save_weights(path)
    other.load_weights(path)
    assert equal(weights(saved), weights(other))


def test_seeds_come_back_so_that_dropout_goes_on(path):
    saved, other = model(dropout=0.5), model(dropout=0.5)
    saved(X, training=True)
    saved.save_weights(path)
    other.load_weights(path)
    np.testing.assert_array_equal(saved(X, training=True), other(X, training=True))


@pytest.mark.parametrize("skip", [False, True])
def test_what_does_not_fit_changes_nothing_or_is_left_out(path, skip):
    saved, other = model(4), model(5)
    saved.save_weights(path)
    before = weights(other)
    if skip:
        with pytest.warns(UserWarning, match="left out.*shape"):
            other.load_weights(path, skip_mismatch=True)
        assert equal(before[:3] + weights(saved)[4:], weights(other)[:3] + weights(other)[4:])
    else:
        with pytest.raises(LoadError, match=r"nothing was changed.*\(3, 20\).*\(3, 16\)"):
            other.load_weights(path)
        assert equal(before, weights(other))


def test_by_name_only_layers_of_the_same_name_are_given_weights(path):
    saved, other = model(), model(names=("lstm", "another"))
    saved.save_weights(path)
    before = weights(other)
    other.load_weights(path, by_name=True)
    assert equal(weights(saved)[:3] + before[3:], weights(other))
    with pytest.raises(LoadError, match="nothing was changed"):
        model(5).load_weights(path, by_name=True)


def test_by_name_goes_by_names_not_by_order(path):
    first = rx.Sequential(
        [rx.Input((3,)), rx.layers.Dense(3, name="a"), rx.layers.Dense(3, name="b")]
    )
    other = rx.Sequential(
        [rx.Input((3,)), rx.layers.Dense(3, name="b"), rx.layers.Dense(3, name="a")]
    )
    first.save_weights(path)
    other.load_weights(path, by_name=True)
    assert equal(weights(first), weights(other)[2:] + weights(other)[:2])


def test_surplus_weights_are_refused(path):
    longer = rx.Sequential([rx.Input((5, 3)), *model().layers, rx.layers.Dense(1)])
    longer.save_weights(path)
    with pytest.raises(LoadError, match="which the model does not have"):
        model().load_weights(path)


def test_weights_of_a_whole_model_can_be_taken(tmp_path):
    saved, other = model(), model()
    saved.save(tmp_path / "m.keras")
    other.load_weights(tmp_path / "m.keras")
    assert equal(weights(saved), weights(other))


def test_safetensors_are_what_the_library_of_that_name_reads_and_writes(tmp_path):
    path = tmp_path / "m.safetensors"
    saved, other = model(), model()
    saved.save_weights(path)
    read = safetensors.numpy.load_file(path)
    assert set(read) == {
        *(f"layers.lstm.cell.{n}" for n in ("kernel", "recurrent_kernel", "bias")),
        *(f"layers.dense.{n}" for n in ("kernel", "bias")),
    }
    np.testing.assert_array_equal(read["layers.dense.kernel"], saved.layers[1].kernel.numpy())
    safetensors.numpy.save_file(read, path)
    other.load_weights(path)
    assert equal(weights(saved), weights(other))


def header(text, body=b""):
    return struct.pack("<Q", len(text)) + text + body


def entry(shape="[1]", offsets="[0, 4]", dtype="F32"):
    text = f'{{"dtype": "{dtype}", "shape": {shape}, "data_offsets": {offsets}}}'
    return f'{{"a": {text}, "b": {text}}}'.encode()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "cut off"),
        (struct.pack("<Q", 2**60), "cut off"),
        (header(b"[]"), "no dictionary"),
        (header(b'{"a": 1}'), "describes 'a'"),
        (header(entry("[9]"), b"1234"), "shape"),
        (header(entry(), b"123"), "shape"),
        (header(entry("[-1, -1]"), b"1234"), "describes"),
        (header(entry("[1.5]"), b"1234"), "describes"),
        (header(entry("[4294967296, 4294967296]"), b"1234"), "shape"),
        (header(entry(dtype="O"), b"1234"), "describes"),
        (header(entry(), b"123456789"), "gaps"),
        (header(entry(), b"1234"), "over each other"),
    ],
)
def test_a_wrong_safetensors_file_is_refused(data, complaint, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(LoadError, match=complaint):
        model().load_weights(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty. Copy or download"),
        (b"<!doctype html>", "begins with b'<!doctyp'. It is damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_a_file_that_is_something_else_says_so(data, complaint, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(data)
    with pytest.raises(LoadError, match=complaint):
        rx.models.load_model(path)
    with pytest.raises(LoadError, match=complaint):
        model().load_weights(path)


def test_bad_paths_are_refused(tmp_path):
    m = model()
    with pytest.raises(ValueError, match=r"ends in '.weights.h5' or '.safetensors'"):
        m.save_weights(tmp_path / "m.h5")
    with pytest.raises(ValueError, match=r"ends in '.keras'"):
        m.save(tmp_path / "m.h5")
    with pytest.raises(FileNotFoundError, match="Make it first"):
        m.save(tmp_path / "none" / "m.keras")
    with pytest.raises(FileNotFoundError):
        m.load_weights(tmp_path / "m.weights.h5")
    m.save(tmp_path / "m.keras")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        m.save(tmp_path / "m.keras", overwrite=False)
    with pytest.raises(ValueError, match="no weights yet"):
        rx.Sequential([rx.layers.Dense(1)]).save(tmp_path / "n.keras")


def test_a_save_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path):
    path = tmp_path / "m.keras"
    model().save(path)
    old = path.read_bytes()

    class Unsaveable(rx.Layer):
        def save_own_variables(self, store):
            raise RuntimeError("the disk is full")

        def call(self, inputs):
            return inputs

    with pytest.raises(RuntimeError, match="full"):
        rx.Sequential([rx.Input((3,)), Unsaveable()]).save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["m.keras"]


WRITER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("atomic", sys.argv[1])
atomic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
print("begins", flush=True)
while True:
    for letter in (b"a", b"b"):
        atomic.write_bytes(sys.argv[2], letter * 3_000_000)
"""


def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "m.keras"
    rng = np.random.default_rng(0)
    for _ in range(12):
        path.write_bytes(b"old" * 1_000_000)
        command = [sys.executable, "-c", WRITER, atomic.__file__, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            child.kill()
        data = path.read_bytes()
        assert data in (b"old" * 1_000_000, b"a" * 3_000_000, b"b" * 3_000_000)
    atomic.remove_leftovers(tmp_path, "m.keras")
    assert os.listdir(tmp_path) == ["m.keras"]


def test_the_file_keeps_its_permissions_and_a_link_its_target(tmp_path):
    path = tmp_path / "m.keras"
    model().save(path)
    path.chmod(0o640)
    (tmp_path / "link.keras").symlink_to(path)
    model().save(tmp_path / "link.keras")
    assert (tmp_path / "link.keras").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640


def test_files_of_keras_2_13_name_their_layers_otherwise(tmp_path):
    saved, other = model(), model()
    saved.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    other.load_weights(tmp_path / "m.weights.h5")
    assert equal(weights(saved), weights(other))
