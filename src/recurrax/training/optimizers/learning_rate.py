"""What a learning rate may be: a number, a schedule, or a function without arguments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import Array

from recurrax.dtypes import floatx
from recurrax.registry import deserialize
from recurrax.training.schedules import LearningRateSchedule


def checked(rate: Any) -> Any:
    """A number as an array; a schedule, also of a configuration, and a function as they are.

    Raises:
        ValueError: it is none of them.
    """
    if isinstance(rate, Mapping):
        rate = deserialize(rate)
    if isinstance(rate, LearningRateSchedule) or callable(rate):
        return rate
    kinds = int | float | np.number | Array | np.ndarray
    if not isinstance(rate, kinds) or isinstance(rate, bool) or np.ndim(rate):
        raise ValueError(
            "learning_rate must be a number, a LearningRateSchedule or a function without "
            f"arguments, but it is {rate!r}."
        )
    return np.asarray(rate, floatx())


def value_at(rate: Any, iteration: Any) -> Any:
    """What a schedule or a function gives after `iteration` steps."""
    return rate(iteration) if isinstance(rate, LearningRateSchedule) else rate()
