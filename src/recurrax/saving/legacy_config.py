"""Configurations of tf.keras 2, in the form of Keras 3."""

from collections.abc import Mapping
from typing import Any

from recurrax import registry

# Where a class that a configuration of tf.keras 2 names without a module can stand.
_MODULES = (
    "keras.layers",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras",
    "keras.src.models.functional",
)
_RENAMED = {"Model": "Functional", "Policy": "DTypePolicy"}
_DROPPED = {
    "implementation",
    "ragged",
    "sparse",
    "time_major",
    "use_cudnn",
    "input_length",
}


def is_legacy(record: Any) -> bool:
    """Whether a configuration is one of tf.keras 2: its layers name no module."""
    if not isinstance(record, Mapping) or "class_name" not in record:
        return False
    return "module" not in record and "registered_name" not in record


def modernized(data: Any) -> Any:
    """A configuration of tf.keras 2 in the form of Keras 3.

    Args:
        data: a serialized object, or any part of one.
    """
    if isinstance(data, list):
        return [modernized(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    if not registry.is_record(data) or not isinstance(data["class_name"], str):
        return {key: modernized(value) for key, value in data.items()}
    name = _RENAMED.get(data["class_name"], data["class_name"])
    config = data["config"]
    if isinstance(config, list):  # a Sequential of the first versions: its layers alone
        config = {"layers": config}
    if name == "Sequential" and isinstance(config, Mapping):
        config = {**config, "layers": _with_input(config.get("layers"))}
    if isinstance(config, Mapping):
        config = {k: modernized(v) for k, v in config.items() if _wanted(name, k, v)}
        for key in ("input_layers", "output_layers"):
            if isinstance(config.get(key), list) and len(config[key]) == 1:
                (config[key],) = config[key]  # a list of one was the one
        if "batch_input_shape" in config and name == "InputLayer":
            config["batch_shape"] = config.pop("batch_input_shape")
    package, _, own = name.rpartition(">")
    record = {
        **{k: v for k, v in data.items() if k not in ("class_name", "config", "inbound_nodes")},
        "module": _module(name),
        "class_name": own,
        "config": config,
        "registered_name": name if package else None,
    }
    if "inbound_nodes" in data:
        record["inbound_nodes"] = [_node(node) for node in data["inbound_nodes"]]
    return record


def _with_input(layers: Any) -> Any:
    """The layers with an `InputLayer` in front, where the first of them says what it is fed."""
    first = layers[0] if isinstance(layers, list) and layers else None
    if not registry.is_record(first) or first.get("class_name") == "InputLayer":
        return layers
    config = first["config"]
    if not isinstance(config, Mapping) or "batch_input_shape" not in config:
        return layers
    dtype = "int32" if first["class_name"] == "Embedding" else "float32"
    fed = {"batch_input_shape": config["batch_input_shape"], "dtype": dtype}
    return [{"class_name": "InputLayer", "config": fed}, *layers]


def _wanted(name: str, key: str, value: Any) -> bool:
    if key == "batch_input_shape":
        return name == "InputLayer"
    if key == "time_major" and value:
        return True  # for the layer to refuse
    return key not in _DROPPED


def _module(name: str) -> str | None:
    for module in _MODULES:
        if name in registry.builtin_classes(module):
            return module
    return None


def _node(node: Any) -> Any:
    """One call of a layer: `[[name, node, tensor, keyword arguments], ...]`."""
    if isinstance(node, Mapping):
        return node
    keywords: dict[str, Any] = {}
    tensors = []
    for name, number, position, *rest in node:
        tensors.append(_tensor([name, number, position]))
        for key, value in (rest[0] if rest else {}).items():
            keywords[key] = _argument(value)
    return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": keywords}


def _argument(value: Any) -> Any:
    if isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str):
        return _tensor(value[:3])
    if isinstance(value, list):
        return [_argument(item) for item in value]
    return modernized(value)


def _tensor(history: list[Any]) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": history}}
