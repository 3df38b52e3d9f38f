"""Read handwritten digits, one pixel at a time, with an LSTM.

    python examples/digits.py [--epochs 24] [--plot digits.png]

Reaches 0.95 accuracy and more on digits that it was not trained on.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import recurrax as keras
from recurrax import layers, view

SHADES = " .:-=+*#%@"


def load(held_out=0.2):
    """Sequences of 64 pixel values from 0 to 16, their digits, and where the held-out part is."""
    digits = load_digits()
    x, y = digits.data.astype("int32"), digits.target
    order = np.random.default_rng(0).permutation(len(x))
    cut = int(len(x) * (1 - held_out))
    return x[order], y[order], cut


def draw(pixels, probabilities, truth):
    """Print a digit, with what the model takes it for beside it."""
    likely = np.argsort(-probabilities)[:3]
    notes = [f"{digit}  {probabilities[digit]:6.1%}" for digit in likely]
    notes += ["", f"right: {truth}" if likely[0] == truth else f"WRONG: it is {truth}"]
    for row, values in enumerate(pixels.reshape(8, 8)):
        line = "".join(2 * SHADES[value * (len(SHADES) - 1) // 16] for value in values)
        print(f"  {line}   {notes[row] if row < len(notes) else ''}".rstrip())
    print()


def main(epochs=24, plot="digits.png"):
    keras.utils.set_random_seed(0)
    x, y, cut = load()

    model = keras.Sequential(
        [
            layers.Embedding(input_dim=17, output_dim=64),
            layers.LSTM(128),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.summary()
    rate = keras.optimizers.schedules.CosineDecay(5e-3, decay_steps=epochs * -(-cut // 16))
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=rate, weight_decay=0.1),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = model.fit(
        x[:cut], y[:cut], epochs=epochs, batch_size=16, validation_data=(x[cut:], y[cut:])
    )

    _, accuracy = model.evaluate(x[cut:], y[cut:], verbose=0)
    print(f"\nOn {len(x) - cut} digits it has never seen: accuracy {accuracy:.3f}\n")
    view.plot_history(history).savefig(plot)
    print(f"The curves are in {plot}.\n")
    for pixels, truth in list(zip(x[cut:], y[cut:], strict=True))[:4]:
        draw(pixels, model.predict(pixels[None], verbose=0)[0], truth)
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--plot", default="digits.png")
    main(**vars(parser.parse_args()))
