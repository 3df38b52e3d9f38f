"""Adam, and Adam with decoupled weight decay."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.optimizers.moments import Moments
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class Adam(Moments):
    """`m = β₁ m + (1 - β₁) g`, `v = β₂ v + (1 - β₂) g²`, `w -= α_t m / (√v + ε)` with
    `α_t = learning_rate √(1 - β₂ᵗ) / (1 - β₁ᵗ)` (arXiv:1412.6980, the form before section 2.1).

    With `amsgrad`, the largest `v` so far stands for `v`. Further arguments as for `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        self.amsgrad = amsgrad

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        groups = super().slot_groups()
        return (*groups, ("velocity_hat",)) if self.amsgrad else groups

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        rate = step.learning_rate * jnp.sqrt(1 - self.beta_2**step.number)
        rate = rate / (1 - self.beta_1**step.number)
        m, v = self.moments(gradient, slots)
        new = {"momentum": m, "velocity": v}
        if self.amsgrad:
            v = new["velocity_hat"] = jnp.maximum(slots["velocity_hat"], v)
        return -m * rate / (jnp.sqrt(v) + self.epsilon), new

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "amsgrad": self.amsgrad}


@serializable("keras.optimizers")
class AdamW(Adam):
    """Adam after `w -= learning_rate * weight_decay * w` (arXiv:1711.05101)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError("AdamW needs a weight_decay; without one it is Adam.")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **kwargs
        )
