"""What people pass as data, as NumPy arrays."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recurrax.dtypes import floatx


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float | bool | np.generic)


def is_plain(x: Any) -> bool:
    """Whether `x` is a number, or a list of numbers, of lists of numbers, ..."""
    while isinstance(x, list | tuple) and len(x):
        x = x[0]
    return _is_number(x)


def to_numpy(x: Any, what: str = "x") -> np.ndarray:
    """One array: NumPy, JAX, a torch or TensorFlow tensor, pandas, or a list of numbers.

    Floating-point numbers become the default floating-point type.

    Raises:
        ValueError: something else, or rows of different lengths.
    """
    if type(x).__module__.partition(".")[0] == "pandas":
        x = x.to_numpy()
        x = x[:, None] if x.ndim == 1 else x
    elif hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    elif hasattr(x, "numpy") and not isinstance(x, np.ndarray | jax.Array):
        x = x.numpy()
    elif not (isinstance(x, np.ndarray | jax.Array) or is_plain(x)):
        raise ValueError(
            f"{what} must be an array, a list of numbers or a structure of arrays, but it holds "
            f"{x!r:.80} of type {type(x).__name__}."
        )
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(
            f"{what} is a list of rows of different lengths: make them one array first, with "
            "recurrax.utils.pad_sequences(rows) for instance."
        ) from error
    if array.dtype == object:
        raise ValueError(
            f"{what} has dtype object, which is no number: convert it with .astype('float32'), and "
            "rows of different lengths with recurrax.utils.pad_sequences."
        )
    if array.dtype.kind == "f" and array.dtype != floatx():
        array = array.astype(floatx())
    return array


def map_arrays(function: Callable[[Any], Any], data: Any) -> Any:
    """`data` with `function` of each array; a list of numbers is an array."""
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {key: map_arrays(function, value) for key, value in data.items()}
    if isinstance(data, list | tuple) and data and not is_plain(data):
        return type(data)(map_arrays(function, value) for value in data)
    return function(data)


def to_arrays(data: Any, what: str = "x") -> Any:
    """A structure of arrays; None stays."""
    return map_arrays(lambda x: to_numpy(x, what), data)


def length_of(data: Any) -> int:
    """Entries along the first axis."""
    return len(jax.tree.leaves(data)[0])
