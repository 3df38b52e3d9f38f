"""Operations of a functional model as data: Keras's classes of `keras.ops`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from recurrax import ops
from recurrax.layers.operation import Operation, get_item
from recurrax.naming import to_snake_case
from recurrax.registry import deserialize, serialize, unknown_name

_NN = (
    *("relu", "relu6", "sigmoid", "softplus", "softsign", "silu", "log_sigmoid", "leaky_relu"),
    *("hard_sigmoid", "hard_silu", "hard_tanh", "elu", "selu", "celu", "gelu", "softmax"),
    *("log_softmax", "one_hot", "multi_hot", "moments", "normalize", "conv", "max_pool"),
    "average_pool",
)
_MODULES = {
    **dict.fromkeys(_NN, "nn"),
    **dict.fromkeys(
        ("cast", "shape", "stop_gradient", "slice", "scatter", "convert_to_tensor"), "core"
    ),
    **dict.fromkeys(("top_k", "logsumexp", "erf", "rsqrt", "segment_sum", "segment_max"), "math"),
    **dict.fromkeys(("norm", "inv", "det", "solve", "qr"), "linalg"),
}
# How many leading arguments of an operation are tensors in Keras's class; of the others, one.
_TENSORS = {
    **dict.fromkeys(
        (
            *("add", "subtract", "multiply", "divide", "true_divide", "floor_divide", "mod"),
            *("power", "matmul", "maximum", "minimum", "equal", "not_equal", "less", "less_equal"),
            *("greater", "greater_equal", "logical_and", "logical_or", "logical_xor", "arctan2"),
            *("take", "get_item", "outer", "inner", "dot", "cross", "squared_difference"),
        ),
        2,
    ),
    "where": 3,
}
_RENAMED = {"shape": "newshape", "reps": "repeats"}


@functools.cache
def operations() -> dict[str, Callable[..., Any]]:
    """The operations of `recurrax.ops`, by name."""
    return {name: value for name, value in vars(ops).items() if callable(value)}


def _split(
    layer: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """A call's tensors, and its settings by name."""
    if layer.kind not in operations():
        raise ValueError(
            f"The operation {layer.name!r} cannot be saved, since recurrax.ops does not have it: "
            "use a function of recurrax.ops, or a layer of your own."
        )
    if layer.kind == "einsum":
        return list(args[1:]), {"subscripts": args[0], **kwargs}
    function = layer.function
    names = list(inspect.signature(function).parameters)
    count = _TENSORS.get(layer.kind, 1)
    settings = dict(zip(names[count:], args[count:], strict=False)) | kwargs
    return list(args[:count]), {_RENAMED.get(k, k): v for k, v in settings.items()}


def call_arguments(
    layer: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that are part of the call, not of the operation."""
    return tuple(_split(layer, args, kwargs)[0]), {}


def to_record(layer: Operation, node: Any) -> dict[str, Any]:
    """The operation in Keras's format.

    Raises:
        ValueError: it is no operation of `recurrax.ops`.
    """
    settings = _split(layer, node.args, node.kwargs)[1]
    return {
        "module": f"keras.src.ops.{_MODULES.get(layer.kind, 'numpy')}",
        "class_name": layer.class_name,
        "config": serialize({"name": layer.name, **settings}),
        "registered_name": layer.class_name,
    }


def from_record(record: Any) -> Operation | None:
    """The operation of a record, None where it is none of an operation."""
    module = str(record.get("module") or "")
    if not module.startswith(("keras.src.ops.", "keras.ops")):
        return None
    kind = to_snake_case(record["class_name"])
    function = get_item if kind == "get_item" else operations().get(kind)
    if function is None:
        raise unknown_name("operation", kind, operations())
    settings = deserialize(record["config"])
    name = settings.pop("name", None)
    if "newshape" in settings:
        settings = {"newshape": tuple(settings["newshape"])}
    if "subscripts" in settings:
        function = functools.partial(function, settings.pop("subscripts"))
    return _Restored(kind, function, name, settings)


class _Restored(Operation):
    """An operation with its settings, as a configuration gives it."""

    def __init__(
        self, kind: str, function: Callable[..., Any], name: str, settings: dict[str, Any]
    ) -> None:
        super().__init__(kind, function, name)
        self._settings = settings

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **{**self._settings, **kwargs})
