"""A training that a test kills; run in processes of its own."""

import json
import os
import time
from pathlib import Path

import numpy as np

import recurrax as rx


class Slow(rx.callbacks.Callback):
    """Gives the killer time between steps, and tells that training is under way."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_batch_end(self, batch, logs=None):
        (self.folder / "under way").touch()
        time.sleep(0.004)


def train(folder: str, backed_up: bool, steps_per_epoch: int | None = None) -> None:
    """Fit a small model with everything random in it, and write down what came out."""
    rx.utils.set_random_seed(7)
    x = np.random.normal(size=(60, 4, 3)).astype("float32")
    y = x.sum(axis=(1, 2))[:, None]
    model = rx.Sequential(
        [
            rx.Input((4, 3)),
            rx.layers.GRU(3, dropout=0.2, recurrent_dropout=0.1),
            rx.layers.Dropout(0.1),
            rx.layers.Dense(1),
        ]
    )
    model.compile(rx.optimizers.Adam(0.01), "mse", metrics=["mae"])
    path = Path(folder)
    callbacks: list = [Slow(path), rx.callbacks.ReduceLROnPlateau("loss", patience=1, cooldown=1)]
    if backed_up:
        callbacks.insert(0, rx.callbacks.BackupAndRestore(path / "backup", save_freq=3))
    history = model.fit(
        x,
        y,
        batch_size=6,
        epochs=5,
        steps_per_epoch=steps_per_epoch,
        validation_split=0.1,
        callbacks=callbacks,
        verbose=0,
    )
    result = {
        "weights": [v.numpy().tolist() for v in model.variables],
        "optimizer": [v.numpy().tolist() for v in model.optimizer.variables],
        "history": {k: [float(v) for v in values] for k, values in history.history.items()},
        "epochs": history.epoch,
    }
    (path / "result.part").write_text(json.dumps(result))
    os.replace(path / "result.part", path / "result")


if __name__ == "__main__":
    train(*ARGUMENTS)
