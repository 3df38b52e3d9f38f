"""Convolutions over time or space."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from recurrax import activations, constraints, initializers, regularizers
from recurrax.layers import windows
from recurrax.layers.checks import positive_int
from recurrax.layers.input_spec import InputSpec
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


def convolve(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: str,
    data_format: str,
    dilation: Sequence[int],
) -> Array:
    """`x` convolved with `kernel` (*window, channels of a group, filters)."""
    rank = kernel.ndim - 2
    space = "DHW"[3 - rank :]
    layout = f"N{space}C" if data_format == "channels_last" else f"NC{space}"
    channels = x.shape[layout.index("C")]
    before = [(0, 0)] * rank
    if padding == "causal":
        before = [(dilation[0] * (kernel.shape[0] - 1), 0)]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding="SAME" if padding == "same" else before,
        rhs_dilation=dilation,
        dimension_numbers=(layout, f"{space}IO", layout),
        feature_group_count=channels // kernel.shape[-2],
    )


class Convolution(Layer):
    """Base of the convolutions: a window slides over time or space, with one product at each place.

    Weights: `kernel` (*kernel_size, channels / groups, filters), `bias` (filters,).

    Args:
        filters: features of the output, positive.
        kernel_size: size of the window, one number or one for each axis.
        strides: steps between places.
        padding: `"valid"`, `"same"`, or for one axis `"causal"` (nothing of the future).
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: distance between the entries of the window.
        groups: parts of the channels that are convolved on their own.
        activation: name or function; None for none.
        use_bias: whether there is a bias.
        kernel_initializer, bias_initializer: initial weights.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the output.
        kernel_constraint, bias_constraint: applied after each update.

    Raises:
        ValueError: an argument that is not positive or not known, filters or channels that the
            groups do not divide, an input of another size.
    """

    rank = 1

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        owner = type(self).__name__
        self.filters = positive_int(filters, "filters", owner)
        self.groups = positive_int(groups, "groups", owner)
        if self.filters % self.groups:
            raise ValueError(f"{owner} expected groups={groups} to divide filters={filters}.")
        self.kernel_size = windows.per_axis(kernel_size, self.rank, "kernel_size", owner)
        self.strides = windows.per_axis(strides, self.rank, "strides", owner)
        self.dilation_rate = windows.per_axis(dilation_rate, self.rank, "dilation_rate", owner)
        allowed = ("valid", "same", "causal")[: 3 if self.rank == 1 else 2]
        self.padding = windows.checked_padding(padding, allowed, owner)
        self.data_format = windows.checked_format(data_format, owner)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{owner} takes strides or dilation_rate above 1, not both, but got "
                f"strides={strides} and dilation_rate={dilation_rate}."
            )
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def build(self, input_shape: Any) -> None:
        channels = windows.split_shape(input_shape, self.data_format)[2]
        if channels is None or channels % self.groups:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} expected a known number of channels that "
                f"groups={self.groups} divides, but the input has shape {tuple(input_shape)}."
            )
        self.kernel = self.add_weight(
            (*self.kernel_size, channels // self.groups, self.filters),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                (self.filters,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={axis: channels})

    def call(self, inputs: Array) -> Array:
        self.compute_output_shape(inputs.shape)  # raises where the window does not fit
        x = convolve(
            inputs,
            self.kernel.value,
            self.strides,
            self.padding,
            self.data_format,
            self.dilation_rate,
        )
        if self.bias is not None:
            ones = (1,) * self.rank
            x = x + self.bias.value.reshape(
                windows.join_shape(1, ones, self.filters, self.data_format)
            )
        return self.activation(x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, sizes, _ = windows.split_shape(input_shape, self.data_format)
        sizes = windows.output_sizes(
            sizes, self.kernel_size, self.strides, self.padding, self.dilation_rate
        )
        return windows.join_shape(batch, sizes, self.filters, self.data_format)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": activations.to_config(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "activity_regularizer": self.activity_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "bias_constraint": self.bias_constraint,
        }


@serializable("keras.layers", "Convolution1D")
class Conv1D(Convolution):
    """Convolution over time: (batch, timesteps, channels) to (batch, timesteps', filters).

    For its arguments see `Convolution`.
    """

    rank = 1


@serializable("keras.layers", "Convolution2D")
class Conv2D(Convolution):
    """Convolution over an image: (batch, rows, columns, channels).

    For its arguments see `Convolution`.
    """

    rank = 2


@serializable("keras.layers", "Convolution3D")
class Conv3D(Convolution):
    """Convolution over a volume: (batch, depth, rows, columns, channels).

    For its arguments see `Convolution`.
    """

    rank = 3


Convolution1D, Convolution2D = Conv1D, Conv2D
