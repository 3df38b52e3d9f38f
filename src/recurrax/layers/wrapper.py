"""`Wrapper`: a layer around a layer."""

from typing import Any

from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class Wrapper(Layer):
    """Base of layers around another one.

    Args:
        layer: the layer inside.

    Raises:
        ValueError: `layer` is no layer.
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            raise ValueError(
                f"{type(self).__name__} expected a layer, but got {layer!r} of type "
                f"{type(layer).__name__}: pass layers.Dense(8), say."
            )
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer": self.layer}
