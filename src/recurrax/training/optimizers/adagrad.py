"""Gradients divided by the root of the sum of their squares."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.registry import serializable
from recurrax.training.checks import number
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step
from recurrax.variable import Variable


@serializable("keras.optimizers")
class Adagrad(Optimizer):
    """`a += g²`, `w -= learning_rate g / √(a + ε)`.

    Duchi et al., "Adaptive Subgradient Methods", JMLR 2011. Further arguments as for `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.initial_accumulator_value = number(
            "initial_accumulator_value", initial_accumulator_value
        )
        self.epsilon = number("epsilon", epsilon)

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("accumulator",),)

    def initial_slot(self, name: str, parameter: Variable) -> np.ndarray:
        return np.full(parameter.shape, self.initial_accumulator_value, parameter.dtype)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        a = slots["accumulator"] + jnp.square(gradient)
        return -step.learning_rate * gradient / jnp.sqrt(a + self.epsilon), {"accumulator": a}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
