"""Convolutions of all steps together: time and batch are one axis of images."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap

from recurrax.loop.compat import JaxprEqn
from recurrax.loop.flat import flat, stacked


def is_one(eqn: JaxprEqn) -> bool:
    """Whether `eqn` convolves images, each of a batch by itself."""
    return eqn.primitive.name == "conv_general_dilated" and eqn.params["batch_group_count"] == 1


def convolved(eqn: JaxprEqn, images: Array, weight: Array) -> Array:
    """`eqn` of its operands, as `jax.vmap` over the steps has it."""
    numbers = eqn.params["dimension_numbers"]

    @custom_vmap
    def convolve(images: Array, weight: Array) -> Array:
        return eqn.primitive.bind(images, weight, **eqn.params)

    @convolve.def_vmap
    def _(steps: int, batched: list[bool], images: Array, weight: Array) -> tuple[Array, bool]:
        if batched != [True, False]:
            axes = tuple(0 if b else None for b in batched)
            plain = functools.partial(eqn.primitive.bind, **eqn.params)
            return jax.vmap(plain, in_axes=axes, axis_size=steps)(images, weight), True
        axis = numbers.lhs_spec[0]
        given = jnp.moveaxis(flat(jnp.moveaxis(images, axis + 1, 1)), 0, axis)
        made = eqn.primitive.bind(given, weight, **eqn.params)
        axis = numbers.out_spec[0]
        made = stacked(jnp.moveaxis(made, axis, 0), steps)
        return jnp.moveaxis(made, 1, axis + 1), True

    return convolve(images, weight)
