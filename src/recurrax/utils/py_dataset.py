"""`PyDataset`: data that come batch by batch, by index."""

from typing import Any


class PyDataset:
    """Base of data sets that give batch number `index` from `__getitem__`.

    A batch is `x`, `(x, y)` or `(x, y, sample_weight)`, each an array or a structure of arrays.
    Define `__getitem__` and `__len__` (or `num_batches`; None says: without end), and, where the
    data change from epoch to epoch, `on_epoch_end`.

    Args:
        workers: above 1, that many threads make batches ahead; 1: one thread does.
        use_multiprocessing: taken for Keras's sake; threads are used.
        max_queue_size: how many batches are made ahead.
    """

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __getitem__(self, index).")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} defines no __len__(self).")

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; None: without end."""
        return len(self)

    def on_epoch_begin(self) -> None:
        """Called before each epoch."""

    def on_epoch_end(self) -> None:
        """Called after each epoch."""
