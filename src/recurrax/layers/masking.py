"""`Masking`: steps that hold nothing but a given value are skipped."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers.layer import Layer
from recurrax.layers.mask import set_mask
from recurrax.registry import serializable


@serializable("keras.layers")
class Masking(Layer):
    """Masks the steps all of whose features are `mask_value`, and sets them to 0.

    Args:
        mask_value: the value that stands for padding.

    Call arguments:
        inputs: (batch, timesteps, features).
    """

    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return jnp.any(jnp.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs: Array) -> Array:
        mask = jnp.any(jnp.not_equal(inputs, self.mask_value), axis=-1)
        outputs = jnp.where(mask[..., None], inputs, 0)  # not a product: 0 * inf is NaN
        set_mask(outputs, mask)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mask_value": self.mask_value}
