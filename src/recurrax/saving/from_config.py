"""Models from configurations that somebody else wrote."""

import json
from collections.abc import Mapping
from typing import Any

from recurrax import registry
from recurrax.layers import Layer
from recurrax.saving import legacy_config, strict_json
from recurrax.saving.errors import LoadError, as_load_error
from recurrax.saving.limits import DEFAULT, Limits
from recurrax.variable import allocation_limit


def to_json(model: Any, **options: Any) -> str:
    """The model's architecture, and what it was compiled with, as JSON.

    Args:
        model: the model.
        options: handed to `json.dumps`.

    Raises:
        ValueError: something that a file cannot hold, such as a `Lambda`.
    """
    return json.dumps(to_record(model), **options)


def to_record(model: Any, with_compile: bool = True) -> dict[str, Any]:
    """The model's configuration as data.

    Raises:
        ValueError: something that a file cannot hold, such as a `Lambda`.
    """
    for layer in model.flatten_layers():
        if type(layer).__name__ == "Lambda":
            raise ValueError(
                f"Lambda layer {layer.name!r} cannot be saved, since loading a file runs nobody's "
                "code: write the function as a subclass of Layer with "
                "@register_keras_serializable()."
            )
    return registry.serialize_with_sharing(model, with_compile)


def model_from_json(
    json_string: str, custom_objects: Mapping[str, Any] | None = None, limits: Limits = DEFAULT
) -> Any:
    """A model of the architecture that `to_json` wrote, with fresh weights.

    Args:
        json_string: what `to_json` returned.
        custom_objects: classes and functions of yours that it names.
        limits: what it may ask for.

    Raises:
        LoadError: no such JSON, unknown classes, or more than `limits`.
    """
    record = strict_json.parse(json_string, "The configuration", limits)
    return model_from_record(record, custom_objects, limits.weights_bytes, limits)


def model_from_record(
    record: Any,
    custom_objects: Mapping[str, Any] | None = None,
    weights_bytes: int | None = None,
    limits: Limits = DEFAULT,
    compile: bool = True,
) -> Any:
    """A model from its configuration.

    Args:
        record: the configuration.
        custom_objects: classes and functions of yours that it names.
        weights_bytes: bytes that its weights and optimizer may have.
        limits: what it may ask for.
        compile: whether to compile it as it was.

    Raises:
        LoadError: a class that is not known here, code, something that is no model, arguments that
            a class refuses, or more than `limits`.
    """
    if legacy_config.is_legacy(record):
        record = legacy_config.modernized(record)
    with (
        as_load_error("The configuration cannot be made into a model"),
        registry.loading_scope(limits.objects),
        registry.custom_object_scope(custom_objects or {}),
        allocation_limit(limits.weights_bytes if weights_bytes is None else weights_bytes),
    ):
        model = registry.deserialize(record)
        if not isinstance(model, Layer) or not hasattr(model, "get_layer"):
            raise LoadError(f"The configuration describes no model, but {model!r:.200}.")
        compile_config = record.get("compile_config")
        if compile and compile_config:
            model.compile_from_config(dict(compile_config))  # pyright: ignore[reportAttributeAccessIssue]
    return model
