"""Pooling: the greatest or the mean value in a window that slides over time or space."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.layers import windows
from recurrax.layers.input_spec import InputSpec
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


class Pooling(Layer):
    """Base of the poolings.

    Args:
        pool_size: size of the window, one number or one for each axis.
        strides: steps between places; `pool_size` where None.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.

    Raises:
        ValueError: an argument that is not positive or not known.
    """

    rank = 1

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        self.pool_size = windows.per_axis(pool_size, self.rank, "pool_size", owner)
        steps = self.pool_size if strides is None else strides
        self.strides = windows.per_axis(steps, self.rank, "strides", owner)
        self.padding = windows.checked_padding(padding, ("valid", "same"), owner)
        self.data_format = windows.checked_format(data_format, owner)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def reduce(self, x: Array, start: Any, function: Any) -> Array:
        """`function` of all entries in each window."""
        window = windows.join_shape(1, self.pool_size, 1, self.data_format)
        strides = windows.join_shape(1, self.strides, 1, self.data_format)
        # On the host, so that the reduction is known to be one that has a derivative.
        start = np.asarray(start, x.dtype)
        return jax.lax.reduce_window(x, start, function, window, strides, self.padding.upper())

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, sizes, channels = windows.split_shape(input_shape, self.data_format)
        sizes = windows.output_sizes(sizes, self.pool_size, self.strides, self.padding)
        return windows.join_shape(batch, sizes, channels, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "padding": self.padding,
            "strides": self.strides,
            "data_format": self.data_format,
        }


class MaxPooling(Pooling):
    """Base of poolings to the greatest value."""

    def call(self, inputs: Array) -> Array:
        floating = jnp.issubdtype(inputs.dtype, jnp.floating)
        least = -jnp.inf if floating else jnp.iinfo(inputs.dtype).min
        return self.reduce(inputs, least, jax.lax.max)


class AveragePooling(Pooling):
    """Base of poolings to the mean value; what padding adds does not count."""

    def call(self, inputs: Array) -> Array:
        total = self.reduce(inputs, 0, jax.lax.add)
        return total / self.reduce(jnp.ones_like(inputs), 0, jax.lax.add)


@serializable("keras.layers", "MaxPool1D")
class MaxPooling1D(MaxPooling):
    """The greatest value in each window over time. For its arguments see `Pooling`."""

    rank = 1


@serializable("keras.layers", "MaxPool2D")
class MaxPooling2D(MaxPooling):
    """The greatest value in each window of an image. For its arguments see `Pooling`."""

    rank = 2


@serializable("keras.layers", "AvgPool1D")
class AveragePooling1D(AveragePooling):
    """The mean value in each window over time. For its arguments see `Pooling`."""

    rank = 1


@serializable("keras.layers", "AvgPool2D")
class AveragePooling2D(AveragePooling):
    """The mean value in each window of an image. For its arguments see `Pooling`."""

    rank = 2


MaxPool1D, MaxPool2D = MaxPooling1D, MaxPooling2D
AvgPool1D, AvgPool2D = AveragePooling1D, AveragePooling2D
