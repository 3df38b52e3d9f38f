"""`page`: one web page to see a model read."""

import base64
import html
import importlib.resources
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recurrax.view.states import run, watched

# Predictions shown for a step.
_MOST_PREDICTIONS = 6


def page(
    model: Any,
    texts: Sequence[Any],
    path: str | Path,
    encode: Callable[[Any], Any] | None = None,
    tokens: Callable[[Any], Sequence[Any]] | None = None,
    labels: Sequence[Any] | None = None,
    title: str | None = None,
    language: str = "en",
) -> Path:
    """Write one self-contained web page that shows what the model does over some samples.

    There one picks a sample, a layer, a state or gate and a unit, sees its activation over the
    text, and what the model predicts after each step. It needs no network.

    Args:
        model: a built model whose input is (batch, timesteps, ...).
        texts: the samples: strings with `encode`, or inputs (timesteps, ...) themselves.
        path: the file to write.
        encode: makes a sample's input, (timesteps, ...), from its text.
        tokens: makes what is shown at each step from a sample; its characters or numbers if None.
        labels: names of the model's outputs; their numbers where None.
        title: heading; the model's name where None.
        language: of the page, `"en"` or `"ko"`.

    Returns:
        The path.

    Raises:
        ValueError: no samples, samples of 0 steps, a sample whose tokens are not one for each
            step, labels that are not one for each output, an unknown language.
    """
    if language not in ("en", "ko"):
        raise ValueError(f"page() knows the languages 'en' and 'ko', but got {language!r}.")
    if len(texts) == 0:
        raise ValueError("page() got no samples: pass at least one text or input.")
    inputs = [np.asarray(text if encode is None else encode(text)) for text in texts]
    shown = [
        _tokens(text, x, tokens, number)
        for number, (text, x) in enumerate(zip(texts, inputs, strict=True))
    ]
    call = watched(model) if model.built else None
    predict = _stepwise(model)
    samples = [
        _sample(model, x, words, call, predict) for x, words in zip(inputs, shown, strict=True)
    ]
    outputs = max((len(p) for s in samples for p in s["raw"] if p is not None), default=0)
    if labels is not None and outputs != len(labels):
        raise ValueError(
            f"labels has {len(labels)} names, but the model has {outputs} outputs: pass one for "
            "each."
        )
    for sample in samples:
        sample["predictions"] = [_top(p) for p in sample.pop("raw")]
    data = {
        "title": title or model.name,
        "language": language,
        "labels": [str(label) for label in labels] if labels is not None else None,
        "samples": samples,
    }
    template = importlib.resources.files("recurrax.view").joinpath("page.html").read_text("utf-8")
    # Inside a script element only "</" could end it early.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    filled = template.replace("{{language}}", language)
    filled = filled.replace("{{title}}", html.escape(data["title"])).replace("{{data}}", text)
    path = Path(path)
    path.write_text(filled, "utf-8")
    return path


def _tokens(text: Any, x: np.ndarray, tokens: Any, number: int) -> list[str]:
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(
            f"Sample {number} has shape {x.shape}: page() expected (timesteps, ...), at least one "
            "step."
        )
    if tokens is not None:
        words = [str(token) for token in tokens(text)]
    elif isinstance(text, str):
        words = list(text)
    elif x.ndim == 1:
        words = [str(value) for value in x]
    else:
        words = [str(step) for step in range(len(x))]
    if len(words) != len(x):
        raise ValueError(
            f"Sample {number} has {len(x)} steps, but {len(words)} tokens: pass tokens=, a "
            "function that gives one for each step."
        )
    return words


def _stepwise(model: Any) -> Callable[[np.ndarray], list[np.ndarray]] | None:
    """What the model returns after each step; None where it cannot go forward step by step."""
    try:
        stream = model.stream()
    except (ValueError, AttributeError):
        return None

    def predict(x: np.ndarray) -> list[np.ndarray]:
        stream.reset()
        return [stream.step(x[None, t]) for t in range(len(x))]

    return predict


def _sample(model: Any, x: np.ndarray, words: list[str], call: Any, predict: Any) -> dict[str, Any]:
    found, outputs = run(model, x[None], call)
    raw: list[Any]
    if predict is not None:
        raw = [np.ravel(y) for y in predict(x)]
    elif getattr(outputs, "ndim", 0) == 3 and outputs.shape[1] == len(x):
        raw = list(np.asarray(outputs[0]))
    elif hasattr(outputs, "ndim"):  # known only after the last step
        raw = [None] * (len(x) - 1) + [np.ravel(outputs)]
    else:
        raw = [None] * len(x)
    layers = {
        layer: {name: _packed(value[0]) for name, value in values.items()}
        for layer, values in found.items()
    }
    return {"tokens": words, "layers": layers, "raw": raw}


def _packed(value: np.ndarray) -> dict[str, Any]:
    """(timesteps, units) as bytes, a 127th of the largest value each."""
    flat = value.reshape(len(value), -1)
    scale = max(1.0, float(np.max(np.abs(flat), initial=0.0)))
    data = np.round(flat / scale * 127).astype(np.int8)
    encoded = base64.b64encode(data.tobytes()).decode("ascii")
    return {"units": flat.shape[1], "scale": round(scale, 4), "data": encoded}


def _top(prediction: np.ndarray | None) -> dict[str, Any] | None:
    """The largest outputs of a step, as (index, value)."""
    if prediction is None:
        return None
    y = np.asarray(prediction, np.float64)
    shares = bool(np.all(y >= 0) and (abs(y.sum() - 1) < 1e-3 or (len(y) == 1 and y[0] <= 1)))
    order = np.argsort(-y, kind="stable") if shares else np.arange(len(y))
    return {
        "shares": shares,
        "top": [[int(k), round(float(y[k]), 4)] for k in order[:_MOST_PREDICTIONS]],
    }
