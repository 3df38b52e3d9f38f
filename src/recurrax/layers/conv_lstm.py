"""The convolutional long short-term memory, over sequences, of images or of volumes."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers import symbolic, windows
from recurrax.layers.builtin import BuiltinRNN
from recurrax.layers.cell import batch_of
from recurrax.layers.convolution import convolve
from recurrax.layers.input_spec import InputSpec
from recurrax.layers.lstm import LSTMCell
from recurrax.registry import serializable


@serializable("keras.layers")
class ConvLSTMCell(LSTMCell):
    """One step of a convolutional long short-term memory (Shi et al., arXiv:1506.04214).

    The equations of `LSTMCell` with a convolution in the place of each product. Weights, gates in
    the order i, f, g, o: `kernel` (*kernel_size, channels, 4 filters), `recurrent_kernel`
    (*kernel_size, filters, 4 filters), `bias` (4 filters,). States: h, c, both of the output's
    shape. Dropout drops other entries for each gate.

    Args:
        filters: features of the state and of the output, positive.
        kernel_size: size of the window, one number or one for each axis.
        strides: steps between places, of the input's convolution.
        padding: `"valid"` or `"same"`, of the input's convolution; the state's is `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: distance between the entries of the window, of the input's convolution.
    """

    rank = 2
    default_name = "conv_lstm_cell"

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, *args, **kwargs)
        self.dropout_mask_count = 4
        self.filters = self.units
        owner = type(self).__name__
        self.kernel_size = windows.per_axis(kernel_size, self.rank, "kernel_size", owner)
        self.strides = windows.per_axis(strides, self.rank, "strides", owner)
        self.dilation_rate = windows.per_axis(dilation_rate, self.rank, "dilation_rate", owner)
        self.padding = windows.checked_padding(padding, ("valid", "same"), owner)
        self.data_format = windows.checked_format(data_format, owner)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{owner} takes strides or dilation_rate above 1, not both, but got "
                f"strides={strides} and dilation_rate={dilation_rate}."
            )
        self.feature_axis = -1 if self.data_format == "channels_last" else 1

    def build(self, input_shape: Any) -> None:
        _, sizes, channels = windows.split_shape(input_shape, self.data_format)
        if None in sizes or channels is None:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs to know the sizes of its input's axes, "
                f"but the shape is {tuple(input_shape)}: give the model an Input with sizes."
            )
        self.step_shape = self.step_output_shape(input_shape)[1:]
        super().build(input_shape)

    def kernel_shapes(self, input_shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        channels: Any = windows.split_shape(input_shape, self.data_format)[2]
        width = 4 * self.filters
        window = self.kernel_size
        return (*window, channels, width), (*window, self.filters, width)

    def step_output_shape(self, step_shape: Any) -> tuple[int | None, ...]:
        """Shape of the output for a step of this shape, both (batch, ...)."""
        batch, sizes, _ = windows.split_shape(step_shape, self.data_format)
        sizes = windows.output_sizes(
            sizes, self.kernel_size, self.strides, self.padding, self.dilation_rate
        )
        return windows.join_shape(batch, sizes, self.filters, self.data_format)

    def input_product(self, x: Array, kernel: Array) -> Array:
        return convolve(x, kernel, self.strides, self.padding, self.data_format, self.dilation_rate)

    def state_product(self, h: Array, kernel: Array) -> Array:
        ones = (1,) * self.rank
        return convolve(h, kernel, ones, "same", self.data_format, ones)

    def project_input(self, x: Array, masks: Any = None) -> Array:
        projected = self.by_gate(self.input_product, x, self.kernel.value, masks)
        if self.bias is None:
            return projected
        ones = (1,) * self.rank
        shape = windows.join_shape(1, ones, 4 * self.filters, self.data_format)
        return projected + self.bias.value.reshape(shape)

    def get_initial_state(
        self, batch_size: Any = None, inputs: Any = None, dtype: Any = None
    ) -> list[Array]:
        """Zeros of the output's shape, two of them."""
        shape = (batch_of(batch_size, inputs), *self.step_shape)
        return [jnp.zeros(shape, dtype or self.compute_dtype) for _ in range(2)]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["units"]
        return {
            **config,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
        }


class ConvLSTM1DCell(ConvLSTMCell):
    """`ConvLSTMCell` over sequences."""

    rank = 1


class ConvLSTM2DCell(ConvLSTMCell):
    """`ConvLSTMCell` over images."""

    rank = 2


class ConvLSTM3DCell(ConvLSTMCell):
    """`ConvLSTMCell` over volumes."""

    rank = 3


class ConvLSTM(BuiltinRNN):
    """Base of the convolutional recurrent layers, over steps of any rank."""

    def __init__(self, filters: int, kernel_size: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, *args, **kwargs)
        self.input_spec = InputSpec(ndim=self.cell.rank + 3)

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        super().build(sequences_shape, initial_state_shape)
        self.input_spec = InputSpec(shape=(None, None, *sequences_shape[2:]))

    def symbolic_outputs(self, sequences: Any, constants: Any = None) -> Any:
        batch, timesteps, *step = sequences.shape
        state = self.cell.step_output_shape((batch, *step))
        steps = (timesteps,) if self.return_sequences else ()
        output = (batch, *steps, *state[1:])
        shapes = (output, state, state) if self.return_state else output
        return symbolic.shapes_to_symbols(self, shapes)


@serializable("keras.layers")
class ConvLSTM1D(ConvLSTM, cell=ConvLSTM1DCell):
    """Convolutional long short-term memory over (batch, timesteps, places, channels)."""


@serializable("keras.layers")
class ConvLSTM2D(ConvLSTM, cell=ConvLSTM2DCell):
    """Convolutional long short-term memory over (batch, timesteps, rows, columns, channels)."""


@serializable("keras.layers")
class ConvLSTM3D(ConvLSTM, cell=ConvLSTM3DCell):
    """Convolutional long short-term memory over (batch, timesteps, depth, rows, columns,
    channels)."""
