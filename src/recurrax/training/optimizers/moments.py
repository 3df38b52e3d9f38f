"""What Adam and its kin share: running moments of the gradients."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.training.checks import number
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots


class Moments(Optimizer):
    """Base of optimizers by moments: `m = β₁ m + (1 - β₁) g`, `v = β₂ v + (1 - β₂) g²`.

    Args:
        learning_rate: as for `Optimizer`, like further arguments.
        beta_1: what share of the first moment stays.
        beta_2: what share of the second stays.
        epsilon: keeps what is divided by above 0.
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

    def moments(self, gradient: Array, slots: Slots) -> tuple[Array, Array]:
        """The moments with this gradient."""
        m, v = slots["momentum"], slots["velocity"]
        m = m + (gradient - m) * (1 - self.beta_1)
        v = v + (jnp.square(gradient) - v) * (1 - self.beta_2)
        return m, v

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
