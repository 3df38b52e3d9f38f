"""Follow the regularized leader."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.registry import serializable
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step
from recurrax.variable import Variable


@serializable("keras.optimizers")
class Ftrl(Optimizer):
    """Follow the regularized leader, for sparse weights under L1.

    McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013. Further arguments as
    for `Optimizer`.

    Args:
        learning_rate: as for `Optimizer`.
        learning_rate_power: how the rate falls with the sum of squares; at most 0.
        initial_accumulator_value: that sum at first; not negative.
        l1_regularization_strength, l2_regularization_strength: penalties.
        l2_shrinkage_regularization_strength: penalty on the size of the weights themselves.
        beta: as in the paper.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        for name, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
            ("-learning_rate_power", -learning_rate_power),
        ):
            if value < 0:
                raise ValueError(f"{name} must not be negative, but it is {value!r}.")
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("accumulator", "linear"),)

    def initial_slot(self, name: str, parameter: Variable) -> np.ndarray:
        value = self.initial_accumulator_value if name == "accumulator" else 0.0
        return np.full(parameter.shape, value, parameter.dtype)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        rate, power = step.learning_rate, -self.learning_rate_power
        l1 = self.l1_regularization_strength
        l2 = self.l2_regularization_strength + self.beta / (2.0 * rate)
        shrunk = gradient + 2 * self.l2_shrinkage_regularization_strength * parameter
        old, linear = slots["accumulator"], slots["linear"]
        new = old + jnp.square(gradient)
        linear = linear + shrunk - (new**power - old**power) / rate * parameter
        quadratic = new**power / rate + 2 * l2
        wanted = (jnp.clip(linear, -l1, l1) - linear) / quadratic
        return wanted - parameter, {"accumulator": new, "linear": linear}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "learning_rate_power": self.learning_rate_power,
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1_regularization_strength": self.l1_regularization_strength,
            "l2_regularization_strength": self.l2_regularization_strength,
            "l2_shrinkage_regularization_strength": self.l2_shrinkage_regularization_strength,
            "beta": self.beta,
        }
