"""`Model`: layers that are trained together."""

from typing import Any

from recurrax.layers.layer import Layer
from recurrax.models.summary import print_summary
from recurrax.registry import nearest, serializable
from recurrax.training.trainer import Trainer


@serializable("keras", "Functional")
class Model(Trainer, Layer):
    """Layers that are trained together.

    Subclass it with a `call` of your own, or use `Sequential`.
    """

    @property
    def layers(self) -> list[Layer]:
        """The layers of the model, in order."""
        return self.sublayers

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of this name, or at this index.

        Raises:
            ValueError: neither or both are given, or there is no such layer.
        """
        if (name is None) == (index is None):
            raise ValueError("get_layer expected either name= or index=.")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(
                    f"Model {self.name!r} has {len(self.layers)} layers, but index {index} was "
                    f"asked for: give one from 0 to {len(self.layers) - 1}."
                )
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        raise ValueError(
            f"Model {self.name!r} has no layer {name!r}.{nearest(str(name), names)} "
            f"Its layers: {', '.join(names)}."
        )

    def summary(self, **options: Any) -> None:
        """Print the model's layers, their output shapes and numbers of weights.

        Options: `line_length`, `positions`, `print_fn`, `expand_nested`, `show_trainable`.

        Raises:
            ValueError: no shape is known yet.
        """
        if not self.built:
            raise ValueError(
                f"Model {self.name!r} is not built, so its shapes are not known: call it on data, "
                "call build(input_shape), or begin it with an Input."
            )
        print_summary(self, **options)

    def reset_states(self) -> None:
        """Set the states of all stateful layers back to their start."""
        for layer in self.flatten_layers():
            if getattr(layer, "states", None) is not None:
                layer.reset_state()  # pyright: ignore[reportAttributeAccessIssue]

    reset_state = reset_states
