"""Adam with Nesterov's momentum."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.dtypes import floatx
from recurrax.registry import serializable
from recurrax.training.optimizers.moments import Moments
from recurrax.training.optimizers.rule import Slots, Step
from recurrax.variable import Variable


@serializable("keras.optimizers")
class Nadam(Moments):
    """Adam with Nesterov's momentum and a schedule of it, `uₜ = β₁ (1 - 0.96ᵗ / 2)`.

    Dozat, "Incorporating Nesterov Momentum into Adam", 2015. Further arguments as for `Optimizer`.
    """

    def build_slots(self, parameters: Sequence[Variable]) -> list[Variable]:
        # The product of all u so far belongs to no parameter and stands last.
        dtype = parameters[0].dtype if parameters else floatx()
        return [*super().build_slots(parameters), self._variable(np.ones((), dtype), "u_product")]

    def _u(self, number: Array) -> Array:
        return self.beta_1 * (1.0 - 0.5 * jnp.power(jnp.asarray(0.96, number.dtype), number))

    def update(
        self, gradients: Sequence[Any], slots: Sequence[Array], parameters: list[Array], step: Step
    ) -> tuple[list[Array], list[Array]]:
        *slots, product = slots
        self._product = product * self._u(step.number.astype(product.dtype))
        new, slots = super().update(gradients, slots, parameters, step)
        return new, [*slots, self._product]

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        u, u_next = self._u(step.number), self._u(step.number + 1)
        product = self._product.astype(parameter.dtype)
        m, v = self.moments(gradient, slots)
        m_hat = u_next * m / (1 - product * u_next) + (1 - u) * gradient / (1 - product)
        v_hat = v / (1 - self.beta_2**step.number)
        change = -m_hat * step.learning_rate / (jnp.sqrt(v_hat) + self.epsilon)
        return change, {"momentum": m, "velocity": v}
