"""`TerminateOnNaN`: end training when the loss is no number any more."""

from typing import Any

import numpy as np

from recurrax.training.callbacks.base import Callback


class TerminateOnNaN(Callback):
    """End training when the loss is NaN or infinite.

    It waits for each step's loss, so that training ends right there.
    """

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            print(f"Step {batch + 1}: the loss is {loss}, ending training.")
            self.model.stop_training = True
