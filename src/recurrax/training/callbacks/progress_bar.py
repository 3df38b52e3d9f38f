"""`ProgressBar`: how training goes, on the terminal."""

import time
from collections import deque
from typing import Any

import numpy as np

from recurrax.training.callbacks.base import Callback
from recurrax.training.logs import Logs

# Seconds between two drawings.
_INTERVAL = 0.1
# Characters of the bar, where the terminal is wide enough.
_BAR = 24


class ProgressBar(Callback):
    """A live bar (verbose 1), or a line an epoch (verbose 2).

    It shows the newest results that have come from the device and waits for none.

    Args:
        verbose: 1 or 2.
        kind: "train", "test" or "predict": whose steps are shown.
    """

    def __init__(self, verbose: int = 1, kind: str = "train") -> None:
        super().__init__()
        self.verbose = verbose
        self.kind = kind
        self._waiting: deque[tuple[int, Any]] = deque()
        self._live: Any = None
        self._bar: Any = None

    def _start(self) -> None:
        self._waiting.clear()
        self._shown: tuple[int, Any] = (0, {})
        self._sent = 0
        self._began = time.perf_counter()
        self._drawn = 0.0
        if self.verbose != 1:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        self._bar = BarColumn(bar_width=_BAR)
        self._live = Progress(
            MofNCompleteColumn(),
            self._bar,
            TextColumn("{task.fields[text]}", table_column=Column(overflow="fold")),
            auto_refresh=False,
        )
        self._live.start()
        self._task = self._live.add_task("", total=self.params.get("steps"), text="")

    def _speed(self, steps: int) -> str:
        seconds = time.perf_counter() - self._began
        per_step = seconds / max(steps, 1)
        each = f"{per_step * 1e3:.0f}ms" if per_step < 1 else f"{per_step:.1f}s"
        return f"{seconds:.0f}s {each}/step"

    def _draw(self) -> None:
        self._drawn = time.perf_counter()
        if self._live is None:
            return
        step, logs = self._shown
        text = "  ".join([self._speed(step), *_texts(logs)])
        # On a narrow terminal the bar gives way to the numbers.
        room = self._live.console.width - len(text) - 2 * len(str(self._sent)) - 3
        self._bar.bar_width = max(4, min(_BAR, room))
        self._live.update(self._task, completed=step, text=text)
        self._live.refresh()

    def _advance(self, wait: bool = False) -> None:
        """Take over results that are here; with `wait`, all, drawing as they come."""
        while self._waiting and (wait or _is_ready(self._waiting[0][1])):
            step, logs = self._waiting.popleft()
            if wait and isinstance(logs, Logs):
                logs.fetch()
            self._shown = (step, logs)
            if wait and time.perf_counter() - self._drawn > _INTERVAL:
                self._draw()

    def _step(self, step: int, logs: Any) -> None:
        self._sent = step + 1
        self._waiting.append((step + 1, logs or {}))
        if time.perf_counter() - self._drawn > _INTERVAL:
            self._advance()
            self._draw()

    def drain(self) -> None:
        """Wait for what is under way, showing results as they come."""
        if self.kind == "train":
            self._advance(wait=True)

    def _stop(self, logs: Any) -> None:
        self._advance(wait=True)
        self._shown = (self._sent, logs if logs is not None else self._shown[1])
        if self._live is not None:
            self._live.update(self._task, total=self._sent)
            self._draw()
            self._live.stop()
            self._live = None
        elif self.verbose == 2:
            parts = [f"{self._sent}/{self._sent}", self._speed(self._sent), *_texts(logs or {})]
            print(" - ".join(parts), flush=True)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.kind == "train":
            print(f"Epoch {epoch + 1}/{self.params.get('epochs')}", flush=True)
            self._start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.kind == "train":
            self._step(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.kind == "train":
            self._stop(logs)

    def on_test_begin(self, logs: Any = None) -> None:
        if self.kind == "test":
            self._start()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.kind == "test":
            self._step(batch, logs)

    def on_test_end(self, logs: Any = None) -> None:
        if self.kind == "test":
            self._stop(logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        if self.kind == "predict":
            self._start()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.kind == "predict":
            self._step(batch, None)

    def on_predict_end(self, logs: Any = None) -> None:
        if self.kind == "predict":
            self._stop(None)

    def close(self) -> None:
        """Give the terminal back, also after an error."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _is_ready(logs: Any) -> bool:
    return not isinstance(logs, Logs) or logs.ready


def _texts(logs: Any) -> list[str]:
    texts = []
    for name, value in logs.items():
        if np.ndim(value) == 0:
            number = float(value)
            texts.append(f"{name}: {number:.4f}" if abs(number) > 1e-3 else f"{name}: {number:.4e}")
        else:
            texts.append(f"{name}: {np.array2string(np.asarray(value), precision=4)}")
    return texts
