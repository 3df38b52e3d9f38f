"""Global pooling: one value for each feature of a whole sequence or image."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers import windows
from recurrax.layers.input_spec import InputSpec
from recurrax.layers.layer import Layer
from recurrax.layers.masked import check_mask
from recurrax.registry import serializable


class GlobalPooling(Layer):
    """Base of the global poolings.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.
        keepdims: whether the axes pooled over stay, with size 1.
    """

    rank = 1

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = windows.checked_format(data_format, type(self).__name__)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of time or space."""
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.rank))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, _, channels = windows.split_shape(input_shape, self.data_format)
        ones = (1,) * self.rank if self.keepdims else ()
        return windows.join_shape(batch, ones, channels, self.data_format)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None

    def get_config(self) -> dict[str, Any]:
        own = {"data_format": self.data_format, "keepdims": self.keepdims}
        return {**super().get_config(), **own}


class OverTime(GlobalPooling):
    """Base of those over time, where masked steps do not count."""

    supports_masking = True

    def where(self, inputs: Array, mask: Any) -> Array:
        """The mask with an axis for the channels."""
        (axis,) = self.axes
        check_mask(mask, (inputs.shape[0], inputs.shape[axis]), self.name)
        return jnp.expand_dims(mask.astype(bool), 3 - axis)


@serializable("keras.layers", "GlobalAvgPool1D")
class GlobalAveragePooling1D(OverTime):
    """The mean over time, of the unmasked steps: (batch, timesteps, features) to (batch, features).

    A sample without any unmasked step gives 0. For its arguments see `GlobalPooling`.
    """

    def call(self, inputs: Array, mask: Any = None) -> Array:
        if mask is None:
            return inputs.mean(axis=self.axes, keepdims=self.keepdims)
        where = self.where(inputs, mask)
        total = jnp.where(where, inputs, 0).sum(axis=self.axes, keepdims=self.keepdims)
        count = where.astype(inputs.dtype).sum(axis=self.axes, keepdims=self.keepdims)
        return total / jnp.maximum(count, 1)


@serializable("keras.layers", "GlobalMaxPool1D")
class GlobalMaxPooling1D(OverTime):
    """The greatest value over time: (batch, timesteps, features) to (batch, features).

    Masked steps do not count (in Keras they do); a sample without any unmasked step gives 0. For
    its arguments see `GlobalPooling`.
    """

    def call(self, inputs: Array, mask: Any = None) -> Array:
        if mask is None:
            return inputs.max(axis=self.axes, keepdims=self.keepdims)
        where = self.where(inputs, mask)
        least = jnp.finfo(inputs.dtype).min
        found = jnp.where(where, inputs, least).max(axis=self.axes, keepdims=self.keepdims)
        return jnp.where(where.any(axis=self.axes, keepdims=self.keepdims), found, 0)


@serializable("keras.layers", "GlobalAvgPool2D")
class GlobalAveragePooling2D(GlobalPooling):
    """The mean over an image. For its arguments see `GlobalPooling`."""

    rank = 2

    def call(self, inputs: Array) -> Array:
        return inputs.mean(axis=self.axes, keepdims=self.keepdims)


@serializable("keras.layers", "GlobalMaxPool2D")
class GlobalMaxPooling2D(GlobalPooling):
    """The greatest value of an image. For its arguments see `GlobalPooling`."""

    rank = 2

    def call(self, inputs: Array) -> Array:
        return inputs.max(axis=self.axes, keepdims=self.keepdims)


GlobalAvgPool1D, GlobalMaxPool1D = GlobalAveragePooling1D, GlobalMaxPooling1D
