"""`page`: one web page to see a model read."""

import html
import importlib.resources
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recurrax.view.samples import Shown


def page(
    model: Any,
    texts: Sequence[Any],
    path: str | Path,
    encode: Callable[[Any], Any] | None = None,
    tokens: Callable[[Any], Sequence[Any]] | None = None,
    labels: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
    title: str | None = None,
    language: str = "en",
) -> Path:
    """Write one self-contained web page that shows what the model does over some samples.

    There one picks a sample, a layer, a state or gate and a unit, sees its activation over the
    text, and what the model predicts after each step. It needs no network.

    A model with several inputs has a text for each. A layer is shown over the one that it reads,
    or over the numbers of its steps where it has more or fewer steps than that.

    Args:
        model: a built model whose input, or one of whose inputs, is (batch, timesteps, ...).
        texts: the samples: strings (or tuples of them) with `encode`, or inputs (timesteps, ...)
            themselves; for a model with several inputs a list, a tuple or a dictionary of them.
        path: the file to write.
        encode: makes a sample's input, (timesteps, ...), from its text; for a model with several
            inputs a list, a tuple or a dictionary of them.
        tokens: makes what is shown at each step from a sample, for a model with several inputs a
            list or a dictionary of one sequence for each; its characters or numbers where None.
        labels: names of the values that the model predicts; for a model with several outputs a
            dictionary of them, by the outputs' names. Their numbers where None.
        title: heading; the model's name where None.
        language: of the page, `"en"` or `"ko"`.

    Returns:
        The path.

    Raises:
        ValueError: no samples, samples of 0 steps, inputs that are not those of the model, tokens
            that are not one for each step, labels that are not one for each value, an unknown
            language.
    """
    if language not in ("en", "ko"):
        raise ValueError(f"page() knows the languages 'en' and 'ko', but got {language!r}.")
    if len(texts) == 0:
        raise ValueError("page() got no samples: pass at least one text or input.")
    shown = Shown(model, encode, tokens)
    samples = [shown.sample(text, number) for number, text in enumerate(texts)]
    data = {
        "title": title or model.name,
        "language": language,
        "labels": _labels(labels, samples[0]["outputs"]),
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


def _labels(labels: Any, outputs: list[dict[str, Any]]) -> list[list[str] | None]:
    """The labels of each output, None where it has none."""
    if labels is None:
        return [None] * len(outputs)
    names = [output["name"] for output in outputs]
    if not isinstance(labels, Mapping):
        if len(outputs) > 1:
            raise ValueError(
                f"The model has the outputs {', '.join(names)}: page() expected labels in a "
                "dictionary by these names, but got one list."
            )
        labels = {names[0]: labels}
    unknown = [name for name in labels if name not in names]
    if unknown:
        raise ValueError(
            f"labels has the keys {', '.join(map(str, labels))}, but the model's outputs are "
            f"{', '.join(names)}."
        )
    for output in outputs:
        given = labels.get(output["name"])
        size = (output["last"] if "last" in output else output["steps"][0])["size"]
        if given is not None and len(given) != size:
            raise ValueError(
                f"labels has {len(given)} names, but the model has {size} outputs: pass one for "
                "each."
            )
    found = (labels.get(name) for name in names)
    return [None if each is None else [str(label) for label in each] for each in found]
