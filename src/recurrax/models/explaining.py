"""What the loop compiler makes of a model's recurrent layers."""

from typing import Any

import jax

from recurrax.layers.checks import positive_int
from recurrax.layers.explained import explaining
from recurrax.loop import Explanation
from recurrax.variable import StatelessScope


class Explanations(dict[str, Explanation]):
    """An explanation for each recurrent layer, by its name; `print` it to read them."""

    def __str__(self) -> str:
        return "\n\n".join(f"{name}: {explanation}" for name, explanation in self.items())


def explain_model(model: Any, batch_size: int, timesteps: int) -> Explanations:
    """Explain the loops of `model` for inputs of this size, without running them.

    Raises:
        ValueError: the model's inputs are not known, no layer is recurrent, or a size is not
            positive.
    """
    for name, number in (("batch_size", batch_size), ("timesteps", timesteps)):
        positive_int(number, name, "explain()")
    symbols = model.inputs if model.built else None
    if not symbols:
        raise ValueError(
            f"Model {model.name!r} cannot be explained before its input's shape is known: begin it "
            "with an Input, or call it on data first."
        )

    def filled(shape: Any) -> tuple[int, ...]:
        unknown = (batch_size, timesteps)
        return tuple(
            unknown[min(axis, 1)] if size is None else size for axis, size in enumerate(shape)
        )

    inputs = [jax.ShapeDtypeStruct(filled(each.shape), each.dtype) for each in symbols]

    def call(inputs: Any) -> Any:
        with StatelessScope():
            return model(inputs[0] if len(inputs) == 1 else inputs, training=False)

    with explaining() as found:
        jax.eval_shape(call, inputs)
    if not found:
        raise ValueError(f"Model {model.name!r} has no recurrent layer, so no loop to explain.")
    return Explanations(found)
