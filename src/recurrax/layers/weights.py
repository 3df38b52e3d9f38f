"""The weights of a layer: making, finding, reading and setting them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurrax import constraints, initializers, regularizers
from recurrax.dtypes import DTypePolicy
from recurrax.layers import tracking
from recurrax.variable import Variable


class WeightHolder:
    """The part of `Layer` that holds weights."""

    name: str
    built: bool
    dtype_policy: DTypePolicy
    _weights: list[Variable]
    _trainable: bool

    @property
    def compute_dtype(self) -> str:
        return self.dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        return self.dtype_policy.variable_dtype

    dtype = variable_dtype

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
        if isinstance(shape, str):
            raise ValueError(
                f"add_weight of layer {self.name!r} takes the shape first, but got {shape!r}: "
                f"write add_weight(shape, name={shape!r})."
            )
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
        # As in Keras, what trains stands in front of what does not.
        trained = sum(v.trainable for v in self._weights)
        self._weights.insert(trained if trainable else len(self._weights), variable)
        return variable

    @property
    def sublayers(self) -> list[Any]:
        """The layers held by this one, directly."""
        return [x for x in tracking.unique(tracking.held(self, WeightHolder)) if x is not self]

    def flatten_layers(self) -> list[Any]:
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
        """Weights that optimizers change: none of a layer that is not `trainable`."""
        chosen = {id(v) for v in self._trained()}
        return [v for v in self.weights if id(v) in chosen]

    def _trained(self) -> list[Variable]:
        if not self.trainable:
            return []
        below = [v for child in self.sublayers for v in child._trained()]
        return [v for v in tracking.own_variables(self) if v.trainable] + below

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
        if not variables and len(weights):
            self._require_built("given weights")
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

    def save_own_variables(self, store: Any) -> None:
        """Put the layer's own variables into `store`; a layer that saves more overrides this.

        Args:
            store: takes arrays by name; the variables are called "0", "1", ...
        """
        for number, variable in enumerate(tracking.saved_variables(self)):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Take the layer's own variables out of `store`, where `save_own_variables` put them.

        Raises:
            ValueError: a variable is not there.
        """
        variables = tracking.saved_variables(self)
        missing = [v.name for i, v in enumerate(variables) if str(i) not in store]
        if missing:
            raise ValueError(
                f"Layer {self.name!r} has {len(variables)} variables, but the file has "
                f"{sorted(store)} for it: {missing} are missing."
            )
        for number, variable in enumerate(variables):
            variable.assign(store[str(number)])

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
