"""`split_dataset`: arrays in two parts."""

from typing import Any

import jax
import numpy as np


def split_dataset(
    dataset: Any,
    left_size: float | int | None = None,
    right_size: float | int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
) -> tuple[Any, Any]:
    """Arrays cut into a left and a right part, for training and testing, say.

    Args:
        dataset: an array of samples, or a tuple, list or dictionary of arrays of one length.
        left_size: samples of the left part, or, above 0 and below 1, its share; what the right
            part leaves where None.
        right_size: the same of the right part, which ends where the data end.
        shuffle: draw the samples of the parts at random.
        seed: for `shuffle`; drawn from NumPy's generator where None.

    Returns:
        Two structures like `dataset`, of NumPy arrays (Keras gives datasets of TensorFlow or
        torch).

    Raises:
        TypeError: something that is no array.
        ValueError: sizes that are missing, out of range or together too large, arrays of
            different lengths, or a part without a sample.
    """
    leaves = jax.tree.leaves(dataset)
    if not leaves or not all(np.ndim(leaf) and hasattr(leaf, "shape") for leaf in leaves):
        wrong = next((x for x in leaves if not hasattr(x, "shape") or not np.ndim(x)), dataset)
        raise TypeError(
            "split_dataset expected an array, or a tuple, list or dictionary of arrays, but got "
            f"{wrong!r:.80} of type {type(wrong).__name__}: pass np.asarray(data)."
        )
    lengths = sorted({len(leaf) for leaf in leaves})
    if len(lengths) > 1:
        raise ValueError(f"split_dataset expected arrays of one length, but they have {lengths}.")
    total = lengths[0]
    left, right = _sizes(left_size, right_size, total)
    order = np.arange(total)
    if shuffle:
        (np.random if seed is None else np.random.RandomState(seed)).shuffle(order)
    parts = (order[:left], order[total - right :])
    first, second = (
        jax.tree.map(lambda a, part=part: np.asarray(a)[part], dataset) for part in parts
    )
    return first, second


def _sizes(left: Any, right: Any, total: int) -> tuple[int, int]:
    if left is None and right is None:
        raise ValueError("split_dataset needs left_size, right_size or both: left_size=0.8, say.")
    for name, size in (("left_size", left), ("right_size", right)):
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if size is not None and not (
            0 < size < total if whole else isinstance(size, float) and 0 < size < 1
        ):
            raise ValueError(
                f"{name} must be a number of samples from 1 to {total - 1}, or a share above 0 and "
                f"below 1, but it is {size!r}."
            )
    # A part whose size is not given gets what the other one leaves.
    if left is None:
        second = _count(right, total)
        first = total - second
    else:
        first = _count(left, total)
        second = total - first if right is None else _count(right, total)
    if first + second > total or min(first, second) < 1:
        raise ValueError(
            f"left_size={left!r} and right_size={right!r} of {total} samples would be {first} and "
            f"{second}: give parts that hold a sample and are together at most {total}."
        )
    return first, second


def _count(size: Any, total: int) -> int:
    return round(size * total) if isinstance(size, float) else int(size)
