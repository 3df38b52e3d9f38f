"""Makers of files that somebody might send, and what the loader is to say to them."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest

import recurrax as rx
from recurrax.saving import LoadError, load_model


def small_model() -> Any:
    """A model whose file is small and loads fast."""
    return rx.Sequential([rx.Input((3, 2)), rx.layers.SimpleRNN(2), rx.layers.Dense(1)])


def model_bytes(model: Any | None = None) -> bytes:
    """The `.keras` file of a model."""
    buffer = io.BytesIO()
    rx.saving.save_model(model or small_model(), buffer)
    return buffer.getvalue()


def refused(data: bytes, match: str | None = None, **options: Any) -> None:
    """Fail unless loading `data` raises the loader's own error."""
    with pytest.raises(LoadError, match=match):
        load_model(io.BytesIO(data), **options)


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def with_config(change: Callable[[Any], Any], data: bytes | None = None) -> bytes:
    """A good file with another configuration."""
    content = members(data or model_bytes())
    config = json.loads(content["config.json"])
    content["config.json"] = json.dumps(change(config) or config).encode()
    return zipped(content)


def with_layer(record: Any, data: bytes) -> bytes:
    """A good file with `record` for its last layer."""

    def change(config):
        config["config"]["layers"][-1] = record

    return with_config(change, data)


def with_units(units: Any, data: bytes) -> bytes:
    """A good file whose last layer has other units."""

    def change(config):
        config["config"]["layers"][-1]["config"]["units"] = units

    return with_config(change, data)


def with_weights(change: Callable[[h5py.File], Any], data: bytes | None = None) -> bytes:
    """A good file with other weights."""
    content = members(data or model_bytes())
    buffer = io.BytesIO(content["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    content["model.weights.h5"] = buffer.getvalue()
    return zipped(content)


def raw_zip(entries: list[dict[str, Any]]) -> bytes:
    """An archive whose statements are all free: name, data, method, size, attributes, start."""
    body, directory = b"", b""
    for entry in entries:
        name, data = entry["name"].encode(), entry.get("data", b"")
        packed = data
        if entry.get("method", 0) == 8:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = packer.compress(data) + packer.flush()
        packed = entry.get("packed", packed)
        size = entry.get("size", len(data))
        start = entry.get("start", len(body))
        head = (entry.get("flags", 0), entry.get("method", 0), 0, 0x21, zlib.crc32(data))
        sizes = (len(packed), size)
        if "start" not in entry:
            body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, *head, *sizes, len(name), 0)
            body += name + packed
        directory += struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\1\2", 0x0314, 20, *head, *sizes, len(name), 0, 0, 0, 0),
            *(entry.get("attributes", 0o100644 << 16), start),
        )
        directory += name
    count = len(entries)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


def h5(write: Callable[[h5py.File], Any]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write(file)
    return buffer.getvalue()


def array(file: h5py.File) -> h5py.Dataset:
    """A dataset that the small model's file has: the kernel of its Dense, of shape (2, 1)."""
    found = file["layers/dense/vars/0"]
    assert isinstance(found, h5py.Dataset)
    assert found.shape == (2, 1)
    return found


def replaced(file: h5py.File, **dataset: Any) -> None:
    """Put another dataset in the place of `array`."""
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", **dataset)


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes that stand in `data` once."""
    assert len(old) == len(new)
    assert data.count(old) == 1
    return data.replace(old, new)


def values() -> np.ndarray:
    return np.arange(2, dtype="float32").reshape(2, 1)
