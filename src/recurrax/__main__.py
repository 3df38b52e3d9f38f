"""The command line: `recurrax`, or `python -m recurrax`."""

import argparse
import contextlib
import importlib.metadata
import platform
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_DATA = (
    ".npy of (samples, timesteps, ...); .npz of one such array for each input, by its name; .csv "
    "of one sample a line, of ids"
)
_ENDINGS = (".keras", ".weights.h5", ".safetensors", ".onnx")


class Mistake(Exception):
    """A mistake of the person at the keyboard: its message is shown, and no traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those of the command line where None.

    Returns:
        The exit code: 0, 1 for a mistake that is explained on standard error, 130 when stopped by
        the keyboard. argparse exits with 2 where the arguments themselves are wrong.
    """
    options = vars(_parser().parse_args(arguments))
    command: Callable[..., None] = options.pop("command")
    try:
        command(**options)
    except (Mistake, ValueError, OSError, ImportError) as error:
        print(f"recurrax: {_told(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _told(error: Exception) -> str:
    """What went wrong, in words alone."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{str(error.filename)!r}: {error.strerror}."
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recurrax", description="The Keras recurrent API on JAX, where the loop is a compiler."
    )
    version = importlib.metadata.version("recurrax")
    parser.add_argument("--version", action="version", version=f"recurrax {version}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., None], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=command)
        return made

    demo_ = add("demo", demo, "Train a small model that counts brackets, and show what it says.")
    demo_.add_argument("--epochs", type=int, default=12)

    add("info", info, "Show versions, devices, the runners of the loop, and the cache.")

    made = add("summary", summary, "Print the table of a model's layers.")
    made.add_argument("file", metavar="FILE.keras", type=Path)

    made = add("explain", explain, "Say what the loop compiler makes of a model's layers.")
    made.add_argument("file", metavar="FILE.keras", type=Path)
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--timesteps", type=int, default=100)

    made = add("view", view, "Write a web page that shows what a model does over some samples.")
    made.add_argument("file", metavar="FILE.keras", type=Path)
    made.add_argument("data", metavar="DATA", type=Path, help=_DATA)
    made.add_argument("--out", type=Path, default=Path("view.html"), help="the page to write")
    made.add_argument("--samples", type=int, default=20, help="show the first so many")
    made.add_argument("--labels", help="names of the model's outputs, separated by commas")
    made.add_argument("--language", choices=("en", "ko"), default="en")

    made = add("convert", convert, "Write a model, or its weights, in another format.")
    made.add_argument("source", metavar="IN", type=Path, help="a model: .keras, or .h5 of tf.keras")
    made.add_argument("target", metavar="OUT", type=Path, help=f"ending in {', '.join(_ENDINGS)}")
    made.add_argument("--force", action="store_true", help="replace OUT where it is there")

    add("clear-cache", clear_cache, "Remove the compiled loops that are kept on disk.")
    return parser


def _load(file: Path) -> Any:
    from recurrax import saving

    if not file.exists():
        raise Mistake(f"There is no file {str(file)!r}.")
    try:
        return saving.load_model(str(file), compile=False)
    except ValueError as error:
        raise Mistake(f"Cannot load {str(file)!r}. {error}") from None


def info() -> None:
    """Show what is installed and what it runs on."""
    import jax
    from rich.console import Console
    from rich.table import Table

    from recurrax.loop.native import cache
    from recurrax.loop.plan import RUNNERS, native_unavailable

    table = Table.grid("", "", padding=(0, 2, 0, 0))
    packages = ("recurrax", "jax", "jaxlib", "numpy", "optax", "llvmlite", "h5py")
    for name in packages:
        table.add_row(name, importlib.metadata.version(name))
    table.add_row("python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    table.add_row("devices", ", ".join(str(device) for device in jax.devices()))
    table.add_row("runners", ", ".join(RUNNERS))
    with warnings.catch_warnings(action="ignore"):  # the table says it
        missing = native_unavailable()
    table.add_row("native", "ready" if missing is None else f"not served: {missing}")
    folder = cache.directory()
    sizes = [] if folder is None else [status.st_size for _, status in cache.files(folder)]
    kept = f"{folder}: {len(sizes)} compiled loops, {sum(sizes) / 2**20:.1f} MiB"
    table.add_row("cache", kept if folder is not None else "off")
    Console(soft_wrap=True).print(table)


def summary(file: Path) -> None:
    """Print the table of a model's layers."""
    _load(file).summary()


def explain(file: Path, batch_size: int, timesteps: int) -> None:
    """Print what became of each loop of a model."""
    if batch_size < 1 or timesteps < 1:
        raise Mistake("--batch-size and --timesteps must be positive.")
    print(_load(file).explain(batch_size, timesteps))


def view(
    file: Path, data: Path, out: Path, samples: int, labels: str | None, language: str
) -> None:
    """Write the page of a model over the samples in a file."""
    from recurrax.view import page

    if samples < 1:
        raise Mistake("--samples must be positive.")
    model = _load(file)
    given = _samples(data)[:samples]
    if not given:
        raise Mistake(f"{str(data)!r} holds no samples.")
    names = None if labels is None else labels.split(",")
    page(model, given, out, labels=names, language=language)
    print(f"Open {out} in a browser.")


def _samples(data: Path) -> list[Any]:
    import numpy as np

    if not data.exists():
        raise Mistake(f"There is no file {str(data)!r}.")
    if data.suffix not in (".npy", ".npz", ".csv"):
        raise Mistake(f"DATA must be a .npy, a .npz or a .csv file, but is {str(data)!r}.")
    if data.suffix == ".csv":
        try:
            lines = [line for line in data.read_text("utf-8").splitlines() if line.strip()]
            return [np.array([int(value) for value in line.split(",")]) for line in lines]
        except ValueError as error:
            raise Mistake(
                f"{str(data)!r} must hold one sample a line, of integers: {error}."
            ) from None
    try:
        found = np.load(data, allow_pickle=False)
        arrays = {"": found} if data.suffix == ".npy" else dict(found)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise Mistake(f"{str(data)!r} is not a {data.suffix} file of numbers.") from None
    for name, array in arrays.items():
        if array.ndim < 2:
            raise Mistake(
                f"{str(data)!r} holds an array {name}{' ' if name else ''}of shape {array.shape}, "
                "but (samples, timesteps, ...) is needed."
            )
    if len(arrays) <= 1:
        return [sample for array in arrays.values() for sample in array]
    if len({len(array) for array in arrays.values()}) > 1:
        sizes = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise Mistake(f"{str(data)!r} holds different numbers of samples: {sizes}.")
    return [dict(zip(arrays, sample, strict=True)) for sample in zip(*arrays.values(), strict=True)]


def convert(source: Path, target: Path, force: bool) -> None:
    """Write the model in `source` to `target`, in the format that its ending names."""
    if not str(target).endswith(_ENDINGS):
        raise Mistake(f"OUT must end in {', '.join(_ENDINGS)}, but is {str(target)!r}.")
    if target.exists() and not force:
        raise Mistake(f"{str(target)!r} is there already: give --force to replace it.")
    model = _load(source)
    writers = {
        ".keras": ("model", model.save),
        ".onnx": ("model, for inference,", model.export),
    }
    what, write = writers.get(target.suffix, ("weights", model.save_weights))
    try:
        write(str(target))
    except OSError as error:
        raise Mistake(f"Cannot write {str(target)!r}: {error.strerror or error}.") from None
    print(f"Wrote the {what} to {target} ({target.stat().st_size / 2**20:.2f} MiB).")


def clear_cache() -> None:
    """Remove the compiled loops that are kept on disk."""
    from recurrax.loop.native import cache

    folder = cache.directory()
    if folder is None or not folder.is_dir():
        print("There is no cache.")
        return
    found = [Path(entry) for entry, _ in cache.files(folder)]
    for file in found:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise Mistake(f"Cannot remove {str(file)!r}: {error.strerror or error}.") from None
    with contextlib.suppress(OSError):  # where something else lies in it
        folder.rmdir()
    print(f"Removed {len(found)} compiled loops from {folder}.")


def demo(epochs: int) -> None:
    """Train a model to say how deep in brackets a text is, and show what it says."""
    if epochs < 1:
        raise Mistake("--epochs must be positive.")
    import numpy as np
    from rich.console import Console

    import recurrax as keras

    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    letters, depths = zip(*(_brackets(draw, 40) for _ in range(1200)), strict=True)
    x, y = np.array(letters), np.array(depths)
    model = keras.Sequential(
        [
            keras.layers.Embedding(3, 8),
            keras.layers.LSTM(32, return_sequences=True),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    model.summary()
    adam = keras.optimizers.Adam(learning_rate=0.01)
    model.compile(adam, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:1000], y[:1000], epochs=epochs, validation_data=(x[1000:], y[1000:]))
    console = Console(highlight=False)
    console.print("\nHow deep is each letter? Its own count, letter by letter:\n")
    for text, truth in zip(x[1000:1003], y[1000:1003], strict=True):
        said = model.predict(text[None], verbose=0)[0].argmax(axis=-1)
        console.print("  " + "".join("a()"[letter] for letter in text))
        marks = [f"{s}" if s == t else f"[red]{s}[/]" for s, t in zip(said, truth, strict=True)]
        console.print("  " + "".join(marks) + "\n")


def _brackets(draw: Any, length: int) -> tuple[list[int], list[int]]:
    """Letters (0 for `a`, 1 for `(`, 2 for `)`) and how deep in brackets each leaves one."""
    depth, letters, depths = 0, [], []
    for _ in range(length):
        letter = int(draw.choice(3, p=[0.4, 0.3, 0.3]))
        if (letter == 2 and depth == 0) or (letter == 1 and depth == 3):
            letter = 0
        depth += (letter == 1) - (letter == 2)
        letters.append(letter)
        depths.append(depth)
    return letters, depths


if __name__ == "__main__":
    sys.exit(main())
