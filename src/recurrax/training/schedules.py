"""Learning rates that change from step to step: functions of the number of the step."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.lookup import find, table_of
from recurrax.registry import serializable, serialize


class LearningRateSchedule:
    """Base of schedules. Define `__call__(step)`, which returns the learning rate, and
    `get_config()`.

    `step` is a scalar array, the number of steps made before; `__call__` is traced.
    """

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__(self, step).")

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} defines no get_config(self).")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LearningRateSchedule":
        return cls(**config)


def _float(step: Any) -> Array:
    return jnp.asarray(step, "float32")


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"{name} must be above 0, but it is {value!r}.")


class _DecayByRate(LearningRateSchedule):
    """Decays by `decay_rate` in `decay_steps`, once at the end of them if in a `staircase`."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        _positive("decay_steps", decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name or type(self).__name__

    def _times(self, step: Any) -> Array:
        times = _float(step) / self.decay_steps
        return jnp.floor(times) if self.staircase else times

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


@serializable("keras.optimizers.schedules")
class ExponentialDecay(_DecayByRate):
    """`initial_learning_rate * decay_rate^(step / decay_steps)`; `staircase` floors the power."""

    def __call__(self, step: Any) -> Array:
        return self.initial_learning_rate * jnp.power(_float(self.decay_rate), self._times(step))


@serializable("keras.optimizers.schedules")
class PiecewiseConstantDecay(LearningRateSchedule):
    """`values[i]` up to and with step `boundaries[i]`, the last value after the last boundary.

    Raises:
        ValueError: `values` is not one longer than `boundaries`, or these do not ascend.
    """

    def __init__(
        self,
        boundaries: Sequence[float],
        values: Sequence[float],
        name: str = "PiecewiseConstant",
    ) -> None:
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"values must be one longer than boundaries, but there are {len(values)} values "
                f"and {len(boundaries)} boundaries."
            )
        if list(boundaries) != sorted(boundaries):
            raise ValueError(f"boundaries must ascend, but they are {list(boundaries)}.")
        self.boundaries = list(boundaries)
        self.values = list(values)
        self.name = name

    def __call__(self, step: Any) -> Array:
        step = _float(step)
        past = sum(
            (step > float(boundary)).astype("int32") for boundary in self.boundaries
        ) + jnp.zeros((), "int32")
        return jnp.asarray(self.values, "float32")[past]

    def get_config(self) -> dict[str, Any]:
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


@serializable("keras.optimizers.schedules")
class PolynomialDecay(LearningRateSchedule):
    """From `initial_learning_rate` to `end_learning_rate` by `(1 - step / decay_steps)^power`.

    With `cycle`, `decay_steps` grows to its next multiple each time that it is reached.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        _positive("decay_steps", decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step: Any) -> Array:
        step, steps = _float(step), _float(self.decay_steps)
        if self.cycle:
            steps = steps * jnp.where(step == 0, 1.0, jnp.ceil(step / self.decay_steps))
        else:
            step = jnp.minimum(step, steps)
        left = jnp.power(1.0 - step / steps, self.power)
        return (self.initial_learning_rate - self.end_learning_rate) * left + (
            self.end_learning_rate
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


@serializable("keras.optimizers.schedules")
class InverseTimeDecay(_DecayByRate):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`; `staircase` floors the
    quotient."""

    def __call__(self, step: Any) -> Array:
        return self.initial_learning_rate / (1.0 + self.decay_rate * self._times(step))


@serializable("keras.optimizers.schedules")
class CosineDecay(LearningRateSchedule):
    """Half a cosine from `initial_learning_rate` to `alpha` times it (arXiv:1608.03983).

    With `warmup_target`, the rate first goes in a line from `initial_learning_rate` to it, in
    `warmup_steps`, and then decays from there.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        _positive("decay_steps", decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def _decayed(self, step: Array, start: float) -> Array:
        share = jnp.minimum(step, self.decay_steps) / self.decay_steps
        cosine = 0.5 * (1.0 + jnp.cos(math.pi * share))
        return start * ((1 - self.alpha) * cosine + self.alpha)

    def __call__(self, step: Any) -> Array:
        step = _float(step)
        if self.warmup_target is None:
            return self._decayed(step, self.initial_learning_rate)
        rise = (self.warmup_target - self.initial_learning_rate) * step / max(self.warmup_steps, 1)
        return jnp.where(
            step < self.warmup_steps,
            self.initial_learning_rate + rise,
            self._decayed(step - self.warmup_steps, self.warmup_target),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


@serializable("keras.optimizers.schedules")
class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decay that starts again after each period (arXiv:1608.03983).

    Args:
        first_decay_steps: length of the first period.
        t_mul: each period is so many times as long as the one before it.
        m_mul: and begins at so many times its rate.
        alpha: the lowest rate, as a share of the first.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        _positive("first_decay_steps", first_decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.alpha = alpha
        self.name = name

    def __call__(self, step: Any) -> Array:
        share = _float(step) / self.first_decay_steps
        if self.t_mul == 1.0:
            period = jnp.floor(share)
            share = share - period
        else:
            period = jnp.floor(
                jnp.log(1.0 - share * (1.0 - self.t_mul)) / jnp.log(_float(self.t_mul))
            )
            gone = (1.0 - self.t_mul**period) / (1.0 - self.t_mul)
            share = (share - gone) / self.t_mul**period
        cosine = 0.5 * self.m_mul**period * (1.0 + jnp.cos(math.pi * share))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self.t_mul,
            "m_mul": self.m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }


_TABLE = table_of(
    [
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
    ]
)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The schedule of a configuration."""
    return find("learning rate schedule", config, _TABLE, custom_objects)


__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]
