"""Activations, normalisations and encodings."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.ops.dispatch import binary, op

_EPSILON = 1e-7


def _leaky_relu(x: Any, negative_slope: float = 0.2) -> Array:
    """`x` above 0, `negative_slope * x` below."""
    return jax.nn.leaky_relu(x, negative_slope)


def _softmax(x: Any, axis: Any = -1) -> Array:
    """`exp(x) / sum(exp(x))` along `axis`."""
    return jax.nn.softmax(x, axis=axis)


def _log_softmax(x: Any, axis: Any = -1) -> Array:
    """`log(softmax(x))` along `axis`."""
    return jax.nn.log_softmax(x, axis=axis)


def _gelu(x: Any, approximate: bool = True) -> Array:
    """`x * P(X <= x)` for a standard normal X."""
    return jax.nn.gelu(x, approximate=approximate)


def _one_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Array:
    """Integers as vectors of length `num_classes` with a single 1, along a new `axis`."""
    del sparse
    return jax.nn.one_hot(x, num_classes, axis=axis, dtype=dtype or jnp.float32)


def _multi_hot(
    inputs: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Array:
    """Rows of integers as vectors of length `num_classes` with a 1 for each integer in the row."""
    del sparse
    inputs = jnp.asarray(inputs)
    reduced = 1 if inputs.ndim > 1 else 0
    hot = jax.nn.one_hot(inputs, num_classes, axis=axis, dtype=dtype or jnp.float32)
    return jnp.max(hot, axis=reduced)


def _moments(
    x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False
) -> tuple[Array, Array]:
    """Mean and variance over `axes`."""
    del synchronized
    axes = tuple(axes) if isinstance(axes, Sequence) else axes
    return jnp.mean(x, axes, keepdims=keepdims), jnp.var(x, axes, keepdims=keepdims)


def _normalize(x: Any, axis: int = -1, order: Any = 2, epsilon: float | None = None) -> Array:
    """`x` scaled to norm 1 along `axis`."""
    norm = jnp.linalg.norm(jnp.atleast_1d(x), ord=order, axis=axis, keepdims=True)
    return x / jnp.maximum(norm, _EPSILON if epsilon is None else epsilon)


def _targets(output: Any, from_logits: bool, axis: int) -> Array:
    if from_logits:
        return jax.nn.log_softmax(output, axis=axis)
    output = output / jnp.sum(output, axis=axis, keepdims=True)
    return jnp.log(jnp.clip(output, _EPSILON, 1.0 - _EPSILON))


def categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Array:
    """`-sum(target * log(output))` along `axis`, of shape `output.shape` less that axis."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    if target.shape != output.shape:
        raise ValueError(
            f"target has shape {target.shape} and output {output.shape}: they must be equal. For "
            "integer classes use sparse_categorical_crossentropy."
        )
    return -jnp.sum(target * _targets(output, from_logits, axis), axis=axis)


def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Array:
    """`-log(output[target])` along `axis`; `target` holds integers, of `output`'s shape less it."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = jnp.squeeze(target, axis=-1)
    classes = tuple(np.delete(np.asarray(output.shape, int), axis).tolist())
    if output.ndim < 1 or target.shape != classes:
        raise ValueError(
            f"target has shape {target.shape} and output {output.shape}: target's must be "
            f"{classes}, integers along axis {axis} of output. For one-hot vectors use "
            "categorical_crossentropy."
        )
    one_hot = jax.nn.one_hot(target.astype("int32"), output.shape[axis], axis=axis)
    return -jnp.sum(one_hot * _targets(output, from_logits, axis), axis=axis)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Array:
    """`-(target * log(output) + (1 - target) * log(1 - output))`, elementwise."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    if target.shape != output.shape:
        raise ValueError(
            f"target has shape {target.shape} and output {output.shape}: they must be equal."
        )
    if from_logits:
        # log(sigmoid(x)) and log(1 - sigmoid(x)) without overflow.
        yes, no = jax.nn.log_sigmoid(output), jax.nn.log_sigmoid(-output)
    else:
        output = jnp.clip(output, _EPSILON, 1.0 - _EPSILON)
        yes, no = jnp.log(output), jnp.log(1.0 - output)
    return -(target * yes + (1.0 - target) * no)


celu = op(jax.nn.celu)
elu = op(jax.nn.elu)
gelu = op(_gelu)
hard_sigmoid = op(jax.nn.hard_sigmoid)
hard_silu = hard_swish = op(jax.nn.hard_silu)
hard_tanh = op(jax.nn.hard_tanh)
leaky_relu = op(_leaky_relu)
log_sigmoid = op(jax.nn.log_sigmoid)
log_softmax = op(_log_softmax)
mish = op(jax.nn.mish)
moments = op(_moments)
multi_hot = op(_multi_hot)
normalize = op(_normalize)
one_hot = op(_one_hot)
relu = op(jax.nn.relu)
relu6 = op(jax.nn.relu6)
selu = op(jax.nn.selu)
sigmoid = op(jax.nn.sigmoid)
silu = swish = op(jax.nn.silu)
softmax = op(_softmax)
softplus = op(jax.nn.softplus)
softsign = op(jax.nn.soft_sign)
tanh = op(jnp.tanh)
categorical_crossentropy = binary(categorical_crossentropy)
sparse_categorical_crossentropy = binary(sparse_categorical_crossentropy)
binary_crossentropy = binary(binary_crossentropy)
