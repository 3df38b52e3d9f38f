"""Twins of layers: the same settings, weights of their own."""

from typing import Any

from recurrax.registry import custom_object_scope, get_registered_name


def twin(layer: Any, **changes: Any) -> Any:
    """A layer or model made from the configuration of `layer`, with some settings changed.

    Raises:
        ValueError: the layer holds something that has no configuration.
    """
    classes = {type(each) for each in layer.flatten_layers()}
    known = {get_registered_name(cls): cls for cls in classes}
    known |= {cls.__name__: cls for cls in classes}
    with custom_object_scope(known):
        return type(layer).from_config({**layer.get_config(), **changes})
