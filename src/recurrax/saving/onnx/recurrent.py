"""Built-in recurrent layers as the nodes that ONNX has for them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray

from recurrax import activations
from recurrax.layers import GRU, LSTM, RNN, SimpleRNN
from recurrax.loop.compat import Primitive
from recurrax.saving.onnx.graph import Graph
from recurrax.saving.onnx.primitives import rule

# The whole layer as one primitive, which only an export traces.
recurrent_p = Primitive("recurrent_layer")
recurrent_p.multiple_results = True

# Activations of Keras under their names and constants in ONNX.
_ACTIVATIONS: dict[str, tuple[str, float, float]] = {
    "tanh": ("Tanh", 0.0, 0.0),
    "sigmoid": ("Sigmoid", 0.0, 0.0),
    "relu": ("Relu", 0.0, 0.0),
    "softsign": ("Softsign", 0.0, 0.0),
    "softplus": ("Softplus", 0.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "linear": ("Affine", 1.0, 0.0),
}


@recurrent_p.def_abstract_eval
def _outputs(x: Any, *rest: Any, op: str, units: int, **_: Any) -> list[ShapedArray]:
    batch, time, _ = x.shape
    states = 2 if op == "LSTM" else 1
    shapes = [(batch, time, units)] + [(batch, units)] * states
    return [ShapedArray(shape, x.dtype) for shape in shapes]


def can_be_node(layer: Any) -> bool:
    """Whether ONNX has a node for this layer."""
    if type(layer) not in (LSTM, GRU, SimpleRNN) or layer.compute_dtype != "float32":
        return False
    return all(activation in _ACTIVATIONS for activation in _activations(layer))


def _activations(layer: Any) -> list[Any]:
    inner = activations.to_config(layer.activation)
    if type(layer) is SimpleRNN:
        return [inner]
    gates = activations.to_config(layer.recurrent_activation)
    return [gates, inner, inner] if type(layer) is LSTM else [gates, inner]


def call(
    layer: Any,
    sequences: Any,
    initial_state: Any = None,
    mask: Any = None,
    training: Any = False,
    constants: Any = None,
) -> Any:
    """In an export, `layer.call`: one primitive, or with a mask the loop that it is."""
    if mask is not None or constants is not None:
        return RNN.call(layer, sequences, initial_state, mask, training, constants)
    cell = layer.cell
    states, _ = layer._initial_state(initial_state, sequences.shape[0])
    bias = cell.bias.value if cell.use_bias else _no_bias(layer)
    weights = [cell.kernel.value, cell.recurrent_kernel.value, bias]
    y, *last = recurrent_p.bind(
        sequences,
        *weights,
        *states,
        op={LSTM: "LSTM", GRU: "GRU", SimpleRNN: "RNN"}[type(layer)],
        units=cell.units,
        reverse=bool(layer.go_backwards),
        activations=tuple(_activations(layer)),
        reset_after=bool(getattr(cell, "reset_after", False)),
    )
    if not layer.return_sequences:
        y = last[0]
    elif layer.go_backwards:  # outputs stand in the order of running
        y = jnp.flip(y, axis=1)
    return (y, *last) if layer.return_state else y


def _no_bias(layer: Any) -> Any:
    return np.zeros(layer.cell.bias_shape(), "float32")


@rule("recurrent_layer")
def _node(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    p = equation.params
    x, kernel, recurrent, bias, *states = names
    op, one = p["op"], graph.axes([0])

    def gates(weight: str) -> str:
        """(n, gates · units) as (1, gates · units, n), in ONNX's order of gates."""
        turned = graph.add("Transpose", [weight], perm=[1, 0])
        return graph.add("Unsqueeze", [_ordered(graph, turned, op, p["units"]), one])

    if op == "GRU" and p["reset_after"]:
        flat = graph.add("Reshape", [bias, graph.axes([-1])])
    else:
        ordered = _ordered(graph, bias, op, p["units"])
        width = equation.invars[3].aval.shape[0]
        flat = graph.add("Concat", [ordered, graph.constant(np.zeros(width, "float32"))], axis=0)
    known = [_ACTIVATIONS[name] for name in p["activations"]]
    options: dict[str, Any] = {
        "hidden_size": p["units"],
        "direction": "reverse" if p["reverse"] else "forward",
        "activations": [name for name, _, _ in known],
    }
    if any(alpha for _, alpha, _ in known):
        options["activation_alpha"] = [alpha for _, alpha, _ in known]
        options["activation_beta"] = [beta for _, _, beta in known]
    if op == "GRU":
        options["linear_before_reset"] = int(p["reset_after"])
    inputs = [
        graph.add("Transpose", [x], perm=[1, 0, 2]),
        gates(kernel),
        gates(recurrent),
        graph.add("Unsqueeze", [flat, one]),
        "",
        *(graph.add("Unsqueeze", [state, one]) for state in states),
    ]
    y, *last = graph.add(op, inputs, 1 + len(states), **options)
    # (timesteps, 1, batch, units) as (batch, timesteps, units).
    y = graph.add("Transpose", [graph.add("Squeeze", [y, graph.axes([1])])], perm=[1, 0, 2])
    return [y, *(graph.add("Squeeze", [state, one]) for state in last)]


def _ordered(graph: Graph, weight: str, op: str, units: int) -> str:
    """Gates i, f, g, o of an LSTM as i, o, f, g; those of a GRU stand as they are."""
    if op != "LSTM":
        return weight
    parts = graph.add("Split", [weight, graph.axes([units] * 4)], 4, axis=0)
    return graph.add("Concat", [parts[i] for i in (0, 3, 1, 2)], axis=0)
