"""`History`: what `fit` returns."""

from typing import Any

from recurrax.training.callbacks.base import Callback


class History(Callback):
    """Keeps the results of each epoch; `fit` adds one and returns it.

    Attributes:
        epoch: the numbers of the epochs.
        history: a list with a value an epoch for each name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
