"""`Layer`: what a model is made of, a computation together with its weights."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from recurrax import constraints, dtypes, initializers, regularizers
from recurrax.layers import auto_config, call, naming, tracking
from recurrax.layers.record import record
from recurrax.registry import deserialize, nearest, serializable
from recurrax.variable import StatelessScope, Variable, current_scope, name_scope

# What old code passes to say what the first layer of a model is fed with.
_INPUT_ARGUMENTS = (
    *("input_shape", "batch_shape", "batch_input_shape", "input_dim", "input_length"),
    "batch_size",
)


@serializable("keras.layers")
class Layer:
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
    untracked: frozenset[str] = frozenset({"_losses", "_nodes"})
    # Whether a call on arrays is compiled as a whole; None: where the code of `call` is ours.
    compiles: bool | None = None
    keras_module = "keras.layers"
    input_spec: Any = None
    supports_masking = False
    _weights: list[Variable]
    _losses: list[Any]
    _nodes: list[Any]
    _building = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        self.__dict__.update(_init_call=(args, kwargs), _weights=[], _losses=[], _nodes=[])
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _in_own_scope(cls.__dict__["build"])

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
        # A changed setting must not be served by what was compiled for the old one.
        if not name.startswith("_") and self.__dict__.get("built") and current_scope() is None:
            call.settings_changed()
        super().__setattr__(name, value)

    # ------------------------------------------------------------------ computing

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return call.call_layer(self, args, kwargs)

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
        spec = self.compute_output_spec(*call.shapes_to_symbols(self, args), **kwargs)
        return jax.tree.map(lambda tensor: tensor.shape, spec)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs for symbolic inputs, without computing them."""
        return call.infer_outputs(self, args, kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the output; that of the input, unless overridden."""
        return previous_mask

    @property
    def compute_dtype(self) -> str:
        return self.dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        return self.dtype_policy.variable_dtype

    dtype = variable_dtype

    # ------------------------------------------------------------------ weights

    def add_weight(
        self,
        shape: Sequence[int] | int = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
        **_: Any,
    ) -> Variable:
        """Make a weight.

        Args:
            shape: its shape.
            initializer: name or function; Glorot uniform for floating-point weights where None.
            dtype: data type; that of the layer's policy where None.
            trainable: whether optimizers change it.
            autocast: whether it reads in the layer's compute dtype.
            regularizer, constraint: name or function.
            name: its own name.
        """
        if isinstance(shape, int):
            shape = (shape,)
        if any(size is None or size < 0 for size in shape):
            raise ValueError(
                f"Layer {self.name!r} cannot make weight {name!r} of shape {tuple(shape)}: every "
                "size must be known. Give the layer an input whose last axes have a fixed size."
            )
        dtype = dtype or self.variable_dtype
        if initializer is None:
            initializer = "glorot_uniform" if np.dtype(dtype).kind in "fV" else "zeros"
        variable = Variable(
            initializers.get(initializer), shape, dtype, trainable, name, autocast=autocast
        )
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        self._weights.append(variable)
        return variable

    @property
    def sublayers(self) -> list["Layer"]:
        """The layers held by this one, directly."""
        return [x for x in tracking.unique(tracking.held(self, Layer)) if x is not self]

    def flatten_layers(self) -> list["Layer"]:
        """This layer and all layers below it."""
        below = [layer for child in self.sublayers for layer in child.flatten_layers()]
        return tracking.unique([self, *below])

    @property
    def weights(self) -> list[Variable]:
        """All weights: own ones first, then those of the layers held."""
        below = [v for child in self.sublayers for v in child.weights]
        return tracking.unique([*tracking.own_variables(self), *below])

    @property
    def state_variables(self) -> list[Variable]:
        """What a call changes and no optimizer does: seeds, states of stateful layers."""
        below = [v for child in self.sublayers for v in child.state_variables]
        return tracking.unique([*self._own_state(), *below])

    def _own_state(self) -> list[Variable]:
        return tracking.seed_states(self)

    @property
    def variables(self) -> list[Variable]:
        """Weights and states."""
        return tracking.unique([*self.weights, *self.state_variables])

    @property
    def trainable_weights(self) -> list[Variable]:
        return [v for v in self.weights if v.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        trainable = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in trainable]

    @property
    def trainable_variables(self) -> list[Variable]:
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Variable]:
        return tracking.unique([*self.non_trainable_weights, *self.state_variables])

    @property
    def trainable(self) -> bool:
        """Whether optimizers change the weights; setting it sets it for all layers below."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for variable in tracking.own_variables(self):
            variable.trainable = self._trainable
        for child in self.sublayers:
            child.trainable = value

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the weights, in the order of `weights`."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weights; either all are set or, on an error, none.

        Raises:
            ValueError: another number of weights, or another shape.
        """
        variables = self.weights
        if len(variables) != len(weights):
            raise ValueError(
                f"Layer {self.name!r} has {len(variables)} weights, but set_weights() got "
                f"{len(weights)}: pass one array for each of "
                f"{[f'{v.path} {v.shape}' for v in variables]}."
            )
        values = [np.asarray(w) for w in weights]
        for variable, value in zip(variables, values, strict=True):
            if variable.shape != value.shape:
                raise ValueError(
                    f"Weight {variable.path!r} has shape {variable.shape}, but set_weights() got "
                    f"an array of shape {value.shape} for it. Nothing was changed."
                )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def count_params(self) -> int:
        """Number of scalars in all weights.

        Raises:
            ValueError: the layer has no weights yet.
        """
        self._require_built("counted")
        return sum(v.size for v in self.weights)

    def _require_built(self, doing: str) -> None:
        if not self.built:
            raise ValueError(
                f"Layer {self.name!r} cannot be {doing} before it is built: call it on data, or "
                "call build(input_shape)."
            )

    def record(self, name: str, value: Any) -> Any:
        """Name a value of a step, such as a gate, for who looks inside; returns `value`.

        Free when nobody looks.
        """
        return record(name, value)

    # ------------------------------------------------------------------ losses

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

    # ------------------------------------------------------------------ configuration

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`, as data that `from_config` makes a twin of.

        Raises:
            NotImplementedError: a subclass whose arguments cannot be told from outside.
        """
        config = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype_policy,
        }
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = self.activity_regularizer
        return config | auto_config.missing_arguments(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A layer of this class from what `get_config` returned."""
        return cls(**{key: deserialize(value) for key, value in config.items()})

    def get_build_config(self) -> dict[str, Any] | None:
        """What `build` was given."""
        shapes = self.__dict__.get("_build_shapes")
        return None if shapes is None else {"input_shape": shapes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build from what `get_build_config` returned."""
        shape = config.get("input_shape")
        if shape is not None and not self.built:
            self.build(_as_shape(shape))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    # ------------------------------------------------------------------ graph

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's only call in a model."""
        return next(iter(self._only_node().arguments.values()))

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's only call in a model."""
        return self._only_node().outputs

    def _only_node(self) -> Any:
        if len(self._nodes) != 1:
            raise ValueError(
                f"Layer {self.name!r} was called on symbolic tensors {len(self._nodes)} times, so "
                "that its input and output are not defined; they are where it was called once."
            )
        return self._nodes[0]


def _as_shape(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _as_shape(value) for key, value in data.items()}
    if all(size is None or isinstance(size, int) for size in data):
        return tuple(data)
    return [_as_shape(item) for item in data]


def _in_own_scope(build: Any) -> Any:
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
        if args and not kwargs:
            self._build_shapes = args[0]
        self.built = True

    return wrapped
