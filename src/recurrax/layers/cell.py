"""What the built-in cells share: their arguments, their weights, their dropout."""

from typing import Any

import jax.numpy as jnp
from jax import Array, export

from recurrax import activations, constraints, initializers, regularizers
from recurrax.layers.checks import positive_int, rate
from recurrax.layers.dropout_cell import DropoutRNNCell
from recurrax.layers.layer import Layer
from recurrax.random import SeedGenerator


class GatedCell(DropoutRNNCell, Layer):
    """Base of the built-in cells: `z = x W + h U + b`, cut into gates of `units` features.

    Args:
        units: features of the state and of the output, positive.
        activation: of the candidate.
        use_bias: whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: initial weights.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties on the weights.
        kernel_constraint, recurrent_constraint, bias_constraint: applied after each update.
        dropout: share of the input's features dropped, the same ones at every step.
        recurrent_dropout: share of the state's features dropped, the same ones at every step; with
            it, as in Keras, each gate drops features of its own, of the input too.
        seed: of the dropout.

    Raises:
        ValueError: `units` not positive, a rate outside [0, 1], an unknown name.
    """

    gates = 1
    feature_axis = -1
    default_name = ""

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("implementation", None)
        super().__init__(**kwargs)
        self.units = positive_int(units, "units", type(self).__name__)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout = rate(dropout, "dropout", type(self).__name__)
        self.recurrent_dropout = rate(recurrent_dropout, "recurrent_dropout", type(self).__name__)
        self.seed = seed
        if self.dropout or self.recurrent_dropout:
            self.seed_generator = SeedGenerator(seed)
        if self.recurrent_dropout and self.gates > 1:
            self.dropout_mask_count = self.gates
        self.state_size: int | list[int] = self.units
        self.output_size = self.units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        kernel_shape, recurrent_shape = self.kernel_shapes(input_shape)
        self.kernel = self.add_weight(
            kernel_shape,
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.recurrent_kernel = self.add_weight(
            recurrent_shape,
            self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
            name="recurrent_kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                self.bias_shape(),
                self.initialize_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )

    def kernel_shapes(self, input_shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the kernel and of the recurrent kernel."""
        width = self.gates * self.units
        return (_features(input_shape, self), width), (self.units, width)

    def bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def initialize_bias(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.bias_initializer(shape, dtype)

    def input_product(self, x: Array, kernel: Array) -> Array:
        """`x W`."""
        return jnp.matmul(x, kernel)

    def state_product(self, h: Array, kernel: Array) -> Array:
        """`h U`."""
        return jnp.matmul(h, kernel)

    def project_input(self, x: Array, masks: Any = None) -> Array:
        """`x W + b`, of the features that dropout left."""
        projected = self.by_gate(self.input_product, x, self.kernel.value, masks)
        return projected if self.bias is None else projected + self.bias.value

    def project_state(self, h: Array, masks: Any = None) -> Array:
        """`h U`, of the features that dropout left."""
        return self.by_gate(self.state_product, h, self.recurrent_kernel.value, masks)

    def by_gate(self, product: Any, x: Array, kernel: Array, masks: Any) -> Array:
        """One product for all gates, or, where each has a mask of its own, one for each."""
        if not isinstance(masks, list):
            return product(x if masks is None else x * masks, kernel)
        kernels = jnp.split(kernel, len(masks), axis=-1)
        parts = [product(x * mask, k) for mask, k in zip(masks, kernels, strict=True)]
        return jnp.concatenate(parts, axis=self.feature_axis)

    def masks(self, x: Array, h: Array, training: bool) -> tuple[Any, Any]:
        """Dropout masks of the input and of the state; None where nothing is dropped."""
        if not training:
            return None, None
        return self.get_dropout_mask(x), self.get_recurrent_dropout_mask(h)

    def get_initial_state(
        self, batch_size: Any = None, inputs: Any = None, dtype: Any = None
    ) -> list[Array]:
        """Zeros of shape (batch, units), one for each state.

        Args:
            batch_size: number of samples.
            inputs: an array whose first size is the batch's, in place of `batch_size`.
            dtype: data type; the compute dtype where None.
        """
        batch_size = batch_of(batch_size, inputs)
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [jnp.zeros((batch_size, size), dtype or self.compute_dtype) for size in sizes]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.to_config(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": self.kernel_initializer,
            "recurrent_initializer": self.recurrent_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": self.kernel_regularizer,
            "recurrent_regularizer": self.recurrent_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "recurrent_constraint": self.recurrent_constraint,
            "bias_constraint": self.bias_constraint,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }


def batch_of(batch_size: Any, inputs: Any) -> Any:
    """The number of samples, given as such or by an array of them."""
    given = inputs if batch_size is None else batch_size
    if given is None:
        raise ValueError("get_initial_state expected batch_size, such as batch_size=32.")
    if export.is_symbolic_dim(given):
        return given
    return int(given) if jnp.ndim(given) == 0 else jnp.shape(given)[0]


def like_given(given: Any, states: list[Array]) -> Any:
    """New states as the old ones came: a bare array for a bare array."""
    return states if isinstance(given, list | tuple) else states[0]


def _features(shape: tuple[int | None, ...], cell: Layer) -> int:
    features = shape[-1]
    if features is None:
        raise ValueError(
            f"{type(cell).__name__} {cell.name!r} needs to know the number of input features, but "
            f"the input has shape {shape}: give the model an Input whose last axis has a size."
        )
    return features
