"""`Concatenate`: inputs one after the other along an axis."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers.merge import Merge, with_axes
from recurrax.registry import serializable


@serializable("keras.layers")
class Concatenate(Merge):
    """Inputs one after the other along `axis`; all other sizes are equal.

    Along time their masks come one after the other too; along features a step is masked if it is
    so in all of them. An input without a mask counts as all real.

    Args:
        axis: the axis, not that of the batch.

    Raises:
        ValueError: no list of inputs, or shapes that differ elsewhere.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def _checked(self, shapes: Any) -> list[tuple[int | None, ...]]:
        shapes = super()._checked(shapes)
        rank = len(shapes[0])
        axis = self.axis % rank
        rest = [shape[:axis] + shape[axis + 1 :] for shape in shapes]
        fit = all(len(shape) == rank for shape in shapes) and all(
            len({size for size in sizes if size is not None}) <= 1
            for sizes in zip(*rest, strict=True)
        )
        if not fit:
            raise ValueError(
                f"Concatenate {self.name!r} expected inputs whose shapes are equal but for axis "
                f"{self.axis}, but got {shapes}."
            )
        return shapes

    def call(self, inputs: Any) -> Array:
        self._checked([x.shape for x in inputs])
        return jnp.concatenate(inputs, axis=self.axis)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = self._checked(input_shape)
        axis = self.axis % len(shapes[0])
        sizes = [size for shape in shapes if (size := shape[axis]) is not None]
        total = sum(sizes) if len(sizes) == len(shapes) else None
        joint = [next((s for s in ss if s is not None), None) for ss in zip(*shapes, strict=True)]
        return (*joint[:axis], total, *joint[axis + 1 :])

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        masks = list(mask or ())
        given = [m for m in masks if m is not None]
        if not given:
            return None
        rank = max(m.ndim for m in given)
        masks = [
            jnp.ones(x.shape[:rank], bool)
            if m is None
            else jnp.broadcast_to(with_axes(m, rank), x.shape[:rank])
            for x, m in zip(inputs, masks, strict=True)
        ]
        axis = self.axis % inputs[0].ndim
        return (
            jnp.concatenate(masks, axis) if axis < rank else functools.reduce(jnp.logical_or, masks)
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """`Concatenate(axis, **kwargs)(inputs)`."""
    return Concatenate(axis, **kwargs)(inputs)
