"""Adam's second moment, factored into rows and columns."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.registry import serializable
from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Slots, Step
from recurrax.variable import Variable


def _rms(x: Array) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))


@serializable("keras.optimizers")
class Adafactor(Optimizer):
    """Gradients divided by the root of a second moment kept as rows and columns, their size
    limited and in proportion to the variable's (arXiv:1804.04235).

    Args:
        learning_rate: as for `Optimizer`, like further arguments.
        beta_2_decay: power of the number of the step by which the moment forgets.
        epsilon_1: added to squared gradients.
        epsilon_2: the least size of a variable that counts.
        clip_threshold: the largest root mean square of a change, before the rate.
        relative_step: the rate is at most `1 / sqrt(step)`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("row", "column", "velocity"),)

    def initial_slot(self, name: str, parameter: Variable) -> np.ndarray | None:
        shape = parameter.shape
        if name != "velocity" and len(shape) < 2:
            # Nothing to factor; Keras keeps a whole number in the place, also in its files.
            return np.zeros((), "int32")
        shape = {
            "row": shape[:-1],
            "column": shape[:-2] + shape[-1:],
            "velocity": shape,
        }[name]
        return np.zeros(shape, parameter.dtype)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        # Both of the paper's rates, relative or not, end at this limit.
        rate = jnp.minimum(step.learning_rate, 1 / jnp.sqrt(step.number))
        keep = 1 - jnp.power(step.number, self.beta_2_decay)
        squares = jnp.square(gradient) + self.epsilon_1
        new = dict(slots)
        if parameter.ndim >= 2:
            row = keep * slots["row"] + (1 - keep) * jnp.mean(squares, axis=-1)
            column = keep * slots["column"] + (1 - keep) * jnp.mean(squares, axis=-2)
            share = row / jnp.mean(row, axis=-1, keepdims=True)
            velocity = share[..., None] * column[..., None, :]
            new |= {"row": row, "column": column}
        else:
            velocity = keep * slots["velocity"] + (1 - keep) * squares
        new["velocity"] = velocity
        change = gradient / jnp.sqrt(velocity)
        change = change / jnp.maximum(1.0, _rms(change) / self.clip_threshold)
        return -jnp.maximum(self.epsilon_2, _rms(parameter)) * rate * change, new

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_2_decay": self.beta_2_decay,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "clip_threshold": self.clip_threshold,
            "relative_step": self.relative_step,
        }
