"""`Sequential`: layers one after the other."""

from collections.abc import Sequence
from typing import Any

import jax

from recurrax.layers import symbolic
from recurrax.layers.graph import is_symbolic, symbolic_leaves
from recurrax.layers.input_layer import Input, InputLayer
from recurrax.layers.layer import Layer
from recurrax.layers.mask import set_mask
from recurrax.layers.shapes import as_shape, map_shapes
from recurrax.models.model import Model
from recurrax.registry import deserialize, serializable
from recurrax.variable import name_scope


@serializable("keras")
class Sequential(Model):
    """Layers one after the other, each fed with what the one before returns.

    Args:
        layers: the layers; an `Input` first makes the model know its shapes at once.
        trainable: whether optimizers change the weights.
        name: name.

    Raises:
        ValueError: something that is no layer, two layers of one name, an `Input` not in front,
            or a layer that returns several tensors (`return_state=True`).
    """

    untracked = Layer.untracked | {"_symbolic"}

    def __init__(
        self, layers: Sequence[Any] | None = None, trainable: bool = True, name: str | None = None
    ) -> None:
        super().__init__(trainable=trainable, name=name)
        self._layers: list[Layer] = []
        self._symbolic: list[Any] = []
        if isinstance(layers, Layer):
            raise ValueError(
                f"Sequential {self.name!r} expected a list of layers, but got {layers!r}: pass "
                "[...] around it."
            )
        for layer in layers or ():
            self._append(layer)
        self._build_early()

    def add(self, layer: Any) -> None:
        """Put a layer at the end."""
        self._append(layer)
        self._rebuild()

    def pop(self) -> Layer:
        """Take the last layer off.

        Raises:
            ValueError: there is none.
        """
        if not self.layers:
            raise ValueError(f"Sequential {self.name!r} has no layer to pop.")
        layer = self._layers.pop()
        self._rebuild()
        return layer

    def _append(self, layer: Any) -> None:
        if is_symbolic(layer) and isinstance(layer.node.layer, InputLayer):
            layer = layer.node.layer
        if not isinstance(layer, Layer):
            raise ValueError(
                f"Sequential {self.name!r} expected a layer, but got {layer!r} of type "
                f"{type(layer).__name__}: add layers.Dense(8), say, or layers.Lambda(function)."
            )
        if isinstance(layer, InputLayer) and self._layers:
            raise ValueError(
                f"Sequential {self.name!r} already has layers: an Input can only stand in front."
            )
        if any(layer.name == other.name for other in self._layers):
            raise ValueError(
                f"Sequential {self.name!r} already has a layer named {layer.name!r}: give one of "
                "them another name."
            )
        if getattr(layer, "return_state", False):
            raise ValueError(
                f"Layer {layer.name!r} has return_state=True and so returns several tensors, which "
                "Sequential cannot feed to the next layer: build a functional Model(inputs, "
                "outputs) instead."
            )
        self._layers.append(layer)

    @property
    def layers(self) -> list[Layer]:
        return [layer for layer in self._layers if not isinstance(layer, InputLayer)]

    def _rebuild(self) -> None:
        known = self._symbolic and self._layers
        shape = symbolic.symbols_to_shapes(self._symbolic[0]) if known else None
        self._symbolic, self._nodes[:] = [], []
        self.built = False
        self._build_early()
        if not self.built and shape is not None:
            self.build(shape)

    def _build_early(self) -> None:
        """Build as soon as the shapes can be known."""
        if not self._layers:
            return
        first = self._layers[0]
        if isinstance(first, InputLayer):
            self._build_from(first.output)
            return
        shape = _early_shape(first)
        if shape is not None:
            dtype = "int32" if type(first).__name__ == "Embedding" else first.compute_dtype
            self._build_from(Input(batch_shape=shape, dtype=dtype))

    def build(self, input_shape: Any = None) -> None:
        """Make all weights, for an input of this shape, None where unknown.

        Raises:
            ValueError: no shape is given and none is known.
        """
        if input_shape is None:
            raise ValueError(
                f"Sequential {self.name!r} cannot be built without a shape: give it, or begin the "
                "model with an Input."
            )
        dtype = self._layers[0].compute_dtype if self._layers else "float32"
        stateful = any(getattr(layer, "stateful", False) for layer in self.flatten_layers())

        def symbol(shape: Any) -> Any:
            batch_size = shape[0] if stateful else None
            return Input(batch_shape=(batch_size, *shape[1:]), dtype=dtype)

        self._build_from(map_shapes(symbol, input_shape))

    def _build_from(self, symbol: Any) -> None:
        self._symbolic = [symbol]
        for layer in self.layers:
            layer._nodes.clear()
            with name_scope(self.name):
                symbol = layer(symbol)
            if not is_symbolic(symbol):
                raise ValueError(
                    f"Layer {layer.name!r} returns {len(jax.tree.leaves(symbol))} tensors, but "
                    "Sequential needs one: build a functional Model(inputs, outputs) instead."
                )
        self._symbolic.append(symbol)
        self.built = True

    @property
    def inputs(self) -> list[Any]:
        """The symbolic input, in a list."""
        return symbolic_leaves(self._graph_end(0))

    @property
    def outputs(self) -> list[Any]:
        """The symbolic output, in a list."""
        return symbolic_leaves(self._graph_end(1))

    @property
    def input(self) -> Any:
        """The symbolic input, in its structure."""
        return self._graph_end(0)

    @property
    def output(self) -> Any:
        """The symbolic output."""
        return self._graph_end(1)

    def _graph_end(self, index: int) -> Any:
        if not self.built:  # no such attribute, so that hasattr tells
            raise AttributeError(
                f"Sequential {self.name!r} has no inputs and outputs before it is built: call it "
                "on data, call build(input_shape), or begin it with an Input."
            )
        return self._symbolic[index]

    @property
    def input_shape(self) -> Any:
        return symbolic.symbols_to_shapes(self.input)

    @property
    def output_shape(self) -> Any:
        return symbolic.symbols_to_shapes(self.output)

    def compute_output_shape(self, input_shape: Any) -> Any:
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def check_values(self, inputs: Any) -> None:
        """Check the values of an input where the first layer does."""
        if self.layers and hasattr(self.layers[0], "check_values"):
            self.layers[0].check_values(inputs)  # pyright: ignore[reportAttributeAccessIssue]

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        if isinstance(inputs, list | tuple | dict) and is_symbolic(self.input):
            inputs = self._single(inputs)
        if mask is not None:
            set_mask(inputs, mask)
        for layer in self.layers:
            inputs = layer(inputs, training=training)
        return inputs

    def _single(self, inputs: Any) -> Any:
        leaves = jax.tree.leaves(inputs)
        if len(leaves) != 1:
            raise ValueError(
                f"Sequential {self.name!r} has one input, but got {len(leaves)} arrays: for "
                "several inputs build a functional Model(inputs, outputs)."
            )
        return leaves[0]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None  # the last layer has put it on the output

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype_policy,
            "layers": list(self._layers),
        }
        if self._symbolic and not isinstance(self._layers[0], InputLayer):
            config["build_input_shape"] = symbolic.symbols_to_shapes(self._symbolic[0])
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Sequential":
        model = cls([deserialize(layer) for layer in config["layers"]], name=config.get("name"))
        shape = deserialize(config.get("build_input_shape"))
        if shape is not None and not model.built:
            model.build(as_shape(shape))
        return model


def _early_shape(layer: Layer) -> Any:
    """The batch shape of a first layer's input, if anything says it."""
    known = getattr(layer, "known_input_shape", None)
    if known is not None:
        return known
    if isinstance(layer, Model) and layer.built and len(layer.inputs or ()) == 1:
        return layer.inputs[0].shape  # pyright: ignore[reportOptionalSubscript]
    given = layer._input_arguments
    if "batch_input_shape" in given or "batch_shape" in given:
        return given.get("batch_input_shape", given.get("batch_shape"))
    if "input_shape" in given:
        return (given.get("batch_size"), *given["input_shape"])
    if "input_dim" in given:
        length = [given["input_length"]] if "input_length" in given else []
        recurrent = [None] if hasattr(layer, "return_sequences") and not length else length
        return (None, *recurrent, given["input_dim"])
    return None
