"""What training takes its batches from, whatever people pass."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from recurrax.training.data.arrays import length_of, to_arrays
from recurrax.training.data.weights import check_class_weight, of_classes
from recurrax.utils import unpack_x_y_sample_weight

Batch = tuple[Any, Any, Any]


class Source:
    """Batches `(x, y, sample_weight)` of NumPy arrays, epoch by epoch.

    Attributes:
        num_batches: batches in an epoch; None where nobody knows.
    """

    num_batches: int | None = None

    def epoch(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        raise NotImplementedError

    def peek(self) -> Batch:
        """A batch to learn shapes from; it comes again in the next epoch.

        Raises:
            ValueError: there is none.
        """
        raise NotImplementedError


class ArraySource(Source):
    """Arrays in memory.

    Args:
        x, y, sample_weight: arrays or structures of arrays of the same length.
        batch_size: samples in a batch; the last batch has what is left.
        shuffle: whether each epoch has another order; "batch": of whole batches.
        class_weight: weight by class.

    Raises:
        ValueError: no data, or different lengths.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int = 32,
        shuffle: bool | str = False,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer above 0, but it is {batch_size!r}.")
        if isinstance(shuffle, str) and shuffle != "batch":
            raise ValueError(f'shuffle must be True, False or "batch", but it is {shuffle!r}.')
        self.x = to_arrays(x, "x")
        self.y = to_arrays(y, "y")
        self.sample_weight = to_arrays(sample_weight, "sample_weight")
        if class_weight is not None:
            check_class_weight(class_weight)
            if sample_weight is not None:
                raise ValueError("Give class_weight or sample_weight, not both.")
            if self.y is None:
                raise ValueError("class_weight needs y.")
            self.sample_weight = of_classes(self.y, class_weight)
        self._check_lengths()
        self.num_samples = length_of(self.x)
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.num_batches = -(-self.num_samples // self.batch_size)

    def _check_lengths(self) -> None:
        lengths = {}
        for what, data in (("x", self.x), ("y", self.y), ("sample_weight", self.sample_weight)):
            for path, leaf in jax.tree_util.tree_leaves_with_path(data):
                name = what + jax.tree_util.keystr(path)
                if leaf.ndim == 0:
                    raise ValueError(f"{name} is a single number, but must be an array of samples.")
                lengths[name] = len(leaf)
        if not lengths or not all(name in lengths for name in lengths if name.startswith("x")):
            raise ValueError("x holds no array.")
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise ValueError(
                "x, y and sample_weight must have the same number of samples, but have "
                f"{found:.300}.{_mend(self.x)}"
            )
        if not next(iter(lengths.values())):
            raise ValueError("x holds no samples (length 0): give at least one.")

    def _order(self) -> np.ndarray | None:
        if self.shuffle == "batch":
            whole = self.num_samples // self.batch_size
            order = np.arange(whole * self.batch_size).reshape(whole, self.batch_size)
            order = np.random.permutation(order).reshape(-1)
            return np.concatenate([order, np.arange(order.size, self.num_samples)])
        return np.random.permutation(self.num_samples) if self.shuffle else None

    def _part(self, which: Any) -> Batch:
        return jax.tree.map(lambda a: a[which], (self.x, self.y, self.sample_weight))

    def epoch(self) -> Iterator[Batch]:
        order = self._order()
        for start in range(0, self.num_samples, self.batch_size):
            which = slice(start, start + self.batch_size)
            yield self._part(which if order is None else order[which])

    def peek(self) -> Batch:
        return self._part(slice(0, self.batch_size))

    @property
    def last_batch_size(self) -> int:
        """Samples in the last batch of an epoch."""
        return self.num_samples - (self.num_batches or 1) * self.batch_size + self.batch_size


def _mend(x: Any) -> str:
    if not isinstance(x, list):
        return ""
    return (
        " A list holds one array for each input of the model: make one array of samples with "
        "np.stack(x), or with recurrax.utils.pad_sequences(x, dtype='float32') where they differ "
        "in length."
    )


class IterableSource(Source):
    """Anything that gives batches: a generator, a list of batches, a torch DataLoader, ...

    An iterator goes on in the next epoch where it stopped; what can be iterated anew begins anew.

    Args:
        data: the iterable of `x`, `(x, y)` or `(x, y, sample_weight)`.
        class_weight: weight by class.
    """

    def __init__(self, data: Any, class_weight: Mapping[int, float] | None = None) -> None:
        if class_weight is not None:
            check_class_weight(class_weight)
        self.data = data
        self.class_weight = class_weight
        self.once = iter(data) is data
        self.num_batches = None if self.once else _length(data)
        self._iterator: Iterator[Any] | None = None
        self._peeked: list[Batch] = []

    def _read(self, batch: Any) -> Batch:
        x, y, weight = unpack_x_y_sample_weight(batch)
        x, y, weight = to_arrays(x, "x"), to_arrays(y, "y"), to_arrays(weight, "sample_weight")
        if self.class_weight is not None:
            if weight is not None:
                raise ValueError("Give class_weight or sample_weight, not both.")
            weight = of_classes(y, self.class_weight)
        return x, y, weight

    def peek(self) -> Batch:
        if not self._peeked:
            self._iterator = iter(self.data)
            for batch in self._iterator:
                self._peeked.append(self._read(batch))
                break
            else:
                raise ValueError(f"The data, a {type(self.data).__name__}, hold no batch.")
        return self._peeked[0]

    def epoch(self) -> Iterator[Batch]:
        if self._iterator is None or not (self.once or self._peeked):
            self._iterator = iter(self.data)
        iterator = self._iterator
        if self._peeked:
            yield self._peeked.pop()
        for batch in iterator:
            yield self._read(batch)


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


class Rounds:
    """Epochs of a given number of steps from a source that may be shorter or longer."""

    def __init__(self, source: Source, steps: int | None) -> None:
        self.source = source
        self.steps = steps
        self._open: Iterator[Batch] | None = None

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; None where nobody knows."""
        return self.steps if self.steps is not None else self.source.num_batches

    def begin_anew(self) -> None:
        """Let the next epoch start at the beginning of data that can be gone through again."""
        self._open = None

    def epoch(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        if self.steps is None:
            yield from self.source.epoch()
            return
        for step in range(self.steps):
            batch = self._next()
            if batch is None:
                warnings.warn(
                    f"The data ended after {step} of {self.steps} steps: give at least as many "
                    "batches as steps_per_epoch times epochs, or data that begin anew.",
                    stacklevel=4,
                )
                return
            yield batch

    def forward(self, epochs: int) -> None:
        """Leave out so many epochs of data that go on from one epoch to the next."""
        if self.steps is not None or getattr(self.source, "once", False):
            for _ in range(epochs):
                for _ in self.epoch():
                    pass

    def _next(self) -> Batch | None:
        for _ in range(2):
            if self._open is None:
                self._open = self.source.epoch()
            for batch in self._open:
                return batch
            self._open = None
        return None
