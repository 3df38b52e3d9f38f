"""`Dropout`: in training, some features become 0."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from recurrax.layers.checks import rate as checked_rate
from recurrax.layers.layer import Layer
from recurrax.random import SeedGenerator
from recurrax.registry import serializable


@serializable("keras.layers")
class Dropout(Layer):
    """In training, sets a share of the input to 0 and scales up the rest (Srivastava et al., 2014).

    Args:
        rate: share set to 0, from 0 to 1.
        noise_shape: shape of the random mask; where 1 (or, for the batch, None: its size), the
            same along that axis.
        seed: integer.

    Raises:
        ValueError: `rate` outside [0, 1].
    """

    supports_masking = True

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rate = checked_rate(rate, "rate", type(self).__name__)
        self.noise_shape = noise_shape
        self.seed = seed
        if rate > 0:
            self.seed_generator = SeedGenerator(seed)

    def call(
        self, inputs: Float[Array, "*shape"], training: bool = False
    ) -> Float[Array, "*shape"]:
        if not training or self.rate == 0:
            return inputs
        shape = self.mask_shape(inputs.shape)
        kept = jax.random.bernoulli(self.seed_generator.next(), 1 - self.rate, shape)
        scale = 1 / (1 - self.rate) if self.rate < 1 else 0.0
        return jnp.where(kept, inputs * scale, 0).astype(inputs.dtype)

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the random mask for an input of `shape`."""
        if self.noise_shape is None:
            return shape
        return tuple(s if n is None else n for n, s in zip(self.noise_shape, shape, strict=True))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        own = {"rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}
        return {**super().get_config(), **own}
