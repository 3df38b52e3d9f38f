"""`.h5` files of tf.keras 2: a model's configuration in an attribute, weights by layer."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recurrax.layers import Layer
from recurrax.saving import hdf5, strict_json, transfer
from recurrax.saving.errors import LoadError, as_load_error
from recurrax.saving.from_config import model_from_record
from recurrax.saving.hdf5 import File
from recurrax.saving.limits import DEFAULT, Limits
from recurrax.saving.tree import Node
from recurrax.variable import initialized_last

_GROUP = "model_weights"


def is_legacy(file: File) -> bool:
    """Whether an HDF5 file is laid out as tf.keras 2 did."""
    return "layer_names" in _chunked_keys(file.attributes.get(_root(file), {}))


def load_model(
    data: bytes, custom_objects: Mapping[str, Any] | None = None, limits: Limits = DEFAULT
) -> Any:
    """The model that an `.h5` file of tf.keras 2 holds: architecture and weights, not compiled.

    Raises:
        LoadError: no such file, or one that names what is not known here.
    """
    file = hdf5.read_file(data, limits)
    config = file.attributes.get("", {}).get("model_config")
    if not isinstance(config, str):
        raise LoadError(
            "The HDF5 file is no model: the attribute 'model_config' is missing. Where it holds "
            "weights alone, make the model and call load_weights()."
        )
    record = strict_json.parse(config, "'model_config' of the HDF5 file", limits)
    room = limits.spare_bytes + limits.weights_per_byte * len(data)
    with as_load_error("The model cannot be made"), initialized_last():
        model = model_from_record(
            record, custom_objects, min(room, limits.weights_bytes), limits, compile=False
        )
        if not model.built and file.arrays:
            raise LoadError(
                f"The HDF5 file's model {model.name!r} does not say the shape of its input: build "
                "a model of the same layers yourself, beginning with an Input, and call "
                "load_weights()."
            )
        fill(model, file)
    return model


def fill(model: Any, file: File, by_name: bool = False, skip_mismatch: bool = False) -> None:
    """Give the model's layers the weights in `file`, in order or by name.

    Raises:
        LoadError: they do not fit; nothing was changed.
    """
    saved = _saved_layers(file)
    layers = [layer for layer in model.layers if layer.weights]
    if by_name:
        pairs = [(layer, saved[layer.name]) for layer in layers if layer.name in saved]
    else:
        full = [arrays for arrays in saved.values() if arrays]
        if len(full) != len(layers):
            raise LoadError(
                f"The HDF5 file has weights for {len(full)} layers, but the model has "
                f"{len(layers)} layers with weights: {[layer.name for layer in layers][:8]}."
            )
        pairs = list(zip(layers, full, strict=True))
    problems: list[str] = []
    assignments: list[Callable[[], Any]] = []
    for layer, arrays in pairs:
        variables = _in_order(layer)
        named = {str(i): array for i, array in enumerate(arrays)}
        problem = transfer.mismatch(Node(layer.name, layer, layer.name), variables, named)
        if problem:
            problems.append(problem)
        else:
            assignments += [
                lambda v=v, a=a: v.assign(a) for v, a in zip(variables, arrays, strict=True)
            ]
    transfer.report(problems, skip_mismatch)
    transfer.all_or_none([v for layer in layers for v in layer.weights], assignments)


def _in_order(layer: Layer) -> list[Any]:
    """Weights made to be trained, then the others, as tf.keras 2 lists those of a layer."""
    return sorted(layer.weights, key=lambda variable: not variable.trainable)


def _root(file: File) -> str:
    return _GROUP if _GROUP in file.groups else ""


def _saved_layers(file: File) -> dict[str, list[np.ndarray]]:
    """Each layer's arrays, in the order of the file."""
    root = _root(file)
    saved: dict[str, list[np.ndarray]] = {}
    for name in _names(file.attributes.get(root, {}), "layer_names"):
        path = f"{root}/{name}" if root else name
        arrays = []
        for weight in _names(file.attributes.get(path, {}), "weight_names"):
            array = file.arrays.get(f"{path}/{weight}")
            if array is None:
                raise LoadError(f"The HDF5 file lists the weight {weight!r}, but has none.")
            arrays.append(array)
        if name in saved:
            raise LoadError(f"The HDF5 file lists the layer {name!r} twice.")
        saved[name] = arrays
    return saved


def _names(attributes: Mapping[str, Any], key: str) -> list[str]:
    """A list of names, which long ones are split over several attributes."""
    parts = [attributes[key]] if key in attributes else []
    while f"{key}{len(parts)}" in attributes:
        parts.append(attributes[f"{key}{len(parts)}"])
    names: list[str] = []
    for part in parts:
        if not isinstance(part, np.ndarray) or part.ndim > 1 or part.dtype.kind not in "SO":
            if isinstance(part, np.ndarray) and part.size == 0:
                continue
            raise LoadError(f"The HDF5 file has no list of names as its attribute {key!r}.")
        names += [
            raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
            for raw in part.reshape(-1).tolist()
        ]
    return names


def _chunked_keys(attributes: Mapping[str, Any]) -> set[str]:
    return {key.rstrip("0123456789") for key in attributes}
