"""Gradients in half precision, kept from vanishing by a scale that finds its own size."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.registry import deserialize, serializable, serialize
from recurrax.training.optimizers.base import Optimizer
from recurrax.variable import Variable


@serializable("keras.optimizers")
class LossScaleOptimizer(Optimizer):
    """Scales the loss for another optimizer (arXiv:1710.03740); `compile` adds it to
    `mixed_float16` models.

    A step whose gradients are not all finite is left out and halves the scale;
    `dynamic_growth_steps` steps without one double it.

    Args:
        inner_optimizer: what makes the steps.
        initial_scale: scale at first.
        dynamic_growth_steps: see above.
        name: name.
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(0.0, name=name, **kwargs)
        self.inner_optimizer = inner_optimizer
        self.initial_scale = initial_scale
        self.dynamic_growth_steps = dynamic_growth_steps
        # The scale here is the only one.
        inner_optimizer.loss_scale_factor = None
        self.step_counter = self._variable(np.zeros((), "int32"), "step_counter")
        self.dynamic_scale = self._variable(np.asarray(initial_scale, "float32"), "dynamic_scale")

    def build(self, variables: Iterable[Variable]) -> None:
        if self.built:
            return
        variables = list(variables)
        self.inner_optimizer.build(variables)
        super().build(variables)

    def build_slots(self, parameters: Sequence[Variable]) -> list[Variable]:
        return []

    @property
    def variables(self) -> list[Variable]:
        """All state: the scale's, then the inner optimizer's."""
        own = [*self._own, self.step_counter, self.dynamic_scale] if self.built else self._own
        return [*own, *self.inner_optimizer.variables]

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Any
    ) -> tuple[list[Any], list[Any]]:
        self._check(optimizer_variables, grads, trainable_variables)
        iteration, rate, counter, scale, *inner = optimizer_variables
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in grads if g is not None]))

        def step() -> Any:
            unscaled = [
                None if g is None else g.astype(jnp.promote_types(g.dtype, "float32")) / scale
                for g in grads
            ]
            new, state = self.inner_optimizer.stateless_apply(
                inner, unscaled, list(trainable_variables)
            )
            grow = counter == self.dynamic_growth_steps - 1
            return new, [
                jnp.where(grow, 0, counter + 1),
                jnp.where(grow, scale * 2.0, scale),
                *state,
            ]

        def skip() -> Any:
            return list(trainable_variables), [jnp.zeros_like(counter), scale * 0.5, *inner]

        new, state = jax.lax.cond(finite, step, skip)
        return new, [iteration, rate, *state]

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        self.inner_optimizer.learning_rate = rate

    @property
    def iterations(self) -> Any:
        """How many updates were made."""
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        return loss * self.dynamic_scale.value.astype(jnp.result_type(loss))

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "inner_optimizer": serialize(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "LossScaleOptimizer":
        inner = deserialize(config["inner_optimizer"], custom_objects)
        return cls(**{**config, "inner_optimizer": inner})
