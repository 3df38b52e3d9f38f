"""A functional model as data, in Keras 3's format."""

import collections
import inspect
from typing import Any

from recurrax.layers import operation_config
from recurrax.layers.graph import SymbolicTensor, replace_symbols
from recurrax.layers.input_layer import InputLayer
from recurrax.layers.operation import Operation
from recurrax.registry import count_made, custom_object_scope, deserialize, serialize


def made_like_functional(cls: type) -> bool:
    """Whether `cls(inputs, outputs, name=...)` makes one of the class."""
    parameters = inspect.signature(cls.__init__).parameters
    kinds = {p.kind for p in parameters.values()}
    return {"inputs", "outputs"} <= set(parameters) or kinds >= {
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    }


def to_config(model: Any) -> dict[str, Any]:
    """The model's layers, each with its calls, and which tensors are inputs and outputs.

    Raises:
        ValueError: an operation that has no name in `recurrax.ops`.
    """
    network = model.network

    def tensor_record(tensor: SymbolicTensor) -> dict[str, Any]:
        history = list(network.history(tensor))
        config = {"shape": tensor.shape, "dtype": tensor.dtype, "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}

    def calls(layer: Any) -> list[dict[str, Any]]:
        if isinstance(layer, InputLayer):
            return []
        made = []
        for node in network.calls_of(layer):
            args, kwargs = node.args, node.kwargs
            if isinstance(layer, Operation):
                args, kwargs = operation_config.call_arguments(layer, args, kwargs)
            record = replace_symbols({"args": args, "kwargs": kwargs}, tensor_record)
            made.append(serialize(record))
        return made

    def record(layer: Any) -> dict[str, Any]:
        if isinstance(layer, Operation):
            data = operation_config.to_record(layer, network.calls_of(layer)[0])
        else:
            data = serialize(layer)
        return {**data, "name": layer.name, "inbound_nodes": calls(layer)}

    def place(tensor: SymbolicTensor) -> Any:
        name, number, index = network.history(tensor)
        return _Place(name, number + _offset(model.get_operation(name)), index)

    def places(tree: Any) -> Any:
        """Tensors as [layer, call, output], in the structure; one alone is not in a list."""
        return _unwrap(replace_symbols(tree, place))

    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": [record(layer) for layer in network.layers],
        "input_layers": places(model.input),
        "output_layers": places(model.output),
    }


def _offset(layer: Any) -> int:
    """In its lists of inputs and outputs Keras counts a functional model's calls from 1."""
    return 1 if hasattr(layer, "network") else 0


class _Place:
    """Where a tensor comes from: no structure of its own."""

    def __init__(self, *history: Any) -> None:
        self.history = list(history)


def _unwrap(tree: Any) -> Any:
    if isinstance(tree, _Place):
        return tree.history
    if isinstance(tree, dict):
        return {key: _unwrap(value) for key, value in tree.items()}
    return type(tree)(_unwrap(item) for item in tree)


def from_config(cls: type, config: dict[str, Any], custom_objects: Any) -> Any:
    """The model that `to_config`, or Keras, wrote down.

    `training=False`, which Keras notes down at every call, is taken as not given.

    Raises:
        ValueError: a call that refers to something the configuration does not hold.
    """
    config = dict(config)
    layers: dict[str, Any] = {}
    calls: dict[str, list[Any]] = {}
    made: dict[tuple[str, int], list[Any]] = {}
    name = config.pop("name", None)
    with custom_object_scope(custom_objects or {}):
        for data in config.pop("layers"):
            layer = operation_config.from_record(data) or deserialize(
                {k: v for k, v in data.items() if k not in ("name", "inbound_nodes")}
            )
            layer_name = data.get("name", getattr(layer, "name", None))
            if layer_name in layers:
                raise ValueError(f"Two layers of the configuration are named {layer_name!r}.")
            layers[layer_name] = layer
            if isinstance(layer, InputLayer):
                made[layer_name, 0] = [layer.output]
            calls[layer_name] = list(data["inbound_nodes"])
        _call_all(layers, calls, made)

    def tensors(tree: Any) -> Any:
        if isinstance(tree, list | tuple) and len(tree) == 3 and isinstance(tree[0], str):
            name, number, index = tree
            return _output(made, name, number - _offset(layers.get(name)), index)
        if isinstance(tree, dict):
            return {key: tensors(value) for key, value in tree.items()}
        return type(tree)(tensors(item) for item in tree)

    inputs, outputs = tensors(config.pop("input_layers")), tensors(config.pop("output_layers"))
    trainable = config.pop("trainable", None)
    config.pop("dtype", None)
    model = cls(inputs=inputs, outputs=outputs, name=name, **config)
    if trainable is False:
        model.trainable = False
    return model


def _call_all(
    layers: dict[str, Any],
    calls: dict[str, list[Any]],
    made: dict[tuple[str, int], list[Any]],
) -> None:
    """Make the calls of each layer in order, each as soon as what it is called on is there."""
    ready = collections.deque(calls)
    waiting: dict[Any, list[str]] = {}
    done = dict.fromkeys(calls, 0)
    while ready:
        name = ready.popleft()
        while done[name] < len(calls[name]):
            try:
                args, kwargs = _arguments(calls[name][done[name]], made)
            except KeyError as missing:
                waiting.setdefault(missing.args[0], []).append(name)
                break
            count_made()
            if kwargs.get("training") is False:
                del kwargs["training"]
            layer = layers[name]
            layer(*args, **kwargs)
            place = (name, done[name])
            made[place] = _leaves(layer._nodes[-1].outputs)
            done[name] += 1
            ready.extend(waiting.pop(place, ()))
    left = [name for name, number in done.items() if number < len(calls[name])]
    if left:
        raise ValueError(
            f"The configuration of the model is not connected: the layers {left[:8]} are called "
            "on tensors that it does not hold."
        )


def _arguments(call: Any, made: dict[tuple[str, int], list[Any]]) -> tuple[list[Any], dict]:
    """The arguments of one call; KeyError while one of them is not there yet."""
    if isinstance(call, list | tuple):  # the files of Keras 2: [[layer, call, output, kwargs], ...]
        tensors = [made[entry[0], entry[1]][entry[2]] for entry in call]
        kwargs = dict(call[0][3]) if call and len(call[0]) > 3 else {}
        return [tensors[0] if len(tensors) == 1 else tensors], kwargs

    def revive(data: Any) -> Any:
        if isinstance(data, dict):
            if data.get("class_name") == "__keras_tensor__":
                name, number, index = data["config"]["keras_history"]
                return made[name, number][index]
            if "class_name" in data:
                return deserialize(data)
            return {key: revive(value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return type(data)(revive(item) for item in data)
        return data

    return list(revive(call["args"])), revive(call["kwargs"])


def _output(made: dict[tuple[str, int], list[Any]], name: str, number: int, index: int) -> Any:
    try:
        return made[name, number][index]
    except (KeyError, IndexError):
        raise ValueError(
            f"The configuration of the model names output {index} of call {number} of the layer "
            f"{name!r}, which it does not hold."
        ) from None


def _leaves(tree: Any) -> list[Any]:
    found: list[Any] = []
    replace_symbols(tree, found.append)
    return found
