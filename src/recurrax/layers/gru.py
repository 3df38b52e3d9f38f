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

    def project_input(self, x: Array) -> Array:
        projected = jnp.matmul(x, self.kernel.value)
        if self.bias is None:
            return projected
        return projected + (self.bias.value[0] if self.reset_after else self.bias.value)

    def call(
        self,
        inputs: Float[Array, "batch features"],
        states: Any,
        training: bool = False,
    ) -> tuple[Float[Array, "batch units"], Any]:
        previous = states[0] if isinstance(states, list | tuple) else states
        x, h = self.drop(inputs, previous, training)
        kernel = self.recurrent_kernel.value
        xz, xr, xn = jnp.split(self.project_input(x), 3, axis=-1)
        if self.reset_after:
            hz, hr, hn = jnp.split(self.project_state(h), 3, axis=-1)
        else:
            hz, hr = jnp.split(jnp.matmul(h, kernel[:, : 2 * self.units]), 2, axis=-1)
            hn = None
        z = self.record("update_gate", self.recurrent_activation(xz + hz))
        r = self.record("reset_gate", self.recurrent_activation(xr + hr))
        hn = jnp.matmul(r * h, kernel[:, 2 * self.units :]) if hn is None else r * hn
        n = self.record("candidate", self.activation(xn + hn))
        h = z * previous + (1 - z) * n
        return h, like_given(states, [h])

    def project_state(self, h: Array) -> Array:
        projected = super().project_state(h)
        return projected if self.bias is None else projected + self.bias.value[1]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrent_activation": activations.to_config(self.recurrent_activation),
            "reset_after": self.reset_after,
        }


@serializable("keras.layers")
class GRU(BuiltinRNN, cell=GRUCell):
    """Gated recurrent units: `RNN(GRUCell(units))`."""
