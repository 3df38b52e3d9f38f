"""`TensorBoard`: results and weights in files that TensorBoard shows."""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from recurrax.training.callbacks.base import Callback
from recurrax.training.callbacks.event_file import EventFile, histogram, scalar
from recurrax.training.callbacks.monitor import learning_rate_of
from recurrax.training.logs import Logs


class TensorBoard(Callback):
    """Write event files: `epoch_*` for each epoch, in the folders "train" and "validation".

    Args:
        log_dir: the folder that `tensorboard --logdir` is given.
        histogram_freq: histograms of all weights every so many epochs; 0: none.
        write_graph, write_images, profile_batch, embeddings_freq, embeddings_metadata: taken for
            Keras's sake; none of it is written.
        write_steps_per_second: also how many steps an epoch makes in a second.
        update_freq: "epoch", "batch", or every so many steps: also `batch_*`.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        super().__init__()
        self.log_dir = Path(log_dir)
        self.histogram_freq = histogram_freq
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._files: dict[str, EventFile] = {}
        self._step = 0
        self._pending: list[tuple[int, Any]] = []

    def _file(self, run: str) -> EventFile:
        if run not in self._files:
            self._files[run] = EventFile(self.log_dir / run)
        return self._files[run]

    def _scalars(self, run: str, step: int, values: dict[str, Any]) -> None:
        numbers = [scalar(tag, float(v)) for tag, v in values.items() if np.ndim(v) == 0]
        if numbers:
            self._file(run).add(step, *numbers)

    def on_train_begin(self, logs: Any = None) -> None:
        self._step = 0
        self._pending.clear()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began, self._steps_before = time.perf_counter(), self._step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step += 1
        if isinstance(self.update_freq, int) and self._step % self.update_freq == 0:
            self._pending.append((self._step, logs or {}))
            self._write_batches(wait=False)

    def _write_batches(self, wait: bool) -> None:
        while self._pending:
            step, logs = self._pending[0]
            if not wait and isinstance(logs, Logs) and not logs.ready:
                return
            self._pending.pop(0)
            self._scalars("train", step, {f"batch_{name}": v for name, v in logs.items()})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._write_batches(wait=True)
        logs = logs or {}
        train = {f"epoch_{k}": v for k, v in logs.items() if not k.startswith("val_")}
        # An optax transformation may not tell its rate.
        with contextlib.suppress(AttributeError):
            train["epoch_learning_rate"] = learning_rate_of(self.model)
        if self.write_steps_per_second:
            seconds = time.perf_counter() - self._began
            train["epoch_steps_per_second"] = (self._step - self._steps_before) / seconds
        self._scalars("train", epoch, train)
        held_out = {f"epoch_{k[4:]}": v for k, v in logs.items() if k.startswith("val_")}
        if held_out:
            self._scalars("validation", epoch, held_out)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for weight in self.model.weights:
                value = histogram(f"{weight.path}/histogram", weight.numpy())
                self._file("train").add(epoch, value)
        for file in self._files.values():
            file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
