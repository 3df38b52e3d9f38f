"""From what people pass as data to a source of batches."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from recurrax.training.data.arrays import length_of, map_arrays, to_arrays
from recurrax.training.data.indexed import IndexedSource
from recurrax.training.data.source import ArraySource, IterableSource, Source
from recurrax.utils import PyDataset


def gives_batches(x: Any) -> bool:
    """Whether `x` is something that gives batches, rather than arrays."""
    if isinstance(x, PyDataset):
        return True
    if isinstance(x, np.ndarray | jax.Array | list | tuple | Mapping | str):
        return False
    if type(x).__module__.partition(".")[0] == "pandas" or hasattr(x, "detach"):
        return False
    return hasattr(x, "__iter__") and not hasattr(x, "__array__")


def choose_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    shuffle: bool | str = False,
    class_weight: Mapping[int, float] | None = None,
) -> Source:
    """The source for what was passed.

    Args:
        x: arrays, or something that gives batches: a generator, a `PyDataset`, a torch
            `DataLoader`, any iterable of `(x, y)` or `(x, y, sample_weight)`.
        y, sample_weight: for arrays only.
        batch_size: for arrays only; 32 by default.
        shuffle: of arrays and `PyDataset`.
        class_weight: weight by class.

    Raises:
        ValueError: `y`, `sample_weight` or `batch_size` beside what gives batches; no data.
    """
    if x is None:
        raise ValueError("x is missing: pass arrays, or something that gives batches.")
    if not gives_batches(x):
        return ArraySource(
            x, y, sample_weight, 32 if batch_size is None else batch_size, shuffle, class_weight
        )
    kind = type(x).__name__
    for name, value in (("y", y), ("sample_weight", sample_weight), ("batch_size", batch_size)):
        if value is not None:
            raise ValueError(
                f"{name} cannot be given beside x that gives batches (a {kind}): its batches are "
                "(x, y) or (x, y, sample_weight) of the size that they have."
            )
    if isinstance(x, PyDataset):
        return IndexedSource(x, bool(shuffle), class_weight)
    return IterableSource(x, class_weight)


def split_off(x: Any, y: Any, sample_weight: Any, share: float) -> tuple[Any, Any]:
    """The first part of arrays for training and the last part for validation.

    Args:
        x, y, sample_weight: structures of arrays of one length.
        share: of the samples that go to validation, above 0 and below 1.

    Returns:
        `(x, y, sample_weight)` twice.

    Raises:
        ValueError: not arrays, or a part would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"validation_split must be above 0 and below 1, but it is {share!r}.")
    if gives_batches(x):
        raise ValueError(
            "validation_split needs arrays; beside something that gives batches pass "
            "validation_data."
        )
    arrays = (to_arrays(x, "x"), to_arrays(y, "y"), to_arrays(sample_weight, "sample_weight"))
    count = length_of(arrays)
    border = int(count * (1 - share))
    if border == 0 or border == count:
        raise ValueError(
            f"validation_split={share} of {count} samples leaves none for "
            f"{'training' if border == 0 else 'validation'}: give more samples or another share."
        )
    first = map_arrays(lambda a: a[:border], arrays)
    return first, map_arrays(lambda a: a[border:], arrays)
