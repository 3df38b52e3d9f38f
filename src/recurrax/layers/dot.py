"""`Dot`: products of two inputs along one axis of each."""

import string
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers.layer import Layer
from recurrax.registry import serializable


@serializable("keras.layers")
class Dot(Layer):
    """For each sample, the sum of products along an axis of each of two inputs.

    Args:
        axes: the axis, or a pair of them; not that of the batch.
        normalize: whether to scale both inputs to norm 1 along it, for the cosine.

    Raises:
        ValueError: no two inputs, or axes of different sizes.
    """

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes = axes if isinstance(axes, int) else tuple(axes)
        self.normalize = normalize

    def _sides(self, shapes: Any) -> tuple[int, int]:
        if not isinstance(shapes, list | tuple) or len(shapes) != 2:
            raise ValueError(f"Dot {self.name!r} expected two inputs, but got {shapes}.")
        left, right = [self.axes] * 2 if isinstance(self.axes, int) else self.axes
        left, right = left % len(shapes[0]), right % len(shapes[1])
        a, b = shapes[0][left], shapes[1][right]
        if 0 in (left, right) or (None not in (a, b) and a != b):
            raise ValueError(
                f"Dot {self.name!r} expected inputs whose axes {self.axes} have one size, but got "
                f"shapes {tuple(shapes[0])} and {tuple(shapes[1])}."
            )
        return left, right

    def call(self, inputs: Any) -> Array:
        left, right = self._sides([x.shape for x in inputs])
        x, y = inputs
        if self.normalize:
            x = x / jnp.maximum(jnp.linalg.norm(x, axis=left, keepdims=True), 1e-12)
            y = y / jnp.maximum(jnp.linalg.norm(y, axis=right, keepdims=True), 1e-12)
        a, letters = "a", iter(string.ascii_lowercase[2:])
        first = [a] + ["b" if axis == left else next(letters) for axis in range(1, x.ndim)]
        second = [a] + ["b" if axis == right else next(letters) for axis in range(1, y.ndim)]
        kept = [a] + [letter for letter in first[1:] + second[1:] if letter != "b"]
        result = jnp.einsum(f"{''.join(first)},{''.join(second)}->{''.join(kept)}", x, y)
        return result[:, None] if result.ndim == 1 else result

    def compute_output_shape(self, input_shape: Any) -> Any:
        left, right = self._sides(input_shape)
        x, y = input_shape
        shape = [s for axis, s in enumerate(x) if axis != left]
        shape += [s for axis, s in enumerate(y) if axis not in (0, right)]
        return (*shape, 1) if len(shape) == 1 else tuple(shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axes": self.axes, "normalize": self.normalize}


def dot(inputs: Sequence[Any], axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """`Dot(axes, **kwargs)(inputs)`."""
    return Dot(axes, **kwargs)(inputs)
