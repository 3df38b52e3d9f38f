"""Activation functions with arguments, as layers."""

from typing import Any

from jax import Array

from recurrax import activations
from recurrax.layers.layer import Layer
from recurrax.registry import serializable
from recurrax.regularizers import L1L2


class Elementwise(Layer):
    """Base of layers that keep the shape of their input."""

    supports_masking = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)


@serializable("keras.layers")
class Identity(Elementwise):
    """Returns its input."""

    def call(self, inputs: Any) -> Any:
        return inputs


@serializable("keras.layers")
class ReLU(Elementwise):
    """`max(x, 0)`, with arguments those of `activations.relu`."""

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_value, self.negative_slope = max_value, negative_slope
        self.threshold = threshold

    def call(self, inputs: Array) -> Array:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
            "threshold": self.threshold,
        }


@serializable("keras.layers")
class LeakyReLU(Elementwise):
    """`x` above 0, `negative_slope * x` below."""

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)  # its name in Keras 2
        super().__init__(**kwargs)
        self.negative_slope = negative_slope

    def call(self, inputs: Array) -> Array:
        return activations.leaky_relu(inputs, self.negative_slope)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative_slope": self.negative_slope}


@serializable("keras.layers")
class ELU(Elementwise):
    """`x` above 0, `alpha * (exp(x) - 1)` below."""

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: Array) -> Array:
        return activations.elu(inputs, self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


@serializable("keras.layers")
class Softmax(Elementwise):
    """`exp(x) / sum(exp(x))` along `axis`."""

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Array) -> Array:
        return activations.softmax(inputs, self.axis)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}


@serializable("keras.layers")
class ActivityRegularization(Elementwise):
    """Returns its input and adds `l1 * sum(|x|) + l2 * sum(x²)` to the loss."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=L1L2(l1=l1, l2=l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def call(self, inputs: Array) -> Array:
        return inputs

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("activity_regularizer", None)
        return {**config, "l1": self.l1, "l2": self.l2}
