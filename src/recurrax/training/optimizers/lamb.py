"""Adam with changes in proportion to the norm of what they change."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.checks import number
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class Lamb(Optimizer):
    """Adam's change, scaled to `learning_rate` times the norm of the variable (arXiv:1904.00962).

    Further arguments as for `Optimizer`.
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
        return (("momentum", "velocity"),)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        m, v = slots["momentum"], slots["velocity"]
        m = m + (gradient - m) * (1 - self.beta_1)
        v = v + (jnp.square(gradient) - v) * (1 - self.beta_2)
        m_hat, v_hat = m / (1 - self.beta_1**step.number), v / (1 - self.beta_2**step.number)
        change = m_hat / (jnp.sqrt(v_hat) + self.epsilon)
        size, length = jnp.sqrt(jnp.sum(parameter**2)), jnp.sqrt(jnp.sum(change**2))
        trusted = (size > 0) & (length > 0)
        ratio = jnp.where(trusted, size / jnp.where(trusted, length, 1.0), 1.0)
        return -ratio * step.learning_rate * change, {"momentum": m, "velocity": v}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
