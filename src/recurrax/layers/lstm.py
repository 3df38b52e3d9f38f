"""The long short-term memory cell, and the layer that loops over it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from recurrax import activations
from recurrax.layers.builtin import BuiltinRNN
from recurrax.layers.cell import GatedCell
from recurrax.registry import serializable


@serializable("keras.layers")
class LSTMCell(GatedCell):
    """One step of a long short-term memory (Hochreiter & Schmidhuber, 1997; Gers et al., 2000).

        i, f, g, o = split(x W + b + h U)
        c' = σ(f) c + σ(i) tanh(g)
        h' = σ(o) tanh(c')

    σ is `recurrent_activation`, tanh is `activation`. Weights, gates in the order i, f, g, o:
    `kernel` W (features, 4 units), `recurrent_kernel` U (units, 4 units), `bias` b (4 units,).
    States: h, c. Output: h'.
    """

    gates = 4
    state_names = ("h", "c")

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *args: Any,
        unit_forget_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, *args, **kwargs)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [self.units, self.units]

    def initialize_bias(self, shape: tuple[int, ...], dtype: Any) -> Array:
        bias = super().initialize_bias(shape, dtype)
        if self.unit_forget_bias:  # on the host: to write to an array in place compiles programs
            filled = np.array(bias)
            filled[self.units : 2 * self.units] = 1.0
            bias = jax.device_put(filled)
        return bias

    def call(
        self,
        inputs: Float[Array, "batch *features"],
        states: Any,
        training: bool = False,
    ) -> tuple[Float[Array, "batch *units"], list[Float[Array, "batch *units"]]]:
        z = self.gate_inputs(inputs, states[0], training)
        i, f, g, o = jnp.split(z, 4, axis=self.feature_axis)
        i = self.record("input_gate", self.recurrent_activation(i))
        f = self.record("forget_gate", self.recurrent_activation(f))
        g = self.record("candidate", self.activation(g))
        o = self.record("output_gate", self.recurrent_activation(o))
        c = f * states[1] + i * g
        h = o * self.activation(c)
        return h, [h, c]

    def gate_inputs(self, x: Array, h: Array, training: bool) -> Array:
        """`x W + b + h U`, the inputs of all gates, with dropout in training."""
        x_masks, h_masks = self.masks(x, h, training)
        return self.project_input(x, x_masks) + self.project_state(h, h_masks)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrent_activation": activations.to_config(self.recurrent_activation),
            "unit_forget_bias": self.unit_forget_bias,
        }


@serializable("keras.layers")
class LSTM(BuiltinRNN, cell=LSTMCell):
    """Long short-term memory: `RNN(LSTMCell(units))`."""
