"""`ReduceLROnPlateau`: a smaller learning rate when a result no longer gets better."""

from typing import Any

import numpy as np

from recurrax.training.callbacks.monitor import (
    MonitorCallback,
    learning_rate_of,
    with_learning_rate,
)
from recurrax.training.checks import number, whole


class ReduceLROnPlateau(MonitorCallback):
    """Multiply the learning rate by `factor` after `patience` epochs without a better result.

    Args:
        monitor, mode, min_delta: as for `MonitorCallback`.
        factor: below 1.
        patience: how many epochs may bring nothing better.
        verbose: 1 prints what happens.
        cooldown: epochs after a reduction that do not count.
        min_lr: the rate does not fall below it.

    Raises:
        ValueError: a factor that is negative or not below 1, or a negative patience.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, None, min_delta)
        if number("factor", factor) >= 1:
            raise ValueError(f"factor must be below 1, but it is {factor!r}.")
        self.factor = factor
        self.patience = whole("patience", patience, 0)
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.cooldown_counter = self.wait = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.cooldown_counter = self.wait = 0
        self.best = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        rate = learning_rate_of(self.model)
        with_learning_rate(logs, rate)
        value = self._value(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_improvement(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            # The optimizer keeps its rate in float32, where min_lr may be a little more.
            if self.wait >= self.patience and rate > np.float32(self.min_lr):
                rate = max(rate * self.factor, self.min_lr)
                self.model.optimizer.learning_rate = rate
                if self.verbose:
                    print(f"\nEpoch {epoch + 1}: reducing the learning rate to {rate}.")
                self.cooldown_counter, self.wait = self.cooldown, 0
