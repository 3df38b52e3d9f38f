"""Layers that only move the entries of their input."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers.checks import positive_int
from recurrax.layers.input_spec import InputSpec
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class Reshape(Layer):
    """(batch, ...) to (batch, *target_shape).

    Args:
        target_shape: the new shape, without the batch; -1 once for what is left.

    Raises:
        ValueError: -1 twice, or a shape of another number of entries.
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = tuple(int(size) for size in target_shape)
        if self.target_shape.count(-1) > 1 or any(s < -1 for s in self.target_shape):
            raise ValueError(
                "Reshape expected target_shape to hold sizes and -1 at most once, but got "
                f"{self.target_shape}."
            )

    def call(self, inputs: Array) -> Array:
        return inputs.reshape(self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *rest = input_shape
        known = math.prod(size for size in self.target_shape if size != -1)
        if None in rest:
            return (batch, *(None if size == -1 else size for size in self.target_shape))
        total = math.prod(rest)
        left = total // known if known else 0
        shape = tuple(left if size == -1 else size for size in self.target_shape)
        if math.prod(shape) != total:
            raise ValueError(
                f"Reshape {self.name!r} cannot make {self.target_shape} of an input of shape "
                f"{tuple(input_shape)}: a sample has {total} entries."
            )
        return (batch, *shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target_shape": self.target_shape}


@serializable("keras.layers")
class RepeatVector(Layer):
    """(batch, features) to (batch, n, features): the same vector at every step.

    Args:
        n: number of steps, positive.
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = positive_int(n, "n", "RepeatVector")
        self.input_spec = InputSpec(ndim=2, axis_names=("batch", "features"))

    def call(self, inputs: Array) -> Array:
        return jnp.repeat(inputs[:, None], self.n, axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.n, input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n": self.n}


@serializable("keras.layers")
class Permute(Layer):
    """Moves the axes after the batch.

    Args:
        dims: which axis, from 1, comes where: (2, 1) swaps the two after the batch.

    Raises:
        ValueError: `dims` is no permutation of 1, 2, ...
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"Permute expected dims to hold each of 1 to {len(self.dims)} once, but got "
                f"{self.dims}."
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Array) -> Array:
        return jnp.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[axis] for axis in (0, *self.dims))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dims": self.dims}
