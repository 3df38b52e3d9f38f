"""Adam with the largest gradient for its scale."""

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.optimizers.moments import Moments
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class Adamax(Moments):
    """`m = β₁ m + (1 - β₁) g`, `u = max(β₂ u, |g|)`, `w -= learning_rate / (1 - β₁ᵗ) m / (u + ε)`
    (arXiv:1412.6980, section 7). Further arguments as for `Optimizer`.
    """

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("momentum", "norm"),)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        m = slots["momentum"]
        m = m + (gradient - m) * (1 - self.beta_1)
        u = jnp.maximum(self.beta_2 * slots["norm"], jnp.abs(gradient))
        scale = (1 - self.beta_1**step.number) * (u + self.epsilon)
        return -step.learning_rate * m / scale, {"momentum": m, "norm": u}
