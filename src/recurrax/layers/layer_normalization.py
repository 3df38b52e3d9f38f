"""`LayerNormalization`: each sample's features with mean 0 and variance 1."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax import constraints, initializers, regularizers
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class LayerNormalization(Layer):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` over `axis` (arXiv:1607.06450).

    Weights: `gamma` (features,), `beta` (features,).

    Args:
        axis: the axis or axes to normalise over.
        epsilon: keeps the division finite.
        center: whether there is a `beta`.
        scale: whether there is a `gamma`.
        beta_initializer, gamma_initializer: initial weights.
        beta_regularizer, gamma_regularizer: penalties on the weights.
        beta_constraint, gamma_constraint: applied after each update.
    """

    supports_masking = True

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("rms_scaling", False):
            raise ValueError("LayerNormalization does not take rms_scaling=True: leave it out.")
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, list | tuple) else int(axis)  # pyright: ignore
        self.epsilon = epsilon
        self.center, self.scale = center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.autocast = False

    def _axes(self, rank: int) -> list[int]:
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        if any(not -rank <= axis < rank for axis in axes):
            raise ValueError(
                f"LayerNormalization {self.name!r} normalises over axis {self.axis}, but its "
                f"input has {rank} axes."
            )
        return sorted(axis % rank for axis in axes)

    def build(self, input_shape: Any) -> None:
        shape = [input_shape[axis] for axis in self._axes(len(input_shape))]
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                shape,
                self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
                name="gamma",
            )
        if self.center:
            self.beta = self.add_weight(
                shape,
                self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
                name="beta",
            )

    def call(self, inputs: Array) -> Array:
        axes = self._axes(inputs.ndim)
        x = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        mean = x.mean(axis=axes, keepdims=True)
        variance = jnp.square(x - mean).mean(axis=axes, keepdims=True)
        x = (x - mean) * jax.lax.rsqrt(variance + self.epsilon)
        shape = [size if axis in axes else 1 for axis, size in enumerate(inputs.shape)]
        if self.gamma is not None:
            x = x * self.gamma.value.reshape(shape)
        if self.beta is not None:
            x = x + self.beta.value.reshape(shape)
        return x.astype(self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        self._axes(len(input_shape))
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": self.beta_initializer,
            "gamma_initializer": self.gamma_initializer,
            "beta_regularizer": self.beta_regularizer,
            "gamma_regularizer": self.gamma_regularizer,
            "beta_constraint": self.beta_constraint,
            "gamma_constraint": self.gamma_constraint,
        }
