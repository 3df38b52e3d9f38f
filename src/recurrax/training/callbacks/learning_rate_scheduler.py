"""`LearningRateScheduler`: a learning rate for each epoch."""

import inspect
from collections.abc import Callable
from typing import Any

from recurrax.training.callbacks.base import Callback
from recurrax.training.callbacks.monitor import learning_rate_of, with_learning_rate


class LearningRateScheduler(Callback):
    """Set the learning rate to `schedule(epoch, rate)` before each epoch.

    Args:
        schedule: a function of the epoch, from 0 on, and of the rate so far; or of the epoch alone.
        verbose: 1 prints the rate.

    Raises:
        ValueError: something that is no function, or (in training) one that returns no number.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise ValueError(
                f"schedule must be a function of the epoch, but it is {schedule!r}: a rate that "
                "stays is the optimizer's learning_rate."
            )
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        rate = learning_rate_of(self.model)
        both = len(inspect.signature(self.schedule).parameters) > 1
        rate = self.schedule(epoch, rate) if both else self.schedule(epoch)
        try:
            rate = float(rate)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The schedule must return a number, but for epoch {epoch} it returned {rate!r}."
            ) from error
        self.model.optimizer.learning_rate = rate
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: setting the learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with_learning_rate(logs, learning_rate_of(self.model))
