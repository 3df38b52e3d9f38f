"""What the page holds of one sample: its texts, the layers' values over them, the predictions."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurrax.layers.graph import symbolic_leaves
from recurrax.layers.input_layer import InputLayer
from recurrax.layers.layer import Layer
from recurrax.view.states import run, watched

# Predictions shown for a step.
_MOST_PREDICTIONS = 6


class Shown:
    """Makes of one sample what the page shows of it.

    Args:
        model: the model.
        encode, tokens: as `page` takes them.
    """

    def __init__(self, model: Any, encode: Any, tokens: Any) -> None:
        self.model = model
        self.encode, self.tokens = encode, tokens
        self.several = len(getattr(model, "inputs", None) or ()) > 1
        self.names = _input_names(model)
        self._stream = _stream(model)
        self._call: Any = None

    def sample(self, text: Any, number: int) -> dict[str, Any]:
        """The texts, layers and predictions of the sample `text`, number `number`.

        Raises:
            ValueError: inputs that are not those of the model, or tokens that are not one for
                each step.
        """
        given = text if self.encode is None else self.encode(text)
        inputs = self._inputs(given, number)
        texts = [
            {"name": name, "tokens": words}
            for name, words in zip(self.names, self._words(text, inputs, number), strict=True)
        ]
        batch = [x[None] for x in inputs]
        call = self._watched()
        found, outputs = run(self.model, batch if self.several else batch[0], call)
        layers = {
            layer: {
                "over": self._text_of(texts, _read_by(self.model, layer), values),
                "values": {name: _packed(value[0]) for name, value in values.items()},
            }
            for layer, values in found.items()
        }
        return {"texts": texts, "layers": layers, "outputs": self._outputs(inputs, texts, outputs)}

    def _watched(self) -> Any:
        if self._call is None and self.model.built:
            self._call = watched(self.model)
        return self._call

    def _inputs(self, given: Any, number: int) -> list[np.ndarray]:
        """One array for each input of the model."""
        if not self.several:
            if isinstance(given, Mapping):
                raise ValueError(
                    f"Sample {number} is a dictionary, but the model has one input: page() "
                    "expected an array (timesteps, ...)."
                )
            inputs = [np.asarray(given)]
        else:
            wanted = f"one array for each input of the model, {', '.join(self.names)}"
            if isinstance(given, Mapping):
                if set(given) != set(self.names):
                    raise ValueError(
                        f"Sample {number} has the inputs {', '.join(map(str, given))}: page() "
                        f"expected {wanted}."
                    )
                given = [given[name] for name in self.names]
            if not isinstance(given, list | tuple) or len(given) != len(self.names):
                kind = type(given).__name__
                raise ValueError(
                    f"Sample {number} is a {kind}{_length(given)}: page() expected {wanted}, in a "
                    "list, a tuple or a dictionary; let encode= make it."
                )
            inputs = [np.asarray(x) for x in given]
        if not any(x.ndim > 0 and len(x) > 0 for x in inputs):
            shapes = ", ".join(str(x.shape) for x in inputs)
            if any(x.dtype.kind == "U" for x in inputs):
                raise ValueError(
                    f"Sample {number} is a text, but page() was not told how the model reads it: "
                    "pass encode=, a function from a text to an array (timesteps, ...)."
                )
            raise ValueError(
                f"Sample {number} has shape {shapes}: page() expected (timesteps, ...), at least "
                "one step."
            )
        return inputs

    def _words(self, text: Any, inputs: list[np.ndarray], number: int) -> list[list[str]]:
        """What stands at each step of each input."""
        parts: Sequence[Any] = [text] * len(inputs)
        if self.tokens is not None:
            made = self.tokens(text)
            if self.several and isinstance(made, Mapping):
                made = [made.get(name) for name in self.names]
            parts = made if self.several else [made]
        elif isinstance(text, list | tuple) and self.several:
            parts = text
        elif isinstance(text, Mapping):
            parts = [text.get(name) for name in self.names]
        if len(parts) != len(inputs):
            raise ValueError(
                f"tokens= gave {len(parts)} lists for sample {number}, but the model has the "
                f"inputs {', '.join(self.names)}: return one for each, or a dictionary."
            )
        words = []
        for name, part, x in zip(self.names, parts, inputs, strict=True):
            usual = _numbers(x)
            asked = part is not None and (self.tokens is not None or isinstance(part, str))
            shown = [str(token) for token in part or ()] if asked else usual
            if len(shown) != len(usual):
                # A text given as one string need not be that of every input.
                if self.several and self.tokens is None:
                    shown = usual
                else:
                    where = f" in the input {name!r}" if self.several else ""
                    raise ValueError(
                        f"Sample {number} has {len(usual)} steps{where}, but {len(shown)} tokens: "
                        "pass tokens=, a function that gives one for each step."
                    )
            words.append(shown)
        return words

    def _text_of(self, texts: list[Any], likely: int | None, values: Any) -> int:
        """The text that a layer goes over: the one it reads, if as long; else numbered steps."""
        steps = next(iter(values.values())).shape[1]
        return _matching(texts, likely, steps)

    def _outputs(
        self, inputs: list[np.ndarray], texts: list[Any], outputs: Any
    ) -> list[dict[str, Any]]:
        """The predictions of each output of the model.

        Those of every step stand under `steps`, with the text they go over, -1 for any; those that
        are known only after the last step, under `last`.
        """
        lengths = {len(x) if x.ndim else 0 for x in inputs}
        if self._stream is not None and len(lengths) == 1:
            self._stream.reset()
            steps = []
            for t in range(lengths.pop()):
                x_t = [x[None, t] for x in inputs]
                step = self._stream.step(x_t if self.several else x_t[0])
                steps.append([y for _, y in _named(self.model, step)])
            names = [name for name, _ in _named(self.model, outputs)]
            return [
                {"name": name, "over": -1, "steps": [_top(y) for y in each]}
                for name, each in zip(names, zip(*steps, strict=True), strict=True)
            ]
        shown = []
        for number, (name, y) in enumerate(_named(self.model, outputs)):
            y, over = np.asarray(y[0]), -1
            if y.ndim >= 2:
                over = _matching(texts, _written_by(self.model, number), len(y), new=False)
            if over >= 0:
                shown.append({"name": name, "over": over, "steps": [_top(each) for each in y]})
            else:
                shown.append({"name": name, "over": -1, "last": _top(y)})
        return shown


def _input_names(model: Any) -> list[Any]:
    """The names of the inputs; None where there is only one."""
    inputs: Sequence[Any] = getattr(model, "inputs", None) or ()
    if len(inputs) < 2:
        return [None]
    keys = getattr(model, "input", None)
    if isinstance(keys, Mapping):
        return [key for key, _ in sorted(keys.items())]
    return list(getattr(model, "input_names", [tensor.name for tensor in inputs]))


def _named(model: Any, outputs: Any) -> list[tuple[str, Any]]:
    """The outputs of a model, with their names."""
    if isinstance(outputs, Mapping):
        return [(str(name), outputs[name]) for name in outputs]
    if not isinstance(outputs, list | tuple):
        return [("", outputs)]
    names = getattr(model, "output_names", [])
    if len(set(names)) != len(outputs):
        names = [f"output {number}" for number in range(len(outputs))]
    return list(zip(names, outputs, strict=True))


def _read_by(model: Any, layer: str) -> int | None:
    """Which input of a functional model the layer of this name reads; None where unknown."""
    network = getattr(model, "network", None)
    if network is None:
        return None
    name, _, again = layer.partition(" (")  # "name (2)" is a second run
    calls = [
        node
        for node in network.nodes
        if isinstance(node.layer, Layer)
        and any(x.name == name for x in node.layer.flatten_layers())
    ]
    index = int(again.rstrip(")") or 1) - 1
    return _input_behind(model, calls[index].first) if index < len(calls) else None


def _written_by(model: Any, output: int) -> int | None:
    """Which input an output of a functional model goes along; None where unknown."""
    if getattr(model, "network", None) is None:
        return None
    return _input_behind(model, model.outputs[output])


def _input_behind(model: Any, tree: Any) -> int | None:
    """The input that is reached from `tree` by going back from each call to its first tensor."""
    found = symbolic_leaves(tree)
    while found and (node := found[0].node) is not None:
        if isinstance(node.layer, InputLayer):
            return next((k for k, x in enumerate(model.inputs) if x is found[0]), None)
        found = symbolic_leaves(node.first) or node.inputs
    return None


def _matching(texts: list[Any], likely: int | None, steps: int, new: bool = True) -> int:
    """The number of the text with so many tokens, the likely one first.

    Where there is none: that of a `new` text of the steps' numbers, or -1.
    """
    order = range(len(texts)) if likely is None else [likely, *range(len(texts))]
    for number in order:
        if len(texts[number]["tokens"]) == steps:
            return number
    if not new:
        return -1
    texts.append({"name": "", "tokens": [str(step) for step in range(steps)]})
    return len(texts) - 1


def _stream(model: Any) -> Any:
    """A stream of the model; None where it cannot go forward step by step."""
    try:
        return model.stream()
    except (ValueError, AttributeError):
        return None


def _length(given: Any) -> str:
    return f" of {len(given)}" if isinstance(given, list | tuple) else ""


def _numbers(x: np.ndarray) -> list[str]:
    """What stands at each step where nobody says: the ids, or the numbers of the steps."""
    if x.ndim == 0:
        return []
    return [str(value) for value in (x if x.ndim == 1 else range(len(x)))]


def _packed(value: np.ndarray) -> dict[str, Any]:
    """(timesteps, units) as bytes, a 127th of the largest value each."""
    flat = value.reshape(len(value), -1)
    scale = max(1.0, float(np.max(np.abs(flat), initial=0.0)))
    data = np.round(flat / scale * 127).astype(np.int8)
    encoded = base64.b64encode(data.tobytes()).decode("ascii")
    return {"units": flat.shape[1], "scale": round(scale, 4), "data": encoded}


def _top(prediction: Any) -> dict[str, Any]:
    """The largest outputs of a step, as (index, value), and how many there are."""
    y = np.ravel(np.asarray(prediction, np.float64))
    shares = bool(np.all(y >= 0) and (abs(y.sum() - 1) < 1e-3 or (len(y) == 1 and y[0] <= 1)))
    order = np.argsort(-y, kind="stable") if shares else np.arange(len(y))
    return {
        "shares": shares,
        "size": len(y),
        "top": [[int(k), round(float(y[k]), 4)] for k in order[:_MOST_PREDICTIONS]],
    }
