"""`ModelCheckpoint`: save the model as it is trained."""

import os
from pathlib import Path
from typing import Any

from recurrax.training.callbacks.monitor import MonitorCallback


class ModelCheckpoint(MonitorCallback):
    """Save the model, or its weights, after each epoch or each so many steps.

    Args:
        filepath: ends in ".keras", or with `save_weights_only` in ".weights.h5"; may name `{epoch}`
            and results, as in "model-{epoch:02d}-{val_loss:.2f}.keras".
        monitor, mode: as for `MonitorCallback`.
        verbose: 1 prints what happens.
        save_best_only: save only when the result got better, over the earlier file if the name is
            the same.
        save_weights_only: the weights alone.
        save_freq: "epoch", or a number of steps.
        initial_value_threshold: what the first result must be better than.

    Raises:
        ValueError: another ending, or a name that is not among the results.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath = os.fspath(filepath)
        ending = ".weights.h5" if save_weights_only else ".keras"
        if not self.filepath.endswith(ending):
            raise ValueError(f"filepath must end in {ending!r}, but it is {self.filepath!r}.")
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f'save_freq must be "epoch" or a number of steps, but it is {save_freq!r}.'
            )
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self._steps_since = 0
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if isinstance(self.save_freq, int):
            self._steps_since += 1
            if self._steps_since >= self.save_freq:
                self._steps_since = 0
                self._save(self._epoch, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, None, logs)

    def _save(self, epoch: int, batch: int | None, logs: Any) -> None:
        logs = dict(logs or {})
        path = self._path(epoch, batch, logs)
        if self.save_best_only:
            value = self._value(logs)
            if value is None or not self._is_improvement(value, self.best):
                if self.verbose and value is not None:
                    print(f"\nEpoch {epoch + 1}: {self.monitor} is not better than {self.best}.")
                return
            self.best = value
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: saving to {path}.")
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)

    def _path(self, epoch: int, batch: int | None, logs: dict[str, Any]) -> str:
        names = {"epoch": epoch + 1, **logs}
        if batch is not None:
            names["batch"] = batch + 1
        try:
            return self.filepath.format(**names)
        except KeyError as error:
            raise ValueError(
                f"filepath {self.filepath!r} names {error.args[0]!r}, which is not among the "
                f"results: {', '.join(names)}."
            ) from error
