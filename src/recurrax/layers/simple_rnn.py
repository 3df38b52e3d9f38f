"""The fully connected recurrent cell, and the layer that loops over it."""

from typing import Any

from jaxtyping import Array, Float

from recurrax.layers.builtin import BuiltinRNN
from recurrax.layers.cell import GatedCell, like_given
from recurrax.registry import serializable


@serializable("keras.layers")
class SimpleRNNCell(GatedCell):
    """One step of a fully connected recurrent layer (Elman, 1990).

        h' = activation(x W + b + h U)

    Weights: `kernel` W (features, units), `recurrent_kernel` U (units, units), `bias` b (units,).
    State: h. Output: h'.
    """

    def call(
        self,
        inputs: Float[Array, "batch features"],
        states: Any,
        training: bool = False,
    ) -> tuple[Float[Array, "batch units"], Any]:
        previous = states[0] if isinstance(states, list | tuple) else states
        x_masks, h_masks = self.masks(inputs, previous, training)
        z = self.project_input(inputs, x_masks) + self.project_state(previous, h_masks)
        h = self.activation(z)
        return h, like_given(states, [h])


@serializable("keras.layers")
class SimpleRNN(BuiltinRNN, cell=SimpleRNNCell):
    """A fully connected recurrent layer: `RNN(SimpleRNNCell(units))`.

    Its `activity_regularizer` counts, which Keras's layer takes and forgets.
    """
