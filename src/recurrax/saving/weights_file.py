"""Files of weights alone: `.weights.h5`, as in Keras, and `.safetensors`."""

import os
from typing import Any

from recurrax.saving import (
    archive,
    atomic,
    h5_format,
    hdf5,
    legacy_h5,
    safetensors_format,
    transfer,
)
from recurrax.saving.errors import LoadError, not_a_file_of
from recurrax.saving.limits import DEFAULT, Limits
from recurrax.saving.model_file import check_overwrite, read_bytes
from recurrax.saving.store import Store
from recurrax.saving.tree import walk

_SAFETENSORS = ".safetensors"


def save_weights(model: Any, filepath: Any, overwrite: bool = True) -> None:
    """Save the weights of a model, without its architecture and optimizer.

    Args:
        model: the model.
        filepath: where to, ending in `.weights.h5` or `.safetensors`.
        overwrite: whether a file that is there may be replaced.

    Raises:
        ValueError: another ending, or the model has no weights yet.
        FileExistsError: there is a file and `overwrite=False`.
    """
    path = os.fspath(filepath)
    if not path.endswith((".weights.h5", _SAFETENSORS)):
        raise ValueError(
            "save_weights() expected a path that ends in '.weights.h5' or '.safetensors', but got "
            f"{path!r}."
        )
    if not model.built:
        raise ValueError(f"Model {model.name!r} has no weights yet: call it on data first.")
    check_overwrite(path, overwrite)
    store = transfer.collect(model, with_optimizer=False)
    if path.endswith(_SAFETENSORS):
        data = safetensors_format.write(store, walk(model))
    else:
        data = h5_format.write(store)
    atomic.write_bytes(path, data)


def load_weights(
    model: Any,
    filepath: Any,
    skip_mismatch: bool = False,
    by_name: bool = False,
    limits: Limits = DEFAULT,
) -> None:
    """Load weights into a model; all of them, or on an error none.

    Args:
        model: the model, with its weights made.
        filepath: a file of `save_weights` or of Keras (`.weights.h5`), a `.safetensors` file of
            `save_weights`, a `.keras` model, or an `.h5` file of tf.keras 2.
        skip_mismatch: leave layers alone whose weights are missing or differ, with a warning.
        by_name: give each layer the weights of the layer of its name, and leave layers alone of
            whose name the file has none.
        limits: what the file may ask for.

    Raises:
        LoadError: not such a file, or its weights do not fit.
        FileNotFoundError: there is no such file.
    """
    data = read_bytes(filepath)
    if data[:2] == archive.SIGNATURE:
        members = archive.read_directory(data, limits)
        if "model.weights.h5" not in members:
            raise LoadError("The archive holds no weights ('model.weights.h5').")
        store = h5_format.read(archive.read_member(data, members["model.weights.h5"]), limits)
    elif data[:4] == b"\x89HDF":
        file = hdf5.read_file(data, limits)
        if legacy_h5.is_legacy(file):
            legacy_h5.fill(model, file, by_name, skip_mismatch)
            return
        store = h5_format.from_file(file)
    elif data[8:9] != b"{" and not os.fspath(filepath).endswith(_SAFETENSORS):
        raise not_a_file_of("one of weights (HDF5, .keras or safetensors)", data)
    else:
        store = safetensors_format.read(data, walk(model), limits)
    if by_name:
        _fill_by_name(model, store, skip_mismatch)
    else:
        transfer.fill(model, store, with_optimizer=False, skip_mismatch=skip_mismatch)


def _fill_by_name(model: Any, store: Store, skip_mismatch: bool) -> None:
    """Fill each layer of the model from the layer of its name."""
    places = {name: path for path, name in store.names.items() if _is_layer(path)}
    renamed = Store()
    for node in walk(model):
        if not _is_layer(node.path):
            continue
        place = places.get(node.name)
        if place is None:
            continue
        for path, arrays in store.arrays.items():
            if path == place or path.startswith(f"{place}/"):
                renamed.arrays[node.path + path[len(place) :]] = arrays
    chosen = {path.split("/")[1] for path in renamed.arrays}
    wanted = [n for n in walk(model) if n.path.startswith("layers/")]
    wanted = [n for n in wanted if n.path.split("/")[1] in chosen]
    transfer.fill_nodes(wanted, renamed, skip_mismatch)


def _is_layer(path: str) -> bool:
    """Whether a path is that of one of the model's own layers."""
    return path.startswith("layers/") and path.count("/") == 1
