"""Gradients divided by the root of their mean square."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.checks import number
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class RMSprop(Optimizer):
    """`v = ρ v + (1 - ρ) g²`, `w -= learning_rate g / √(v + ε)` (Hinton's lecture 6, 2012).

    Args:
        learning_rate: as for `Optimizer`, like further arguments.
        rho: what share of `v` stays.
        momentum: what share of the last change is added.
        epsilon: keeps the root above 0.
        centered: take the variance of the gradients instead of their mean square.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.rho = number("rho", rho, 0, 1)
        self.momentum = number("momentum", momentum, 0, 1)
        self.epsilon = number("epsilon", epsilon)
        self.centered = centered

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        groups = [("velocity",)]
        if self.momentum > 0:
            groups.append(("momentum",))
        if self.centered:
            groups.append(("average_gradient",))
        return tuple(groups)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        rho = self.rho
        v = rho * slots["velocity"] + (1 - rho) * jnp.square(gradient)
        new = {"velocity": v}
        if self.centered:
            mean = rho * slots["average_gradient"] + (1 - rho) * gradient
            new["average_gradient"] = mean
            v = v - jnp.square(mean)
        change = step.learning_rate * gradient / jnp.sqrt(v + self.epsilon)
        if self.momentum > 0:
            change = new["momentum"] = self.momentum * slots["momentum"] + change
        return -change, new

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }
