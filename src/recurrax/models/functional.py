"""`Functional`: a model made of the graph between some inputs and some outputs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.layers import symbolic
from recurrax.layers.carried import is_carrying
from recurrax.layers.graph import is_symbolic, replace_symbols, symbolic_leaves
from recurrax.layers.input_layer import InputLayer
from recurrax.layers.layer import Layer
from recurrax.layers.mask import get_mask, set_mask
from recurrax.layers.operation import Operation
from recurrax.layers.signature import signature_of
from recurrax.models import functional_config
from recurrax.models.model import Model
from recurrax.models.network import Network, with_fresh_inputs
from recurrax.registry import serializable


@serializable("keras.src.models.functional")
class Functional(Model):
    """A model made of the graph that calls on symbolic tensors left between inputs and outputs.

    `Model(inputs, outputs)` makes one.

    Args:
        inputs: a structure (a tensor, a list, a tuple, a dictionary) of symbolic tensors, most
            often of `Input`s.
        outputs: a structure of symbolic tensors.
        name: name.
        trainable: whether optimizers change the weights.

    Call arguments:
        inputs: arrays in the structure of `inputs`; a dictionary by the names of the `Input`s, or
            a list in their order, is taken as well.
        training: whether in training; a layer that was called with `training=` keeps to that.
        mask: masks in the structure of `inputs`.

    Returns:
        Arrays in the structure of `outputs`.

    Raises:
        ValueError: something that is not symbolic, a graph that is not connected, two layers of
            one name; on a call, inputs of another number, name or shape.
    """

    untracked = Model.untracked | {"_network", "_inputs_struct", "_outputs_struct", "_flat"}

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        trainable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, trainable=trainable, **kwargs)
        for what, tree in (("inputs", inputs), ("outputs", outputs)):
            for leaf in jax.tree.leaves(tree):
                if not is_symbolic(leaf):
                    raise ValueError(
                        f"Model {self.name!r} expected symbolic tensors as {what}, but got "
                        f"{_shown(leaf)}: begin with Input(shape) and call layers on it."
                    )
            if not jax.tree.leaves(tree):
                raise ValueError(f"Model {self.name!r} expected {what}, but got {tree!r}.")
        flat = symbolic_leaves(inputs)
        if len({id(tensor) for tensor in flat}) < len(flat):
            raise ValueError(f"Model {self.name!r} got one tensor twice among its inputs: {flat}.")
        if not all(t.node is not None and isinstance(t.node.layer, InputLayer) for t in flat):
            flat, outputs = with_fresh_inputs(flat, outputs)
            inputs = jax.tree.unflatten(jax.tree.structure(inputs), flat)
        self._inputs_struct, self._outputs_struct = inputs, outputs
        self._flat = flat
        self._network = Network(flat, symbolic_leaves(outputs))
        self._layers = [x for x in self._network.layers if isinstance(x, Layer)]
        self.built = True
        if not trainable:
            self.trainable = False

    @property
    def layers(self) -> list[Layer]:
        return list(self._layers)

    @property
    def operations(self) -> list[Any]:
        """Layers, and operations that are no layers, in order."""
        return list(self._network.layers)

    def get_operation(self, name: str) -> Any:
        """The layer or operation of this name."""
        return next(x for x in self._network.layers if x.name == name)

    @property
    def network(self) -> Network:
        """The graph."""
        return self._network

    @property
    def inputs(self) -> list[Any]:
        """The symbolic inputs, in a list."""
        return list(self._flat)

    @property
    def outputs(self) -> list[Any]:
        """The symbolic outputs, in a list."""
        return symbolic_leaves(self._outputs_struct)

    @property
    def input(self) -> Any:
        """The symbolic inputs, in their structure."""
        return self._inputs_struct

    @property
    def output(self) -> Any:
        """The symbolic outputs, in their structure."""
        return self._outputs_struct

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs."""
        return [tensor.name for tensor in self._flat]

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that give the outputs."""
        return [self._network.history(tensor)[0] for tensor in self.outputs]

    @property
    def input_shape(self) -> Any:
        return symbolic.symbols_to_shapes(self._inputs_struct)

    @property
    def output_shape(self) -> Any:
        return symbolic.symbols_to_shapes(self._outputs_struct)

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to build."""

    def check_values(self, inputs: Any) -> None:
        """Check the values of the inputs where the layers they go to do."""
        values = {id(t): x for t, x in zip(self._flat, self._in_order(inputs), strict=True)}
        for node in self._network.nodes:
            first = node.first
            if id(first) in values and hasattr(node.layer, "check_values"):
                node.layer.check_values(values[id(first)])

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        arrays = [
            self._fitted(x, t) for x, t in zip(self._in_order(inputs), self._flat, strict=True)
        ]
        if mask is not None:
            for array, one in zip(arrays, self._in_order(mask), strict=True):
                set_mask(array, one)
        values = {id(t): x for t, x in zip(self._flat, arrays, strict=True)}
        for node in self._network.nodes:
            if isinstance(node.layer, InputLayer):
                continue
            args, kwargs = replace_symbols((node.args, node.kwargs), lambda t: values[id(t)])
            if isinstance(node.layer, Operation):
                results = node.layer(*args, **kwargs)
            else:
                if kwargs.get("training") is None and _takes_training(node.layer):
                    kwargs = {**kwargs, "training": training}
                results = node.layer(*args, **kwargs)
            leaves = jax.tree.leaves(results)
            for tensor, value in zip(symbolic_leaves(node.outputs), leaves, strict=True):
                values[id(tensor)] = value
        return replace_symbols(self._outputs_struct, lambda t: values[id(t)])

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None  # the layers have put them on the outputs

    def _in_order(self, inputs: Any) -> list[Any]:
        """What is given, in the order of the inputs."""
        names = self.input_names
        if isinstance(inputs, Mapping) and not isinstance(self._inputs_struct, Mapping):
            missing = [name for name in names if name not in inputs]
            if missing:
                raise ValueError(
                    f"Model {self.name!r} expected inputs named {names}, but got "
                    f"{sorted(inputs)}: {missing} are missing."
                )
            return [inputs[name] for name in names]
        if isinstance(inputs, Mapping):
            expected = list(self._inputs_struct)
            missing = [key for key in expected if key not in inputs]
            if missing:
                raise ValueError(
                    f"Model {self.name!r} expected inputs under the keys {sorted(expected)}, but "
                    f"got {sorted(inputs)}: {missing} are missing."
                )
            inputs = {key: inputs[key] for key in expected}
        flat = jax.tree.leaves(inputs, is_leaf=lambda x: x is None)
        if len(flat) != len(names):
            raise ValueError(
                f"Model {self.name!r} expected {len(names)} inputs, {names}, but got {len(flat)}: "
                "pass them in a list of that order, or in a dictionary by these names."
            )
        return flat

    def _fitted(self, x: Any, tensor: Any) -> Any:
        """One input, in the dtype and rank of the symbolic one."""
        layer = tensor.node.layer
        if x is None:
            if not layer.optional:
                raise ValueError(
                    f"Model {self.name!r} got None for the input {tensor.name!r}, which is not "
                    "optional: pass an array, or make it with Input(..., optional=True)."
                )
            return None
        mask, expected = get_mask(x), tensor.shape
        y = jnp.asarray(x, jax.dtypes.canonicalize_dtype(tensor.dtype))
        if y.ndim == len(expected) + 1 and y.shape[-1] == 1:
            y = y[..., 0]
        elif y.ndim == len(expected) - 1 and expected[-1] == 1:
            y = y[..., None]
        if is_carrying() and len(expected) > 1:  # one step, whatever the number of steps
            expected = (expected[0], None, *expected[2:])
        fits = y.ndim == len(expected) and all(
            want is None or want == have for want, have in zip(expected, y.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"Model {self.name!r} expected its input {tensor.name!r} to have shape "
                f"{expected}, but got {tuple(jnp.shape(x))}: pass data of that shape."
            )
        if y is not x and mask is not None:
            set_mask(y, mask)
        return y

    def get_config(self) -> dict[str, Any]:
        if not functional_config.made_like_functional(type(self)):
            return Layer.get_config(self)
        return functional_config.to_config(self)


def _takes_training(layer: Any) -> bool:
    return signature_of(type(layer)).takes_training


def _shown(leaf: Any) -> str:
    shape = getattr(leaf, "shape", None)
    return repr(leaf) if shape is None else f"an array of shape {tuple(shape)}"
