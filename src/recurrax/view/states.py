"""`states`: every state and gate of every recurrent layer, at every step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.layers.record import recording
from recurrax.registry import nearest
from recurrax.variable import StatelessScope

INPUTS = "inputs"


def states(model: Any, x: Any) -> dict[str, dict[str, np.ndarray]]:
    """What the recurrent layers of `model` hold and compute while it runs over `x`.

    Args:
        model: a model or a recurrent layer.
        x: its input, (batch, timesteps, ...).

    Returns:
        For each recurrent layer, by its name, the values of every step by theirs, each an array
        (batch, timesteps, units): the states (`h`, and for an LSTM `c`) and what the cell names
        with `self.record(...)`, for the built-in cells their gates. Steps stand in the order of
        the input, also where a layer runs backwards. Where a layer runs
        again, the second run stands under "name (2)".

    Raises:
        ValueError: there is no recurrent layer, or one whose loop the model hides from view.
    """
    return run(model, x)[0]


def run(model: Any, x: Any, call: Any = None) -> tuple[dict[str, dict[str, np.ndarray]], Any]:
    """What `states` returns, and the outputs of the model; `call` is a `watched(model)` kept."""
    x = jax.tree.map(jnp.asarray, x)
    if not model.built:
        model(x)
    if hasattr(model, "check_values"):
        model.check_values(x)
    found, outputs = (call or watched(model))([v.value for v in model.variables], x)
    by_layer: dict[str, dict[str, np.ndarray]] = {}
    for path, value in found.items():
        layer, _, name = path.rpartition("/")
        if layer and name != INPUTS:
            by_layer.setdefault(layer, {})[name] = np.asarray(value)
    if not by_layer:
        raise ValueError(
            f"Model {model.name!r} has no recurrent layer to look at: view.states() expects a "
            "model with an LSTM, a GRU or another RNN."
        )
    return by_layer, outputs


def watched(model: Any) -> Any:
    """A compiled function of the variables' values and x: what was recorded, and the outputs."""
    variables = model.variables
    names: dict[Any, list[str]] = {}

    def shapes(x: Any) -> Any:
        return tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(x))

    @jax.jit
    def call(values: list[Any], x: Any) -> Any:
        scope = StatelessScope(zip(variables, values, strict=True))
        with scope, recording() as found:
            outputs = model(x, training=False)
        # JAX sorts dictionaries by key; people want the states first.
        names[shapes(x)] = list(found)
        return list(found.values()), outputs

    def watch(values: list[Any], x: Any) -> Any:
        found, outputs = call(values, x)
        return dict(zip(names[shapes(x)], found, strict=True)), outputs

    return watch


def one_layer(found: dict[str, Any], layer: str | None) -> str:
    """The name of the layer asked for, or of the first.

    Raises:
        ValueError: there is none of this name.
    """
    if layer is None:
        return next(iter(found))
    if layer not in found:
        raise ValueError(
            f"There is no recurrent layer {layer!r}.{nearest(layer, list(found))} "
            f"The layers: {', '.join(found)}."
        )
    return layer


def one_value(values: dict[str, np.ndarray], name: str | None) -> str:
    """The name of the value asked for, or of the first state.

    Raises:
        ValueError: the layer records none of this name.
    """
    if name is None:
        return "h" if "h" in values else next(iter(values))
    if name not in values:
        raise ValueError(
            f"The layer records no {name!r}.{nearest(name, list(values))} "
            f"It records: {', '.join(values)}."
        )
    return name
