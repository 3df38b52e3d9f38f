"""Gradient descent, with momentum."""

from typing import Any

from jax import Array

from recurrax.registry import serializable
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step


@serializable("keras.optimizers")
class SGD(Optimizer):
    """`w -= learning_rate * g`; with momentum `v = momentum * v - learning_rate * g; w += v`.

    With `nesterov`, `w += momentum * v - learning_rate * g` (Sutskever et al., "On the importance
    of initialization and momentum in deep learning", ICML 2013). Further arguments as for
    `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be from 0 to 1, but it is {momentum!r}.")
        self.momentum = float(momentum)
        self.nesterov = nesterov

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("momentum",),) if self.momentum else ()

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        change = -gradient * step.learning_rate
        if not self.momentum:
            return change, {}
        velocity = slots["momentum"] * self.momentum + change
        if self.nesterov:
            return velocity * self.momentum + change, {"momentum": velocity}
        return velocity, {"momentum": velocity}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}
