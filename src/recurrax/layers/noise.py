"""Layers that disturb their input in training."""

from typing import Any

import jax
from jax import Array

from recurrax.layers.dropout import Dropout
from recurrax.layers.input_spec import InputSpec
from recurrax.layers.layer import Layer
from recurrax.random import SeedGenerator
from recurrax.registry import serializable


@serializable("keras.layers")
class GaussianNoise(Layer):
    """In training, adds normal noise of standard deviation `stddev`.

    Args:
        stddev: from 0 to 1.
        seed: integer.

    Raises:
        ValueError: `stddev` outside [0, 1].
    """

    supports_masking = True

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= stddev <= 1:
            raise ValueError(f"GaussianNoise expected stddev from 0 to 1, but got {stddev!r}.")
        self.stddev = stddev
        self.seed = seed
        if stddev > 0:
            self.seed_generator = SeedGenerator(seed)

    def call(self, inputs: Array, training: bool = False) -> Array:
        if not training or self.stddev == 0:
            return inputs
        key = self.seed_generator.next()
        return inputs + self.stddev * jax.random.normal(key, inputs.shape, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}


@serializable("keras.layers")
class SpatialDropout1D(Dropout):
    """In training, sets whole features to 0, the same ones at every step (arXiv:1411.4280).

    Args:
        rate: share of the features set to 0, from 0 to 1.
        seed: integer.

    Call arguments:
        inputs: (batch, timesteps, features).
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed=seed, **kwargs)
        self.input_spec = InputSpec(ndim=3, axis_names=("batch", "timesteps", "features"))

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], 1, shape[2])

    def get_config(self) -> dict[str, Any]:
        # Keras's takes neither noise_shape nor trainable.
        config = super().get_config()
        return {key: config[key] for key in ("rate", "seed", "name", "dtype")}
