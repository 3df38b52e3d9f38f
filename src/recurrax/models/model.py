"""`Model`: layers that are trained together."""

from collections.abc import Callable, Sequence
from typing import Any

from recurrax.layers import symbolic
from recurrax.layers.graph import symbolic_leaves
from recurrax.layers.input_layer import Input
from recurrax.layers.layer import Layer
from recurrax.layers.rnn import RNN
from recurrax.layers.shapes import map_shapes
from recurrax.models import functional_config
from recurrax.models.explaining import Explanations, explain_model
from recurrax.models.saved import Saved
from recurrax.models.streaming import Stream
from recurrax.models.summary import print_summary
from recurrax.registry import custom_object_scope, nearest, serializable
from recurrax.training.trainer import Trainer


@serializable("keras", "Model")
class Model(Saved, Trainer, Layer):
    """Layers that are trained together.

    Three ways to make one: `Sequential([...])`; `Model(inputs, outputs)`, of the graph that calls
    on `Input`s left between them; or a subclass that makes its layers in `__init__` and calls them
    in `call(inputs)`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and _graph_given(args, kwargs):
            return super().__new__(_functional(), *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not _graph_given(args, kwargs):
            if args:
                raise ValueError(
                    f"{type(self).__name__} expected inputs and outputs, both or none, but got "
                    f"{args!r}: write Model(inputs, outputs)."
                )
            super().__init__(**kwargs)
            return
        # A subclass that hands a graph to super().__init__(inputs=..., outputs=...).
        _insert_functional(type(self))
        _functional().__init__(self, *args, **kwargs)

    @property
    def layers(self) -> list[Layer]:
        """The layers of the model, in order."""
        return self.sublayers

    @property
    def operations(self) -> list[Any]:
        """What the summary lists: the layers, and operations that are no layers."""
        return self.layers

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

    def build(self, input_shape: Any = None) -> None:
        """Make all weights, for inputs of this shape (or structure of shapes).

        Raises:
            ValueError: no shape is given.
        """
        if self.built:
            return
        if input_shape is None:
            raise ValueError(
                f"Model {self.name!r} cannot be built without a shape: pass it, or call the model "
                "on data."
            )
        self(map_shapes(lambda s: Input(batch_shape=s, dtype=self.compute_dtype), input_shape))

    # It calls the model, so a call must not build by it.
    build.by_call = True  # pyright: ignore[reportFunctionMemberAccess]

    def compute_output_shape(self, input_shape: Any) -> Any:
        tensors = symbolic.shapes_to_symbols(self, input_shape)
        return symbolic.symbols_to_shapes(self.compute_output_spec(tensors))

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return symbolic.trace_call(self, args, kwargs)

    @property
    def inputs(self) -> Sequence[Any] | None:
        """The symbolic inputs, in a list; None before the model is called on any."""
        return symbolic_leaves(self._nodes[0].first) if self._nodes else None

    @property
    def outputs(self) -> Sequence[Any] | None:
        """The symbolic outputs, in a list; None before the model is called on any."""
        return symbolic_leaves(self._nodes[0].outputs) if self._nodes else None

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """A model from what `get_config` returned; of a graph, if the configuration holds one."""
        graph = {"layers", "input_layers", "output_layers"} <= set(config)
        if graph and functional_config.made_like_functional(cls):
            return functional_config.from_config(cls, config, custom_objects)
        with custom_object_scope(custom_objects or {}):
            return super().from_config(config)

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        """Print the model's layers, their output shapes and numbers of weights.

        Args:
            line_length: characters of a line.
            positions: where the columns end, as shares of the line or as characters.
            print_fn: called with each line; `print` where None.
            expand_nested: also show the layers of models inside.
            show_trainable: also show whether each layer trains.
            layer_range: names of the first and the last layer to show, or regular expressions; the
                totals are those of the whole model.

        Raises:
            ValueError: no shape is known yet, or no layer has a name of `layer_range`.
        """
        if not self.built:
            raise ValueError(
                f"Model {self.name!r} is not built, so its shapes are not known: call it on data, "
                "call build(input_shape), or begin it with an Input."
            )
        print_summary(
            self,
            line_length,
            positions,
            print_fn,
            expand_nested,
            show_trainable,
            layer_range,
            **options,
        )

    def reset_states(self) -> None:
        """Set the states of all stateful layers, nested ones too, back to their start."""
        for layer in self.flatten_layers():
            if isinstance(layer, RNN) and layer.states is not None:
                layer.reset_state()

    reset_state = reset_states

    def explain(self, batch_size: int = 32, timesteps: int = 100) -> Explanations:
        """What the loop compiler makes of each recurrent layer; `print` it to read it.

        Args:
            batch_size: samples to explain for, where the model's inputs leave it open.
            timesteps: steps to explain for, where the inputs leave them open.

        Raises:
            ValueError: the model's inputs are not known, or no layer is recurrent.
        """
        return explain_model(self, batch_size, timesteps)

    def stream(self, batch_size: int = 1) -> Stream:
        """The model one step at a time: `stream.step(x_t) -> y_t`, with its state inside.

        Args:
            batch_size: sequences that go forward side by side.

        Raises:
            ValueError: the model is not built, or cannot go forward step by step.
        """
        return Stream(self, batch_size)


def _graph_given(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return len(args) >= 2 or "outputs" in kwargs or ("inputs" in kwargs and bool(args))


def _functional() -> Any:
    from recurrax.models.functional import Functional  # it is a Model itself

    return Functional


def _insert_functional(cls: type) -> None:
    """Put `Functional` in the place of `Model` among the bases of a class and of its bases."""
    if cls in (object, Layer) or issubclass(cls, _functional()):
        return
    bases = tuple(_functional() if base is Model else base for base in cls.__bases__)
    for base in bases:
        if issubclass(base, Model):
            _insert_functional(base)
    cls.__bases__ = bases
