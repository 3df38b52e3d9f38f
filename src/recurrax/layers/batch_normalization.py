"""`BatchNormalization`: each feature with mean 0 and variance 1 over the batch."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax import constraints, initializers, regularizers
from recurrax.layers.input_spec import InputSpec
from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class BatchNormalization(Layer):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, feature by feature
    (arXiv:1502.03167).

    In training, mean and variance are those of the batch (of its unmasked steps), and moving
    averages of them are kept; else they are these averages. A layer with `trainable=False` uses the
    averages in training too.

    Weights: `gamma`, `beta`, and, not trained, `moving_mean`, `moving_variance`, all (features,).

    Args:
        axis: the axis of the features.
        momentum: of the moving averages: `average * momentum + batch * (1 - momentum)`.
        epsilon: keeps the division finite.
        center: whether there is a `beta`.
        scale: whether there is a `gamma`.
        beta_initializer, gamma_initializer: initial weights.
        moving_mean_initializer, moving_variance_initializer: initial averages.
        beta_regularizer, gamma_regularizer: penalties on the weights.
        beta_constraint, gamma_constraint: applied after each update.
    """

    supports_masking = True
    mixes_batch = True

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        for name in ("synchronized", "renorm"):
            if kwargs.pop(name, False):
                raise ValueError(f"BatchNormalization does not take {name}=True: leave it out.")
        kwargs.pop("renorm_clipping", None)
        kwargs.pop("renorm_momentum", None)
        super().__init__(**kwargs)
        self.axis = int(axis)
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.center, self.scale = center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[self.axis],)
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
        self.moving_mean = self.add_weight(
            shape,
            self.moving_mean_initializer,
            trainable=False,
            autocast=False,
            name="moving_mean",
        )
        self.moving_variance = self.add_weight(
            shape,
            self.moving_variance_initializer,
            trainable=False,
            autocast=False,
            name="moving_variance",
        )
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: shape[0]})

    def call(self, inputs: Array, training: bool = False, mask: Any = None) -> Array:
        x = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        if training and self.trainable:
            mean, variance = self._moments(x, mask)
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving.value * self.momentum + now * (1 - self.momentum))
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
        shape = [1] * x.ndim
        shape[self.axis] = x.shape[self.axis]
        factor = jax.lax.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            factor = factor * self.gamma.value
        x = (x - mean.reshape(shape)) * factor.reshape(shape)
        if self.beta is not None:
            x = x + self.beta.value.reshape(shape)
        return x.astype(self.compute_dtype)

    def _moments(self, x: Array, mask: Any) -> tuple[Array, Array]:
        axes = [axis for axis in range(x.ndim) if axis != self.axis % x.ndim]
        if mask is None:
            return x.mean(axis=axes), x.var(axis=axes)
        if mask.ndim != x.ndim - 1:
            raise ValueError(
                f"BatchNormalization {self.name!r} expected a mask of one axis less than its "
                f"input of shape {x.shape}, but got {mask.shape}."
            )
        where = jnp.broadcast_to(mask.astype(bool)[..., None], x.shape)
        # As Keras: the small number keeps a batch with nothing in it finite.
        count = where.astype(x.dtype).sum(axis=axes, keepdims=True) + 1e-7
        mean = jnp.where(where, x, 0).sum(axis=axes, keepdims=True) / count
        squares = jnp.square(jnp.where(where, x - mean, 0)).sum(axis=axes, keepdims=True)
        return mean.reshape(-1), (squares / count).reshape(-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": self.beta_initializer,
            "gamma_initializer": self.gamma_initializer,
            "moving_mean_initializer": self.moving_mean_initializer,
            "moving_variance_initializer": self.moving_variance_initializer,
            "beta_regularizer": self.beta_regularizer,
            "gamma_regularizer": self.gamma_regularizer,
            "beta_constraint": self.beta_constraint,
            "gamma_constraint": self.gamma_constraint,
        }
