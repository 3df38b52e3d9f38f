"""`CSVLogger`: the results of each epoch in a table."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from recurrax.training.callbacks.base import Callback


class CSVLogger(Callback):
    """Write a line an epoch, `epoch` and the results in the order of their names.

    Results that come only in later epochs, as with `validation_freq`, get columns of their own,
    with NA in the lines before.

    Args:
        filename: the file.
        separator: between columns.
        append: go on with the file where it exists.
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"separator must be one character, but it is {separator!r}.")
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._file: Any = None
        self._names: list[str] = []

    def on_train_begin(self, logs: Any = None) -> None:
        path = Path(self.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._names = []
        if self.append and path.exists():
            with path.open(newline="") as file:
                self._names = next(csv.reader(file, delimiter=self.separator), [])
        self._file = path.open("a" if self._names else "w", newline="")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        more = [name for name in ("epoch", *sorted(logs)) if name not in self._names]
        if more:
            self._widen(more)
        values = {name: _text(logs[name]) for name in logs}
        self._writer(self._file).writerow({"epoch": epoch, **values})
        self._file.flush()

    def _writer(self, file: Any) -> Any:
        return csv.DictWriter(file, self._names, delimiter=self.separator, restval="NA")

    def _widen(self, more: list[str]) -> None:
        """Write the file anew with these further columns."""
        path, wider = Path(self.filename), Path(f"{self.filename}.part")
        self._file.close()
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file, delimiter=self.separator))
        self._names += more
        with wider.open("w", newline="") as file:
            self._writer(file).writeheader()
            self._writer(file).writerows(lines)
        os.replace(wider, path)
        self._file = path.open("a", newline="")

    def on_train_end(self, logs: Any = None) -> None:
        self._file.close()


def _text(value: Any) -> Any:
    return value if np.ndim(value) == 0 else f'"[{", ".join(map(str, np.ravel(value)))}]"'
