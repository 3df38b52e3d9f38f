"""How far back in time the loss reaches."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.layers import record
from recurrax.variable import StatelessScope
from recurrax.view import drawing
from recurrax.view.states import INPUTS


def gradient_flow(
    model: Any, x: Any, y: Any = None, loss: Callable[[Any, Any], Any] | str | None = None
) -> dict[str, np.ndarray]:
    """The size of the loss's gradient at every step of every recurrent layer's input.

    Args:
        model: a model or a recurrent layer.
        x: its input, (batch, timesteps, ...).
        y: targets, as in `fit`.
        loss: name or function `(y, prediction) -> value`; the compiled one where None.

    Returns:
        For each recurrent layer, by name, the Euclidean norm over the features of the gradient of
        the loss with respect to what the layer is fed: (batch, timesteps).

    Raises:
        ValueError: there is no recurrent layer, or neither a loss nor a compiled model.
    """
    x = jax.tree.map(jnp.asarray, x)
    if not model.built:
        model(x)
    function = _loss_function(model, loss)
    variables = model.variables
    paths: list[str] = []
    values = [v.value for v in variables]

    def run(shifts: dict[str, Any], values: list[Any]) -> Any:
        scope = StatelessScope(zip(variables, values, strict=True))
        with scope, record.recording() as found, record.shifting(shifts):
            value = jnp.sum(function(y, model(x, training=False)))
        # JAX sorts dictionaries by key; people want the layers in their order.
        paths[:] = [path for path in found if path.endswith(f"/{INPUTS}")]
        return value, {path: found[path] for path in paths}

    _, found = jax.eval_shape(run, {}, values)
    if not found:
        raise ValueError(f"Model {model.name!r} has no recurrent layer for a gradient to flow in.")
    zeros = {path: jnp.zeros(value.shape, value.dtype) for path, value in found.items()}
    gradients, _ = jax.jit(jax.grad(run, has_aux=True))(zeros, values)

    def norm(gradient: Any) -> np.ndarray:
        flat = np.asarray(gradient, np.float64).reshape(*gradient.shape[:2], -1)
        return np.linalg.norm(flat, axis=-1)

    return {path.rpartition("/")[0]: norm(gradients[path]) for path in paths}


def plot_gradient_flow(
    model: Any,
    x: Any,
    y: Any = None,
    loss: Callable[[Any, Any], Any] | str | None = None,
    tokens: Sequence[Any] | None = None,
) -> Any:
    """How strongly the loss depends on each step, on a logarithmic scale, averaged over the batch.

    A curve that falls steeply towards the left shows a model that forgets: what lies there can
    hardly be learned. Arguments as in `gradient_flow`, and `tokens`, one for each step.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: not one token for each step, or tokens for layers of different lengths.
    """
    flow = gradient_flow(model, x, y, loss)
    lengths = {name: norms.shape[1] for name, norms in flow.items()}
    steps = max(lengths.values())
    if tokens is not None and len(set(lengths.values())) > 1:
        each = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(
            f"The layers have different numbers of steps ({each}), so one text cannot stand under "
            "all: leave tokens away."
        )
    drawing.check_tokens(tokens, steps)
    figure = drawing.new_figure(drawing.width_for(steps), 3.6)
    import matplotlib

    with matplotlib.rc_context(drawing.fonts()):
        axes = figure.subplots()
        for name, norms in flow.items():
            mean = norms.mean(axis=0)
            # A step that the loss does not reach at all has no place on the scale.
            axes.plot(range(len(mean)), np.where(mean > 0, mean, np.nan), marker=".", label=name)
        axes.set_yscale("log")
        axes.set_ylabel("size of the loss's gradient")
        axes.grid(alpha=0.25)
        axes.legend(title="fed to layer")
        drawing.label_steps(axes, steps, tokens)
    return figure


def _loss_function(model: Any, loss: Any) -> Callable[[Any, Any], Any]:
    if callable(loss):
        return loss
    from recurrax.training import losses

    if loss is None:
        loss = getattr(model, "loss", None)
    if loss is None:
        raise ValueError(
            f"Model {model.name!r} has no loss: compile it, or pass loss='mse' or a function "
            "(y, prediction) -> value."
        )
    return losses.get(loss)
