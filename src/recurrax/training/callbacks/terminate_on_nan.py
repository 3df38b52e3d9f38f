"""`TerminateOnNaN`: end training when the loss is no number any more."""

from typing import Any

import numpy as np

from recurrax.training.callbacks.base import Callback


class TerminateOnNaN(Callback):
    """End training when the loss is NaN or infinite.

    It waits for each step's loss, so that training ends right there.

    Args:
        raise_error: raise RuntimeError, so that `on_train_end` of other callbacks is not called
            and a backup stays, say.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or np.isfinite(loss):
            return
        text = f"Step {batch + 1}: the loss is {loss}, ending training."
        if self.raise_error:
            raise RuntimeError(text)
        print(text)
        self.model.stop_training = True
