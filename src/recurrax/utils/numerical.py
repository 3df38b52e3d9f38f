"""Class labels as vectors."""

from typing import Any

import jax
import numpy as np


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Integer classes `(...)` or `(..., 1)` as one-hot vectors `(..., num_classes)`.

    Args:
        x: integers from 0 to `num_classes` - 1.
        num_classes: the largest class + 1 by default; needed where `x` is a JAX array.

    Raises:
        ValueError: a class is negative or not below `num_classes`.
    """
    shape = np.shape(x)
    if len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    if isinstance(x, jax.Array):
        if num_classes is None:
            raise ValueError("to_categorical of a JAX array needs num_classes.")
        return jax.nn.one_hot(x.reshape(shape), num_classes)
    classes = np.array(x, dtype="int64").reshape(-1)
    if not num_classes:
        num_classes = int(classes.max()) + 1
    outside = classes[(classes < 0) | (classes >= num_classes)]
    if outside.size:
        raise ValueError(
            f"to_categorical was given class {outside[0]}, but num_classes={num_classes}: classes "
            f"go from 0 to {num_classes - 1}."
        )
    one_hot = np.zeros((classes.size, num_classes))
    one_hot[np.arange(classes.size), classes] = 1
    return one_hot.reshape(*shape, num_classes)


def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """`x` divided by its norm of the given order along `axis`; rows of norm 0 stay as they are."""
    norms = np.atleast_1d(np.linalg.norm(x, order, axis))
    norms[norms == 0] = 1
    return np.asarray(x) / np.expand_dims(norms, axis)
