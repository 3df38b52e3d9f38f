"""Adam with the largest gradient for its scale."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.checks import number
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class Adamax(Optimizer):
    """`m = β₁ m + (1 - β₁) g`, `u = max(β₂ u, |g|)`, `w -= learning_rate / (1 - β₁ᵗ) m / (u + ε)`
    (arXiv:1412.6980, section 7). Further arguments as for `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.beta_1 = number("beta_1", beta_1, 0, 1)
        self.beta_2 = number("beta_2", beta_2, 0, 1)
        self.epsilon = number("epsilon", epsilon)

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

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
