"""Layers that merge several inputs, all of one shape, into one."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.layers.layer import Layer
from recurrax.layers.mask import get_mask
from recurrax.layers.shapes import is_shape
from recurrax.registry import serializable


class Merge(Layer):
    """Base of the layers that merge a list of inputs element by element.

    Shapes broadcast as in NumPy, but for inputs of fewer axes: they are taken to lack axes after
    the batch, as (batch, features) beside (batch, timesteps, features).

    Where every input has a mask, a step of the result is masked if it is so in all of them.

    Raises:
        ValueError: no list of at least one input (two for most), or shapes that do not fit.
    """

    supports_masking = True
    fewest = 1

    def build(self, input_shape: Any = None) -> None:
        self._checked(input_shape)

    def _checked(self, shapes: Any) -> list[tuple[int | None, ...]]:
        if is_shape(shapes) or len(shapes) < self.fewest:
            raise ValueError(
                f"Layer {self.name!r} ({type(self).__name__}) expected a list of at least "
                f"{self.fewest} inputs, but got {shapes}: call it on [a, b]."
            )
        return [tuple(shape) for shape in shapes]

    def merge(self, inputs: Sequence[Array], kept: Sequence[Array | None]) -> Array:
        """The inputs as one; `kept` has the mask of each, with as many axes as the input."""
        raise NotImplementedError(f"{type(self).__name__} defines no merge(inputs, kept).")

    def call(self, inputs: Any) -> Array:
        self._checked([x.shape for x in inputs])
        rank = max(x.ndim for x in inputs)
        padded = [x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:]) for x in inputs]
        # The mask of an input of fewer axes is over other axes than those of the result.
        masks = [get_mask(x) if x.ndim == rank else None for x in inputs]
        return self.merge(padded, [None if m is None else with_axes(m, rank) for m in masks])

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = self._checked(input_shape)
        rank = max(len(shape) for shape in shapes)
        padded = [(s[0], *(1,) * (rank - len(s)), *s[1:]) for s in shapes]
        return tuple(_joint(sizes, shapes, self) for sizes in zip(*padded, strict=True))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        masks = [m for m in mask or () if m is not None]
        if not masks or len(masks) < len(inputs):
            return None
        return functools.reduce(jnp.logical_or, masks)


def with_axes(mask: Any, rank: int) -> Array:
    """The mask with axes of size 1 at its end, `rank` axes in all."""
    return jnp.asarray(mask, bool).reshape(mask.shape + (1,) * (rank - mask.ndim))


def _joint(sizes: Sequence[int | None], shapes: Any, layer: Layer) -> int | None:
    known = {size for size in sizes if size not in (1, None)}
    if len(known) > 1:
        raise ValueError(
            f"Layer {layer.name!r} ({type(layer).__name__}) expected inputs whose shapes fit, but "
            f"got {shapes}: sizes are equal or 1."
        )
    if known:
        return known.pop()
    return None if None in sizes else 1


@serializable("keras.layers")
class Add(Merge):
    """The sum of the inputs."""

    def merge(self, inputs: Sequence[Array], kept: Sequence[Array | None]) -> Array:
        return functools.reduce(jnp.add, inputs)


@serializable("keras.layers")
class Multiply(Merge):
    """The product of the inputs, element by element; masked steps are left out of it.

    Where every input has a mask, the product is 0 at steps that are masked in all of them.
    """

    def merge(self, inputs: Sequence[Array], kept: Sequence[Array | None]) -> Array:
        factors = [
            x if m is None else jnp.where(m, x, jnp.ones((), x.dtype))
            for x, m in zip(inputs, kept, strict=True)
        ]
        product = functools.reduce(jnp.multiply, factors)
        masks = [m for m in kept if m is not None]
        if len(masks) < len(inputs):
            return product
        return jnp.where(functools.reduce(jnp.logical_or, masks), product, 0)


@serializable("keras.layers")
class Average(Merge):
    """The mean of the inputs, element by element."""

    def merge(self, inputs: Sequence[Array], kept: Sequence[Array | None]) -> Array:
        return functools.reduce(jnp.add, inputs) / len(inputs)


@serializable("keras.layers")
class Maximum(Merge):
    """The greatest of the inputs, element by element; masked steps do not count."""

    def merge(self, inputs: Sequence[Array], kept: Sequence[Array | None]) -> Array:
        return _extreme(jnp.maximum, inputs, kept)


@serializable("keras.layers")
class Minimum(Merge):
    """The smallest of the inputs, element by element; masked steps do not count."""

    def merge(self, inputs: Sequence[Array], kept: Sequence[Array | None]) -> Array:
        return _extreme(jnp.minimum, inputs, kept)


@serializable("keras.layers")
class Subtract(Merge):
    """The first of two inputs less the second."""

    fewest = 2

    def _checked(self, shapes: Any) -> list[tuple[int | None, ...]]:
        if len(shapes) != 2:
            raise ValueError(f"Subtract {self.name!r} expected two inputs, but got {len(shapes)}.")
        return super()._checked(shapes)

    def merge(self, inputs: Sequence[Array], kept: Sequence[Array | None]) -> Array:
        return inputs[0] - inputs[1]


def _extreme(
    choose: Callable[[Array, Array], Array], inputs: Sequence[Array], kept: Sequence[Array | None]
) -> Array:
    """`choose` of all inputs; a masked entry is that of its partner, as in Keras from the left."""
    found, known = inputs[0], kept[0]
    for x, mask in zip(inputs[1:], kept[1:], strict=True):
        x = x if mask is None else jnp.where(mask, x, found)
        found = found if known is None else jnp.where(known, found, x)
        known = None if known is None or mask is None else known | mask
        found = choose(found, x)
    return found


def _function(cls: type[Merge]) -> Callable[..., Any]:
    def apply(inputs: Sequence[Any], **kwargs: Any) -> Any:
        return cls(**kwargs)(inputs)

    apply.__doc__ = f"`{cls.__name__}(**kwargs)(inputs)`."
    apply.__name__ = cls.__name__.lower()
    return apply


add, multiply, average = _function(Add), _function(Multiply), _function(Average)
maximum, minimum, subtract = _function(Maximum), _function(Minimum), _function(Subtract)
