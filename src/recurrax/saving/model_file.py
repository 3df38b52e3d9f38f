"""`.keras` files: a zip archive of a configuration and the weights."""

import datetime
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recurrax.saving import archive, atomic, h5_format, legacy_h5, strict_json, transfer
from recurrax.saving.errors import LoadError, as_load_error, not_a_file_of
from recurrax.saving.from_config import model_from_record, to_record
from recurrax.saving.limits import DEFAULT, Limits
from recurrax.variable import initialized_last

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_HDF5 = b"\x89HDF"
# The version of Keras whose format this is.
_FORMAT = "3.12.0"


def save_model(
    model: Any,
    filepath: Any,
    overwrite: bool = True,
    include_optimizer: bool = True,
) -> None:
    """Save a model: architecture, weights, and where it is compiled, the optimizer's state.

    Keras 3 opens the file too. It is whole or not there: a process that is killed leaves the old
    file or the new one.

    Args:
        model: the model.
        filepath: where to, ending in `.keras`, or a binary file.
        overwrite: whether a file that is there may be replaced.
        include_optimizer: whether training is to go on from the file.

    Raises:
        ValueError: another ending, a model that is not built, or one that cannot be described.
        FileExistsError: there is a file and `overwrite=False`.
    """
    if not hasattr(filepath, "write"):
        path = os.fspath(filepath)
        if not path.endswith(".keras"):
            raise ValueError(
                f"save() expected a path that ends in '.keras', but got {path!r}: other formats "
                "are written by save_weights() (.weights.h5, .safetensors) and export() (.onnx)."
            )
        check_overwrite(path, overwrite)
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} has no weights yet, so there is nothing to save: call it on "
            "data, call build(input_shape), or begin it with an Input."
        )
    record = to_record(model, with_compile=include_optimizer)
    metadata = {
        "keras_version": _FORMAT,
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
    }
    members = {
        _METADATA: json.dumps(metadata).encode(),
        _CONFIG: json.dumps(record, allow_nan=False).encode(),
        _WEIGHTS: h5_format.write(transfer.collect(model, include_optimizer)),
    }
    if hasattr(filepath, "write"):
        buffer = io.BytesIO()
        archive.write_archive(buffer, members)
        filepath.write(buffer.getvalue())
    else:
        atomic.write_file(filepath, lambda file: archive.write_archive(file, members))


def check_overwrite(path: str, overwrite: bool) -> None:
    """Raise FileExistsError where there is a file that must not be replaced."""
    if not overwrite and os.path.exists(path):
        raise FileExistsError(
            f"There is a file at {path!r} and overwrite=False: pass another path, or "
            "overwrite=True."
        )


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    limits: Limits = DEFAULT,
) -> Any:
    """Load a model that `save` wrote, here or in Keras 3, or an `.h5` model of tf.keras 2.

    Nothing in the file is run: it names classes, which are looked up among those of this package
    and those that you registered.

    Args:
        filepath: the file, or a binary file that is open for reading.
        custom_objects: classes and functions of yours that it names.
        compile: whether to compile the model as it was, with the optimizer's state.
        safe_mode: without effect; loading is always safe.
        limits: what the file may ask for.

    Raises:
        LoadError: a file that is not what it says, names what is not known here, holds code, or
            asks for more than `limits`.
        FileNotFoundError: there is no such file.
    """
    data = filepath.read() if hasattr(filepath, "read") else read_bytes(filepath)
    if data[:4] == _HDF5:
        return legacy_h5.load_model(data, custom_objects, limits)
    if data[:2] != archive.SIGNATURE:
        raise not_a_file_of("a model (a .keras archive or an HDF5 file)", data)
    members = archive.read_directory(data, limits)
    if _CONFIG not in members or _WEIGHTS not in members:
        raise LoadError(
            f"The archive is no model: {_CONFIG!r} and {_WEIGHTS!r} are expected in it, but it "
            f"holds {sorted(members)[:8]}."
        )
    if members[_CONFIG].size > limits.json_bytes:
        raise LoadError(f"{_CONFIG!r} is larger than the limit json_bytes={limits.json_bytes:,}.")
    record = strict_json.parse(
        bytes(archive.read_member(data, members[_CONFIG])), f"{_CONFIG!r}", limits
    )
    store = h5_format.read(archive.read_member(data, members[_WEIGHTS]), limits)
    room = limits.spare_bytes + limits.weights_per_byte * members[_WEIGHTS].size
    with as_load_error("The model cannot be made"), initialized_last():
        model = model_from_record(
            record, custom_objects, min(room, limits.weights_bytes), limits, compile
        )
        if not model.built and store.size:
            raise LoadError(
                f"Model {type(model).__name__!r} has no weights after it was made from its "
                "configuration, but the file has some: give the class build_from_config(config), "
                "or build the model yourself and call load_weights()."
            )
        if compile:
            _build_optimizer(model, store)
        transfer.fill(model, store, with_optimizer=compile)
    return model


def _build_optimizer(model: Any, store: Any) -> None:
    """Make the optimizer's slots where the file has values for them."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and len(store.at("optimizer")) > len(optimizer.variables):
        optimizer.build(model.trainable_variables)


def read_bytes(path: Any) -> bytes:
    """The content of a file.

    Raises:
        LoadError: it is no plain file, which might have no end.
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise LoadError(f"{str(path)!r} is not a file.")
    return path.read_bytes()
