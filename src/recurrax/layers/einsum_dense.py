"""`EinsumDense`: a product of any axes."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax import activations, constraints, initializers, regularizers
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class EinsumDense(Layer):
    """`activation(einsum(equation, x, kernel) + bias)`.

    Weights: `kernel`, `bias`, of the shapes that the equation says.

    Args:
        equation: such as `"abc,cd->abd"`: the letters of input, kernel and output; `...` may
            stand for the first axes of input and output.
        output_shape: sizes of the output without the batch (and without `...`), None where the
            input says them.
        activation: name or function; None for none.
        bias_axes: letters of the output along which the bias varies; None for no bias.
        kernel_initializer, bias_initializer: initial weights.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the output.
        kernel_constraint, bias_constraint: applied after each update.

    Raises:
        ValueError: an equation that does not say all sizes.
    """

    supports_masking = True

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.equation = equation.replace(" ", "")
        sizes = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.partial_output_shape = sizes
        self.bias_axes = bias_axes
        self.activation = activations.get(activation)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape: Any) -> None:
        operands, output = self.equation.split("->")
        given, kernel = operands.split(",")
        inner = given.removeprefix("...")
        sizes = dict(zip(inner, tuple(input_shape)[-len(inner) :], strict=True))
        ending = output.removeprefix("...")
        for letter, size in zip(
            reversed(ending), reversed(self.partial_output_shape), strict=False
        ):
            if size is not None:
                sizes[letter] = size
        unknown = [letter for letter in kernel if sizes.get(letter) is None]
        if unknown:
            raise ValueError(
                f"EinsumDense {self.name!r} with equation {self.equation!r} does not know the "
                f"sizes of {unknown} for an input of shape {tuple(input_shape)}: give them in "
                "output_shape."
            )
        self.kernel = self.add_weight(
            [sizes[letter] for letter in kernel],  # pyright: ignore[reportArgumentType]
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if self.bias_axes:
            first = min(ending.index(letter) for letter in self.bias_axes)
            varying = [sizes[x] if x in self.bias_axes else 1 for x in ending[first:]]
            self.bias = self.add_weight(
                varying,  # pyright: ignore[reportArgumentType]
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )

    def call(self, inputs: Array) -> Array:
        x = jnp.einsum(self.equation, inputs, self.kernel.value)
        if self.bias is not None:
            x = x + self.bias.value
        return self.activation(x)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "equation": self.equation,
            "output_shape": self.partial_output_shape,
            "activation": activations.to_config(self.activation),
            "bias_axes": self.bias_axes,
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "activity_regularizer": self.activity_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "bias_constraint": self.bias_constraint,
        }
