"""`plot_model`: a picture of a model's graph, drawn by Graphviz."""

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jax


def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> str:
    """The graph of a model in Graphviz's language.

    Args:
        model: a built model.
        show_shapes: whether to write the shapes of each layer's outputs.
        show_dtype: whether to write their dtypes.
        show_layer_names: whether to write the layers' names, not only their classes.
        rankdir: `"TB"` from top to bottom, `"LR"` from left to right.
        expand_nested: whether to draw the layers of models inside, in a frame.
        dpi: dots per inch.
        show_layer_activations: whether to write activation functions.
        show_trainable: whether to write which layers train.

    Raises:
        ValueError: the model is not built.
    """
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built, so it has no graph yet: call it on data, or call "
            "build(input_shape)."
        )
    options = {
        "shapes": show_shapes,
        "dtypes": show_dtype,
        "names": show_layer_names,
        "activations": show_layer_activations,
        "trainable": show_trainable,
        "nested": expand_nested,
    }
    lines = [
        "digraph model {",
        f'  graph [rankdir="{rankdir}", dpi={dpi}];',
        '  node [shape=box, style="rounded,filled", fillcolor="#f4f6fa", fontname="Helvetica"];',
        *_graph(model, options),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _graph(model: Any, options: dict[str, bool]) -> list[str]:
    lines: list[str] = []
    for layer in model.operations:
        if options["nested"] and hasattr(layer, "operations"):
            lines.append(f'  subgraph "cluster_{id(layer)}" {{ label="{_text(layer.name)}";')
            lines += _graph(layer, options)
            lines.append("  }")
        else:
            lines.append(f'  "{id(layer)}" [label="{_label(layer, options)}"];')
    for start, end in _edges(model, options["nested"]):
        lines.append(f'  "{start}" -> "{end}";')
    return lines


def _edges(model: Any, nested: bool) -> list[tuple[int, int]]:
    network = getattr(model, "network", None)
    if network is None:
        pairs = list(itertools.pairwise(model.operations))
    else:
        pairs = [
            (tensor.node.layer, node.layer)
            for node in network.nodes
            for tensor in node.inputs
            if tensor.node.layer in network.layers
        ]
    edges = [
        (id(_end(start, -1) if nested else start), id(_end(end, 0) if nested else end))
        for start, end in pairs
    ]
    return list(dict.fromkeys(edges))


def _end(layer: Any, index: int) -> Any:
    """The first or last layer in a nested model."""
    while hasattr(layer, "operations"):
        layer = layer.operations[index]
    return layer


def _label(layer: Any, options: dict[str, bool]) -> str:
    kind = getattr(layer, "class_name", type(layer).__name__)
    lines = [f"{layer.name} ({kind})" if options["names"] else kind]
    activation = getattr(layer, "activation", None)
    if options["activations"] and activation is not None:
        lines.append(f"activation: {getattr(activation, '__name__', activation)}")
    outputs = jax.tree.leaves(layer._nodes[0].outputs) if layer._nodes else []
    if options["shapes"]:
        lines.append("shape: " + ", ".join(str(tensor.shape) for tensor in outputs))
    if options["dtypes"]:
        lines.append("dtype: " + ", ".join(tensor.dtype for tensor in outputs))
    if options["trainable"] and hasattr(layer, "trainable"):
        lines.append("trainable" if layer.trainable else "not trainable")
    return "\\n".join(_text(line) for line in lines)


def _text(line: str) -> str:
    return line.replace("\\", "\\\\").replace('"', '\\"')


def plot_model(
    model: Any,
    to_file: str | Path = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> Path:
    """Draw a model's graph into a file; its ending says the format (png, svg, pdf, dot).

    For the other arguments see `model_to_dot`.

    Returns:
        The path of the file.

    Raises:
        ImportError: Graphviz, whose program `dot` draws, is not installed (a `.dot` file needs it
            not).
        ValueError: the model is not built.
    """
    text = model_to_dot(
        model,
        show_shapes,
        show_dtype,
        show_layer_names,
        rankdir,
        expand_nested,
        dpi,
        show_layer_activations,
        show_trainable,
    )
    path = Path(to_file)
    if path.suffix == ".dot":
        path.write_text(text)
        return path
    program = shutil.which("dot")
    if program is None:
        raise ImportError(
            "plot_model needs Graphviz, whose program `dot` was not found: install the package "
            "graphviz of your system (apt install graphviz, brew install graphviz), or write the "
            "graph itself with to_file='model.dot'."
        )
    subprocess.run(
        [program, f"-T{path.suffix[1:] or 'png'}", "-o", str(path)],
        input=text,
        text=True,
        check=True,
        capture_output=True,
    )
    return path
