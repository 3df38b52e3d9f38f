"""Activation functions, elementwise but for the softmax family: shape in, same shape out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from recurrax.registry import deserialize as _deserialize
from recurrax.registry import get_registered_object, is_record, serialize, unknown_name


def linear(x: ArrayLike) -> ArrayLike:
    """`x`."""
    return x


def relu(
    x: ArrayLike,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> Array:
    """`max(x, 0)`, or with arguments: `negative_slope * (x - threshold)` below `threshold`."""
    if negative_slope == 0.0 and threshold == 0.0:
        positive = jax.nn.relu(x)
        return positive if max_value is None else jnp.minimum(positive, max_value)
    x = jnp.asarray(x)
    positive = x if max_value is None else jnp.minimum(x, max_value)
    return jnp.where(x >= threshold, positive, negative_slope * (x - threshold))


def leaky_relu(x: ArrayLike, negative_slope: float = 0.2) -> Array:
    """`x` above 0, `negative_slope * x` below."""
    return jax.nn.leaky_relu(x, negative_slope)


def sigmoid(x: ArrayLike) -> Array:
    """`1 / (1 + exp(-x))`."""
    return jax.nn.sigmoid(x)


def tanh(x: ArrayLike) -> Array:
    """`(exp(x) - exp(-x)) / (exp(x) + exp(-x))`."""
    return jnp.tanh(x)


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """`exp(x) / sum(exp(x))` along `axis`."""
    return jax.nn.softmax(x, axis=axis)


def log_softmax(x: ArrayLike, axis: int = -1) -> Array:
    """`log(softmax(x))` along `axis`."""
    return jax.nn.log_softmax(x, axis=axis)


def elu(x: ArrayLike, alpha: float = 1.0) -> Array:
    """`x` above 0, `alpha * (exp(x) - 1)` below (arXiv:1511.07289)."""
    return jax.nn.elu(x, alpha)


def celu(x: ArrayLike, alpha: float = 1.0) -> Array:
    """`x` above 0, `alpha * (exp(x / alpha) - 1)` below (arXiv:1704.07483)."""
    return jax.nn.celu(x, alpha)


def selu(x: ArrayLike) -> Array:
    """The self-normalising `scale * elu(x, alpha)` (arXiv:1706.02515)."""
    return jax.nn.selu(x)


def gelu(x: ArrayLike, approximate: bool = False) -> Array:
    """`x * P(X <= x)` for a standard normal X (arXiv:1606.08415)."""
    return jax.nn.gelu(x, approximate=approximate)


def silu(x: ArrayLike) -> Array:
    """`x * sigmoid(x)` (arXiv:1702.03118); also known as swish."""
    return jax.nn.silu(x)


def mish(x: ArrayLike) -> Array:
    """`x * tanh(softplus(x))` (arXiv:1908.08681)."""
    return jax.nn.mish(x)


def softplus(x: ArrayLike) -> Array:
    """`log(1 + exp(x))`."""
    return jax.nn.softplus(x)


def softsign(x: ArrayLike) -> Array:
    """`x / (1 + |x|)`."""
    return jax.nn.soft_sign(x)


def hard_sigmoid(x: ArrayLike) -> Array:
    """`relu6(x + 3) / 6`."""
    return jax.nn.hard_sigmoid(x)


def hard_silu(x: ArrayLike) -> Array:
    """`x * hard_sigmoid(x)` (arXiv:1905.02244); also known as hard_swish."""
    return jax.nn.hard_silu(x)


def hard_tanh(x: ArrayLike) -> Array:
    """`x` clipped to [-1, 1]."""
    return jax.nn.hard_tanh(x)


def relu6(x: ArrayLike) -> Array:
    """`min(max(x, 0), 6)`."""
    return jax.nn.relu6(x)


def exponential(x: ArrayLike) -> Array:
    """`exp(x)`."""
    return jnp.exp(x)


def log_sigmoid(x: ArrayLike) -> Array:
    """`log(sigmoid(x))`."""
    return jax.nn.log_sigmoid(x)


swish, hard_swish = silu, hard_silu

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(linear, relu, leaky_relu, sigmoid, tanh, softmax, log_softmax, elu, celu, selu, gelu),
        *(silu, mish, softplus, softsign, hard_sigmoid, hard_silu, hard_tanh, relu6),
        *(exponential, log_sigmoid),
    )
} | {"swish": silu, "hard_swish": hard_silu}


def get(identifier: Any) -> Callable[..., Any]:
    """The activation that a name, a function, a configuration or None (linear) stands for.

    Raises:
        ValueError: an unknown name; the message gives the nearest.
    """
    if identifier is None:
        return linear
    if callable(identifier):
        return identifier
    if is_record(identifier):
        return _deserialize(identifier)
    if isinstance(identifier, str):
        found = get_registered_object(identifier) or _FUNCTIONS.get(identifier)
        if found is not None:
            return found() if isinstance(found, type) else found
    raise unknown_name("activation", identifier, _FUNCTIONS)


def to_config(activation: Callable[..., Any]) -> Any:
    """The name of one of ours, else a configuration."""
    name = getattr(activation, "__name__", "")
    return name if _FUNCTIONS.get(name) is activation else serialize(activation)
