"""The gated recurrent unit, and the layer that loops over it."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from recurrax import activations
from recurrax.layers.builtin import BuiltinRNN
from recurrax.layers.cell import GatedCell, like_given
from recurrax.registry import serializable


@serializable("keras.layers")
class GRUCell(GatedCell):
    """One step of a gated recurrent unit (Cho et al., 2014).

        z, r = σ(split(x Wzr + h Uzr + bzr))
        n = tanh(x Wn + bn + r (h Un + cn))       with reset_after (arXiv:1406.1078v1, as cuDNN)
        n = tanh(x Wn + bn + (r h) Un)            without (arXiv:1406.1078v3)
        h' = z h + (1 - z) n

    σ is `recurrent_activation`, tanh is `activation`. Weights, gates in the order z, r, n:
    `kernel` W (features, 3 units), `recurrent_kernel` U (units, 3 units), `bias`: with
    `reset_after` (2, 3 units), of the input b and of the state c, else b (3 units,).
    State: h. Output: h'.
    """

    gates = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *args: Any,
        reset_after: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, *args, **kwargs)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.reset_after = bool(reset_after)

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def project_input(self, x: Array, masks: Any = None) -> Array:
        projected = self.by_gate(self.input_product, x, self.kernel.value, masks)
        if self.bias is None:
            return projected
        return projected + (self.bias.value[0] if self.reset_after else self.bias.value)

    def project_state(self, h: Array, masks: Any = None) -> Array:
        projected = super().project_state(h, masks)
        return projected if self.bias is None else projected + self.bias.value[1]

    def call(
        self,
        inputs: Float[Array, "batch features"],
        states: Any,
        training: bool = False,
    ) -> tuple[Float[Array, "batch units"], Any]:
        previous = states[0] if isinstance(states, list | tuple) else states
        x_masks, h_masks = self.masks(inputs, previous, training)
        xz, xr, xn = jnp.split(self.project_input(inputs, x_masks), 3, axis=-1)
        if self.reset_after:
            hz, hr, hn = jnp.split(self.project_state(previous, h_masks), 3, axis=-1)
        else:
            hz, hr = self._before_reset(previous, h_masks)
            hn = None
        z = self.record("update_gate", self.recurrent_activation(xz + hz))
        r = self.record("reset_gate", self.recurrent_activation(xr + hr))
        hn = self._after_reset(r, previous, h_masks) if hn is None else r * hn
        n = self.record("candidate", self.activation(xn + hn))
        h = z * previous + (1 - z) * n
        return h, like_given(states, [h])

    def _before_reset(self, h: Array, masks: Any) -> list[Array]:
        kernel = self.recurrent_kernel.value[:, : 2 * self.units]
        masks = masks[:2] if isinstance(masks, list) else masks
        return jnp.split(self.by_gate(self.state_product, h, kernel, masks), 2, axis=-1)

    def _after_reset(self, r: Array, h: Array, masks: Any) -> Array:
        mask = masks[2] if isinstance(masks, list) else masks
        h = h if mask is None else h * mask
        return jnp.matmul(r * h, self.recurrent_kernel.value[:, 2 * self.units :])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrent_activation": activations.to_config(self.recurrent_activation),
            "reset_after": self.reset_after,
        }


@serializable("keras.layers")
class GRU(BuiltinRNN, cell=GRUCell):
    """Gated recurrent units: `RNN(GRUCell(units))`."""
