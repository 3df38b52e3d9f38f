"""`CSVLogger`: the results of each epoch in a table."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from recurrax.training.callbacks.base import Callback


class CSVLogger(Callback):
    """Write a line an epoch, `epoch` and the results in the order of their names.

    Args:
        filename: the file.
        separator: between columns.
        append: go on with the file where it exists.
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        super().__init__()
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._file: Any = None
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        path = Path(self.filename)
        going_on = self.append and path.exists() and path.stat().st_size > 0
        self._file = path.open("a" if self.append else "w", newline="")
        self._header = not going_on
        self._writer = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        if self._writer is None:
            names = ["epoch", *sorted(logs)]
            self._writer = csv.DictWriter(self._file, names, delimiter=self.separator, restval="NA")
            if self._header:
                self._writer.writeheader()
        values = {name: _text(logs[name]) for name in logs if name in self._writer.fieldnames}
        self._writer.writerow({"epoch": epoch, **values})
        self._file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._file.close()
        self._writer = None


def _text(value: Any) -> Any:
    return value if np.ndim(value) == 0 else f'"[{", ".join(map(str, np.ravel(value)))}]"'
