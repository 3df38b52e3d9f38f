"""`Flatten`: all axes but the batch in one."""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from recurrax.layers.input_spec import InputSpec
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class Flatten(Layer):
    """(batch, ...) to (batch, product of the other axes).

    Args:
        data_format: `"channels_last"`, or `"channels_first"` to move the channels last before.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or "channels_last"
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Array) -> Array:
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = jnp.moveaxis(inputs, 1, -1)
        return inputs.reshape(self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: Any) -> Any:
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
