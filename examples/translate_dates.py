"""Translate dates as people write them into ISO dates, letter by letter, with attention.

    python examples/translate_dates.py [--epochs 6] [--samples 8000]

"3 March 1987", "Mar 3, 1987" and "03/03/87" all become "1987-03-03". An encoder reads the letters
in both directions; a decoder writes the ten characters, and at each one looks back at the letters
that matter. At least 0.99 of the dates held out come out right, character for character.
"""

import argparse
import datetime

import numpy as np

import recurrax as keras
from recurrax import layers

FORMATS = ["%d %B %Y", "%b %d, %Y", "%d/%m/%y", "%A, %d %B %Y", "%Y.%m.%d", "%B %d %Y"]
LETTERS = ["", *sorted(set("0123456789 ,/.-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))]
OUTPUT = ["<", *"0123456789-"]  # "<" is what the decoder is given before the first character
LONGEST = 30


def dates(number, seed=0):
    """Pairs of a date as somebody wrote it and its ISO form, between 1970 and 2030."""
    draw = np.random.default_rng(seed)
    first = datetime.date(1970, 1, 1).toordinal()
    days = [datetime.date.fromordinal(first + int(k)) for k in draw.integers(0, 21900, number)]
    return [day.strftime(FORMATS[draw.integers(len(FORMATS))]) for day in days], [
        day.isoformat() for day in days
    ]


def encode(texts):
    ids = [[LETTERS.index(letter) for letter in text] for text in texts]
    return keras.utils.pad_sequences(ids, maxlen=LONGEST, padding="post")


def build(units=96):
    source = keras.Input((LONGEST,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    read = layers.Embedding(len(LETTERS), 32, mask_zero=True)(source)
    read = layers.Bidirectional(layers.GRU(units // 2, return_sequences=True))(read)
    start = layers.Dense(units, activation="tanh")(layers.GlobalAveragePooling1D()(read))
    written = layers.Embedding(len(OUTPUT), 16)(target)
    written = layers.GRU(units, return_sequences=True)(written, initial_state=start)
    found = layers.Attention()([layers.Dense(units)(written), layers.Dense(units)(read)])
    both = layers.Concatenate()([written, found])
    both = layers.Dense(units, activation="tanh")(both)
    return keras.Model([source, target], layers.Dense(len(OUTPUT), activation="softmax")(both))


def translate(model, texts):
    """Write ten characters for each text, each time the likeliest."""
    source = encode(texts)
    target = np.zeros((len(texts), 10), "int32")
    for k in range(10):
        likely = model.predict([source, target], verbose=0)[:, k].argmax(axis=-1)
        if k < 9:
            target[:, k + 1] = likely
    written = np.concatenate([target[:, 1:], likely[:, None]], axis=1)
    return ["".join(OUTPUT[k] for k in row) for row in written]


def main(epochs=6, samples=8000):
    keras.utils.set_random_seed(0)
    texts, isos = dates(samples + 500)
    answers = np.array([[OUTPUT.index(c) for c in iso] for iso in isos])
    given = np.concatenate([np.zeros((len(answers), 1), int), answers[:, :-1]], axis=1)

    model = build()
    model.summary()
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=4e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(
        [encode(texts[:samples]), given[:samples]], answers[:samples], epochs=epochs, batch_size=64
    )
    written = translate(model, texts[samples:])
    right = np.mean([a == b for a, b in zip(written, isos[samples:], strict=True)])
    for text, iso in list(zip(texts[samples:], written, strict=True))[:6]:
        print(f"  {text:<30} {iso}")
    print(f"Right, of {len(written)} dates held out: {right:.3f}")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--samples", type=int, default=8000)
    main(**vars(parser.parse_args()))
