"""Weights of classes as weights of samples."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from recurrax.training.checks import number


def check_class_weight(class_weight: Any) -> None:
    """Raises:
    ValueError: not a dictionary from integer classes to numbers.
    """
    if not isinstance(class_weight, Mapping) or not all(
        isinstance(key, int | np.integer) for key in class_weight
    ):
        raise ValueError(
            "class_weight must be a dictionary from classes (integers) to weights, but it is "
            f"{class_weight!r}."
        )
    for cls, weight in class_weight.items():
        number(f"class_weight[{cls}]", weight, -math.inf)


def of_classes(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """The weight of each entry of `y`, integer classes or one-hot; 1 for classes without one.

    Args:
        y: `(batch,)` or `(batch, 1)` integers, `(batch, steps)` integers, or `(..., classes)`
            one-hot.
        class_weight: weight by class.

    Raises:
        ValueError: `y` is a structure of several arrays.
    """
    if not isinstance(y, np.ndarray):
        raise ValueError(
            "class_weight is for a model with one output; give sample_weight for each output."
        )
    if y.ndim > 1:
        if y.shape[-1] == 1:
            y = y[..., 0]
        elif y.dtype.kind not in "iu" or y.size == 0 or y.max() <= 1:
            y = y.argmax(-1)
    classes = np.round(y).astype("int64")
    weights = np.ones(classes.shape, "float32")
    for cls, weight in class_weight.items():
        weights[classes == cls] = weight
    return weights
