"""`Layer`: what a model is made of, a computation together with its weights."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array

from recurrax import dtypes, naming, regularizers
from recurrax.layers import auto_config, context, symbolic
from recurrax.layers.call import call_layer
from recurrax.layers.configured import Configured, serialized
from recurrax.layers.graph import Node
from recurrax.layers.operation import on_symbols
from recurrax.layers.record import record
from recurrax.layers.weights import WeightHolder
from recurrax.registry import nearest, serializable
from recurrax.variable import StatelessScope, Variable, current_scope, name_scope

# What old code passes to say what the first layer of a model is fed with.
_INPUT_ARGUMENTS = (
    *("input_shape", "batch_shape", "batch_input_shape", "input_dim", "input_length"),
    "batch_size",
)


@serializable("keras.layers")
class Layer(WeightHolder, Configured):
    """A computation together with its weights.

    A layer of your own defines `call(inputs)`, makes its weights in `build(input_shape)` with
    `self.add_weight(...)`, and, to be saved, returns its arguments from `get_config()`.

    Args:
        activity_regularizer: a function of the output whose value is added to the loss.
        trainable: whether optimizers change the weights.
        dtype: dtype or dtype policy of the computation and the weights.
        autocast: whether floating-point inputs are cast to the compute dtype.
        name: name; made from the class where None.

    Raises:
        ValueError: an argument that no layer has; the message names the nearest.
    """

    # Attributes that hold layers or variables belonging to somebody else.
    untracked: frozenset[str] = frozenset({"_losses", "_nodes", "_init_call"})
    # Whether a call on arrays is compiled as a whole; None: where the code of `call` is ours.
    compiles: bool | None = None
    keras_module = "keras.layers"
    input_spec: Any = None
    supports_masking = False
    _weights: list[Variable]
    _losses: list[Any]
    _nodes: list[Node]
    _building = False
    _build_shapes: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        self.__dict__.update(_init_call=(args, kwargs), _weights=[], _losses=[], _nodes=[])
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__
        if "build" in own:
            cls.build = _in_own_scope(own["build"])
        if "compute_mask" in own:
            cls.compute_mask = on_symbols(own["compute_mask"])
        if "get_config" in own and cls.__module__.startswith("recurrax."):
            cls.get_config = serialized(own["get_config"])

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._input_arguments = {k: kwargs.pop(k) for k in _INPUT_ARGUMENTS if k in kwargs}
        if kwargs:
            key = next(iter(kwargs))
            hint = nearest(key, auto_config.argument_names(type(self)))
            raise ValueError(
                f"{type(self).__name__} has no argument {key!r} (given {kwargs[key]!r}).{hint}"
            )
        self.name = (
            naming.auto_name(naming.to_snake_case(type(self).__name__))
            if (name is None)
            else str(name)
        )
        self.dtype_policy = dtypes.get_policy(dtype)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.autocast = autocast
        self.built = False
        self._trainable = bool(trainable)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "dtype_policy":
            value = dtypes.get_policy(value)
        # A changed setting must not be served by what was compiled for the old one.
        own = self.__dict__
        if own.get("built") and not name.startswith("_") and current_scope() is None:
            changed = name not in own or own[name] is not value
            if changed and not (isinstance(value, bool | int | str) and own.get(name) == value):
                context.settings_changed()
        super().__setattr__(name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return call_layer(self, args, kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} defines no call(): write `def call(self, inputs)`."
        )

    def build(self, input_shape: Any = None) -> None:
        """Make the weights; a layer with weights of its own overrides this.

        Args:
            input_shape: shape of the first argument of `call`, None where unknown.
        """
        self.built = True

    def stateless_call(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Call the layer as a pure function of its variables' values.

        Returns:
            The outputs and the new values of the non-trainable variables, and with
            `return_losses=True` the list of losses.

        Raises:
            ValueError: the layer has no weights yet, or their number differs.
        """
        self._require_built("called statelessly")
        pairs: list[tuple[Variable, Any]] = []
        for kind, variables, values in (
            ("trainable", self.trainable_variables, trainable_variables),
            ("non-trainable", self.non_trainable_variables, non_trainable_variables),
        ):
            if len(variables) != len(values):
                raise ValueError(
                    f"Layer {self.name!r} has {len(variables)} {kind} variables, but got "
                    f"{len(values)} values: pass one for each of layer."
                    f"{kind.replace('-', '_')}_variables, in that order."
                )
            pairs += zip(variables, values, strict=True)
        with StatelessScope(pairs) as scope:
            outputs = self(*args, **kwargs)
            losses = self.losses if return_losses else []
        updated = [scope.get_current_value(v) for v in self.non_trainable_variables]
        return (outputs, updated, losses) if return_losses else (outputs, updated)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Shape of the output for an input of the given shape, None where unknown."""
        if not self.built:
            self.build(*args)
        spec = self.compute_output_spec(*symbolic.shapes_to_symbols(self, list(args)), **kwargs)
        return symbolic.symbols_to_shapes(spec)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs for symbolic inputs, without computing them."""
        return symbolic.infer_outputs(self, args, kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the output; that of the input, unless overridden."""
        return previous_mask

    @property
    def hands_masks_on(self) -> bool:
        """Whether outputs have what `compute_mask` makes of the masks of inputs."""
        own = type(self).compute_mask is not Layer.compute_mask
        return bool(self.supports_masking) or own

    def record(self, name: str, value: Any) -> Any:
        """Name a value of a step, such as a gate, for who looks inside; returns `value`.

        Free when nobody looks.
        """
        return record(name, value)

    def add_loss(self, loss: Any) -> None:
        """Add a scalar, computed in `call`, to the loss that training minimises."""
        scope = current_scope()
        store = self._losses if scope is None else scope.losses
        store.extend(jax.tree.leaves(loss))

    @property
    def losses(self) -> list[Array]:
        """Losses added in the last call, and those of the weights' regularizers."""
        scope = current_scope()
        if scope is None:
            added = [loss for layer in self.flatten_layers() for loss in layer._losses]
        else:
            added = list(scope.losses)
        return added + [
            v.regularizer(v.value) for v in self.trainable_weights if v.regularizer is not None
        ]

    @property
    def input(self) -> Any:
        """What the layer was first called on in a model, symbolic."""
        return self._first_node().first

    @property
    def output(self) -> Any:
        """What the layer's first call in a model returned, symbolic."""
        return self._first_node().outputs

    def _first_node(self) -> Node:
        if not self._nodes:
            raise ValueError(
                f"Layer {self.name!r} has no symbolic input and output, since it was never called "
                "in a model: call it on an Input first."
            )
        return self._nodes[0]


def _in_own_scope(build: Callable[..., Any]) -> Callable[..., Any]:
    """`build` with the layer's name in front of its variables, and `built` set afterwards."""

    @functools.wraps(build)
    def wrapped(self: Layer, *args: Any, **kwargs: Any) -> None:
        if self._building:  # a subclass calls super().build()
            build(self, *args, **kwargs)
            return
        self._building = True
        try:
            with name_scope(self.name):
                build(self, *args, **kwargs)
        finally:
            self._building = False
        arguments = inspect.signature(build).bind(self, *args, **kwargs).arguments
        self._build_shapes = dict(list(arguments.items())[1:])
        self.built = True

    return wrapped
