"""The configuration of a layer: what a twin of it is made from."""

import functools
from collections.abc import Callable
from typing import Any

from recurrax.dtypes import DTypePolicy
from recurrax.layers import auto_config
from recurrax.layers.shapes import as_shape
from recurrax.registry import deserialize, serialize

# Settings of Keras's layers that say how to quantize or to adapt weights.
_KERAS_ONLY = ("quantization_config", "lora_rank", "lora_alpha", "quantization_mode")


def serialized(get_config: Callable[..., Any]) -> Callable[..., Any]:
    """`get_config` with objects as their configurations, so that a twin gets its own ones."""

    @functools.wraps(get_config)
    def wrapped(self: Any) -> dict[str, Any]:
        return serialize(get_config(self))

    return wrapped


class Configured:
    """The part of `Layer` that becomes data and is made from data."""

    name: str
    built: bool
    dtype_policy: DTypePolicy
    _trainable: bool
    activity_regularizer: Any

    def build(self, input_shape: Any = None) -> None: ...

    @serialized
    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`, as data that `from_config` makes a twin of.

        Raises:
            NotImplementedError: a subclass whose arguments cannot be told from outside.
        """
        config = {
            "name": self.name,
            "trainable": self._trainable,
            "dtype": self.dtype_policy,
        }
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = self.activity_regularizer
        return config | auto_config.missing_arguments(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A layer of this class from what `get_config` returned, of ours or of Keras's.

        Raises:
            ValueError: a setting of Keras's that is not offered here.
        """
        values = {key: deserialize(value) for key, value in config.items()}
        taken = auto_config.argument_names(cls)
        for key in [key for key in _KERAS_ONLY if key in values and key not in taken]:
            if values.pop(key):
                raise ValueError(
                    f"The configuration of a {cls.__name__} sets {key}={config[key]!r}, which is "
                    f"not offered here: save the layer from Keras without {key}."
                )
        return cls(**values)

    def get_build_config(self) -> dict[str, Any] | None:
        """What `build` was given: `input_shape`, or `shapes_dict` with each shape by name."""
        shapes = self.__dict__.get("_build_shapes")
        if not shapes:
            return None
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": dict(shapes)}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build from what `get_build_config` returned."""
        if self.built or not config:
            return
        if "input_shape" in config:
            self.build(as_shape(config["input_shape"]))
        elif "shapes_dict" in config:
            self.build(**as_shape(config["shapes_dict"]))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"
