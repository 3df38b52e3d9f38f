"""Gradients scaled to the size of the changes before."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.checks import number
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class Adadelta(Optimizer):
    """`a = ρ a + (1 - ρ) g²`, `δ = -√(d + ε) / √(a + ε) g`, `d = ρ d + (1 - ρ) δ²`,
    `w += learning_rate δ` (arXiv:1212.5701). Further arguments as for `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.rho = number("rho", rho, 0, 1)
        self.epsilon = number("epsilon", epsilon)

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("accumulated_grad", "accumulated_delta_var"),)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        rho, d = self.rho, slots["accumulated_delta_var"]
        a = rho * slots["accumulated_grad"] + (1 - rho) * jnp.square(gradient)
        change = -jnp.sqrt(d + self.epsilon) * gradient / jnp.sqrt(a + self.epsilon)
        d = rho * d + (1 - rho) * jnp.square(change)
        new = {"accumulated_grad": a, "accumulated_delta_var": d}
        return step.learning_rate * change, new

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon}
