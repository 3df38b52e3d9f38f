"""Checks of arguments that optimizers, losses, metrics and callbacks take."""

import math
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def number(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> Any:
    """`value`, if it is a number from `low` to `high`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, Tracer):
        return value
    kinds = int | float | np.number | np.ndarray | jax.Array
    plain = isinstance(value, kinds) and not isinstance(value, bool) and np.ndim(value) == 0
    if not plain or not low <= float(value) <= high:
        limits = f" from {low:g} on" if high == math.inf else f" from {low:g} to {high:g}"
        limits = "" if low == -math.inf else limits
        raise ValueError(f"{name} must be a number{limits}, but it is {value!r}.")
    return value


def whole(name: str, value: Any, least: int = 1) -> Any:
    """`value`, if it is an integer from `least` on.

    Raises:
        ValueError: it is not.
    """
    kinds = int | np.integer
    if not isinstance(value, kinds) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer from {least} on, but it is {value!r}.")
    return value
