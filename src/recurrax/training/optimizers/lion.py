"""The sign of momentum."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.checks import number
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class Lion(Optimizer):
    """`w -= learning_rate sign(β₁ m + (1 - β₁) g)`, then `m = β₂ m + (1 - β₂) g`
    (arXiv:2302.06675). Further arguments as for `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        if not 0 < beta_1 <= 1:
            raise ValueError(f"beta_1 must be above 0 and at most 1, but it is {beta_1!r}.")
        self.beta_1 = number("beta_1", beta_1, 0, 1)
        self.beta_2 = number("beta_2", beta_2, 0, 1)

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("momentum",),)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        m = slots["momentum"]
        direction = jnp.sign(m * self.beta_1 + gradient * (1.0 - self.beta_1))
        m = m * self.beta_2 + gradient * (1.0 - self.beta_2)
        return -step.learning_rate * direction, {"momentum": m}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2}
