"""Adam with changes in proportion to the norm of what they change."""

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.optimizers.moments import Moments
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class Lamb(Moments):
    """Adam's change, scaled to `learning_rate` times the norm of the variable (arXiv:1904.00962).

    Further arguments as for `Optimizer`.
    """

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        m, v = self.moments(gradient, slots)
        m_hat, v_hat = m / (1 - self.beta_1**step.number), v / (1 - self.beta_2**step.number)
        change = m_hat / (jnp.sqrt(v_hat) + self.epsilon)
        size, length = jnp.sqrt(jnp.sum(parameter**2)), jnp.sqrt(jnp.sum(change**2))
        trusted = (size > 0) & (length > 0)
        ratio = jnp.where(trusted, size / jnp.where(trusted, length, 1.0), 1.0)
        return -ratio * step.learning_rate * change, {"momentum": m, "velocity": v}
