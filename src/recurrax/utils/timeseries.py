"""`timeseries_dataset_from_array`: sliding windows over a series."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from recurrax.utils.py_dataset import PyDataset


class Batch(np.ndarray):
    """An array that also answers to `numpy()`, as the tensors do that Keras gives."""

    def numpy(self) -> np.ndarray:
        """A plain array."""
        return np.asarray(self)


class TimeseriesDataset(PyDataset):
    """Windows of a series in batches; see `timeseries_dataset_from_array`, which makes it.

    Iterating gives the batches of one epoch; windows are cut out only then.
    """

    def __init__(
        self,
        data: Any,
        targets: Any,
        starts: np.ndarray,
        offsets: np.ndarray,
        batch_size: int | None,
        rng: np.random.RandomState | None,
    ) -> None:
        super().__init__()
        self.data, self.targets = data, targets
        self.starts, self.offsets = starts, offsets
        self.batch_size = batch_size
        self.rng = rng

    def __len__(self) -> int:
        return -(-len(self.starts) // (self.batch_size or 1))

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches, but number {index} was asked for.")
        if self.batch_size is None:
            starts = self.starts[index]
        else:
            starts = self.starts[index * self.batch_size : (index + 1) * self.batch_size]
        windows = np.asarray(self.data[starts[..., None] + self.offsets]).view(Batch)
        if self.targets is None:
            return windows
        return windows, np.asarray(self.targets[starts]).view(Batch)

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            yield self[index]
        self.on_epoch_end()

    def take(self, count: int) -> Iterator[Any]:
        """The first `count` batches of an epoch; all of them where `count` is -1."""
        return itertools.islice(self, None if count == -1 else count)

    def on_epoch_end(self) -> None:
        if self.rng is not None:
            self.rng.shuffle(self.starts)


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> TimeseriesDataset:
    """Windows of a series, each with its target, in batches.

    Window i holds the steps `i * sequence_stride + j * sampling_rate`, j from 0 to
    `sequence_length` - 1, and goes with `targets[i * sequence_stride]`.

    Args:
        data: the series, `(steps, ...)`.
        targets: what belongs to each start of a window, or None.
        sequence_length: steps in a window.
        sequence_stride: steps from one window's start to the next one's.
        sampling_rate: steps of the series between two steps of a window.
        batch_size: windows in a batch; None: no batches, one window at a time.
        shuffle: another order of the windows in every epoch.
        seed: of the order.
        start_index, end_index: only `data[start_index:end_index]` is used.

    Returns:
        An iterable of `(windows, targets)` (of `windows` alone where `targets` is None), windows of
        shape `(batch, sequence_length, ...)`; `fit` takes it.

    Raises:
        ValueError: an argument is out of range.
    """
    steps = len(data)
    for name, value in (("sampling_rate", sampling_rate), ("sequence_stride", sequence_stride)):
        if not 0 < value < steps:
            raise ValueError(
                f"{name} must be above 0 and below the length of the data, {steps}, but it is "
                f"{value}."
            )
    first = start_index or 0
    last = steps if end_index is None else end_index
    if not 0 <= first < steps:
        raise ValueError(f"start_index must be from 0 to {steps - 1}, but it is {start_index}.")
    if end_index is not None and not first < last < steps:
        raise ValueError(
            f"end_index must be above start_index={first} and below the length of the data, "
            f"{steps}, but it is {end_index}."
        )
    count = last - first - (sequence_length - 1) * sampling_rate
    if targets is not None:
        count = min(count, len(targets))
    if sequence_length < 1 or count < 1:
        raise ValueError(
            f"sequence_length={sequence_length} with sampling_rate={sampling_rate} does not fit "
            f"into {last - first} steps: no window is left."
        )
    starts = np.arange(0, count, sequence_stride)
    rng = None
    if shuffle:
        rng = np.random.RandomState(np.random.randint(10**6) if seed is None else seed)
        rng.shuffle(starts)
    data = np.asarray(data)[first:last]
    targets = None if targets is None else np.asarray(targets)[first:]
    if targets is not None and len(targets) <= starts.max():
        raise ValueError(
            f"targets has {len(targets) + first} entries, but windows start up to step "
            f"{starts.max() + first}: give a target for each start."
        )
    offsets = np.arange(0, sequence_length * sampling_rate, sampling_rate)
    return TimeseriesDataset(data, targets, starts, offsets, batch_size, rng)
