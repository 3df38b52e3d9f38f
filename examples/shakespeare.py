"""A character language model: it reads a text letter by letter, then writes in its manner.

    python examples/shakespeare.py --text tinyshakespeare.txt --temperature 0.8

Without a file it reads the help texts that ship with Python. Training goes through the text once
an epoch in order, the states carried from batch to batch, the gradient cut at the batches' borders
(truncated backpropagation). Four epochs of Shakespeare give a held-out loss below 1.7 nats a letter
(guessing by letter frequency: 3.3). One epoch does not: states begin at zero once an epoch, and a
model that has seen that once only does not know what to do with it.
"""

import argparse
from pathlib import Path

import numpy as np

import recurrax as keras
from recurrax import layers


def load(path=None, letters=None):
    """The text, at most so many letters of it."""
    if path is not None:
        return Path(path).read_text("utf-8")[:letters]
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))[:letters]


def streams(ids, batch, steps):
    """`ids` cut into `batch` long streams, then into batches of `steps`, each going on from the
    one before: inputs and, one letter later, targets, both (batches * batch, steps)."""
    length = (len(ids) - 1) // (batch * steps) * steps
    x = ids[: batch * length].reshape(batch, -1, steps)
    y = ids[1 : batch * length + 1].reshape(batch, -1, steps)
    return x.swapaxes(0, 1).reshape(-1, steps), y.swapaxes(0, 1).reshape(-1, steps)


def write(model, alphabet, start, letters, temperature):
    """A text that begins with `start`, drawn letter by letter."""
    draw = np.random.default_rng(0)
    stream = model.stream()
    for letter in start:
        logits = stream.step([alphabet.index(letter)])[0]
    text = start
    for _ in range(letters):
        noise = draw.gumbel(size=len(alphabet))
        chosen = int(np.argmax(logits / temperature + noise))  # the Gumbel trick: a fair draw
        text += alphabet[chosen]
        logits = stream.step([chosen])[0]
    return text


def main(
    text=None, letters=None, epochs=4, units=256, batch=32, steps=64, temperature=0.8, write_n=500
):
    keras.utils.set_random_seed(0)
    book = load(text, letters)
    alphabet = sorted(set(book))
    ids = np.array([alphabet.index(letter) for letter in book], "int32")
    cut = int(len(ids) * 0.95)

    model = keras.Sequential(
        [
            layers.Input(batch_shape=(batch, None), dtype="int32"),
            layers.Embedding(len(alphabet), 64),
            layers.LSTM(units, return_sequences=True, stateful=True),
            layers.Dense(len(alphabet)),
        ]
    )
    model.summary()
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=4e-3, clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = streams(ids[:cut], batch, steps)
    for epoch in range(epochs):
        model.reset_states()
        model.fit(x, y, batch_size=batch, shuffle=False, initial_epoch=epoch, epochs=epoch + 1)
    model.reset_states()
    loss = model.evaluate(*streams(ids[cut:], batch, steps), batch_size=batch, verbose=0)
    print(f"\nHeld-out loss: {loss:.3f} nats a letter. It writes:\n")
    print(write(model, alphabet, book[:20], write_n, temperature))
    return loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="a text file; the help texts of Python where not given")
    parser.add_argument("--letters", type=int, help="read only so many letters")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.8)
    main(**vars(parser.parse_args()))
