"""The demo's model from a cold process: import, first batch, seconds per epoch.

    python benchmarks/digits.py [--rounds 3]

Embedding(17, 64), LSTM(128), Dense(10) on 1,437 sequences of 64 integers, batches of 32, Adam.
Each contender runs in a fresh process every round; medians are printed.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import harness

BATCH, EPOCHS = 32, 3


def _data() -> tuple[Any, Any]:
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.data.astype(np.int32)[:1437], digits.target.astype(np.int32)[:1437]


def _keras_like(load: Callable[[], Any], pipe: Any) -> None:
    x, y = _data()
    start = time.perf_counter()
    keras = load()
    imported = time.perf_counter()
    model = keras.Sequential(
        [
            keras.layers.Embedding(17, 64),
            keras.layers.LSTM(128),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.train_on_batch(x[:BATCH], y[:BATCH])
    first = time.perf_counter()
    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
    epochs = []
    for _ in range(EPOCHS):
        begun = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
        epochs.append(time.perf_counter() - begun)
    pipe.send((imported - start, first - start, statistics.median(epochs)))


def _load_recurrax() -> Any:
    import recurrax

    return recurrax


def _load_keras() -> Any:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    return keras


def recurrax(pipe: Any) -> None:
    _keras_like(_load_recurrax, pipe)


def keras_jax(pipe: Any) -> None:
    _keras_like(_load_keras, pipe)


def torch(pipe: Any) -> None:
    x, y = _data()
    start = time.perf_counter()
    import torch

    imported = time.perf_counter()

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(17, 64)
            self.lstm = torch.nn.LSTM(64, 128, batch_first=True)
            self.dense = torch.nn.Linear(128, 10)

        def forward(self, ids: Any) -> Any:
            return self.dense(self.lstm(self.embedding(ids))[0][:, -1])

    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters())
    criterion = torch.nn.CrossEntropyLoss()
    inputs, labels = torch.from_numpy(x).long(), torch.from_numpy(y).long()

    def step(rows: Any) -> None:
        optimizer.zero_grad()
        criterion(model(inputs[rows]), labels[rows]).backward()
        optimizer.step()

    step(torch.arange(BATCH))
    first = time.perf_counter()
    epochs = []
    for _ in range(EPOCHS + 1):
        begun = time.perf_counter()
        for rows in torch.randperm(len(inputs)).split(BATCH):
            step(rows)
        epochs.append(time.perf_counter() - begun)
    pipe.send((imported - start, first - start, statistics.median(epochs[1:])))


CONTENDERS = {"recurrax": recurrax, "torch": torch, "keras-jax": keras_jax}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", help=f"of {','.join(CONTENDERS)}")
    options = parser.parse_args()
    names = harness.pick(list(CONTENDERS), options.contenders)
    context = multiprocessing.get_context("spawn")
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            ours, theirs = context.Pipe()
            process = context.Process(target=CONTENDERS[name], args=(theirs,))
            process.start()
            theirs.close()
            measured[name].append(ours.recv())
            process.join()
    print(harness.machine())
    print("contender   import   first batch (import included)   epoch   [s, medians]")
    for name, figures in measured.items():
        imported, first, epoch = (
            statistics.median(column) for column in zip(*figures, strict=True)
        )
        print(f"{name:10} {imported:7.2f} {first:13.2f} {epoch:25.2f}", flush=True)


if __name__ == "__main__":
    main()
