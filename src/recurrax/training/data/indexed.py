"""Batches by index, made ahead by threads."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from recurrax.training.data.source import Batch, IterableSource
from recurrax.utils import PyDataset


class IndexedSource(IterableSource):
    """A `PyDataset`.

    Args:
        data: the data set.
        shuffle: whether each epoch takes the batches in another order.
        class_weight: weight by class.
    """

    def __init__(
        self,
        data: PyDataset,
        shuffle: bool = False,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        self.shuffle = shuffle
        self.num_batches = None
        self._peeked: list[Batch] = []
        self.data: PyDataset = data
        self.class_weight = class_weight
        self.num_batches = data.num_batches
        if self.num_batches == 0:
            raise ValueError(f"The {type(data).__name__} holds no batch: its length is 0.")

    def peek(self) -> Batch:
        if not self._peeked:
            self._peeked.append(self._read(self.data[0]))
        return self._peeked[0]

    def _indices(self) -> Iterator[int]:
        if self.num_batches is None:
            index = 0
            while True:
                yield index
                index += 1
        order = np.arange(self.num_batches)
        if self.shuffle:
            np.random.shuffle(order)
        yield from map(int, order)

    def epoch(self) -> Iterator[Batch]:
        self._peeked.clear()
        on_begin = getattr(self.data, "on_epoch_begin", None)
        if on_begin is not None:
            on_begin()
        if self.data.workers > 1 or self.data.use_multiprocessing:
            batches = self._made_ahead()
        else:
            batches = map(self.data.__getitem__, self._indices())
        for batch in batches:
            yield self._read(batch)
        self.data.on_epoch_end()

    def _made_ahead(self) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        indices = self._indices()
        with ThreadPoolExecutor(max(self.data.workers, 1)) as pool:
            for index in indices:
                waiting.append(pool.submit(self.data.__getitem__, index))
                if len(waiting) >= max(self.data.max_queue_size, 1):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
