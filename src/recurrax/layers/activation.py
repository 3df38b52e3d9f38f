"""`Activation`: an activation function as a layer."""

from typing import Any

from jaxtyping import Array, Float

from recurrax import activations
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class Activation(Layer):
    """Applies an activation function.

    Args:
        activation: name or function.

    Raises:
        ValueError: an unknown name.
    """

    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.activation(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": activations.to_config(self.activation)}
