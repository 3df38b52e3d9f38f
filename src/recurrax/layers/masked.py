"""Masks over time: where False, a step is skipped and its sample keeps state and output."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def one_mask(mask: Any) -> Array | None:
    """The first mask of a structure; None where there is none."""
    leaves = jax.tree.leaves(mask)
    return leaves[0] if leaves else None


def check_mask(mask: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError where a mask is not boolean-like of shape (batch, timesteps)."""
    if mask is None:
        return
    head = f"Layer {name!r} expected a mask of shape (batch, timesteps) = {tuple(shape)}, but got "
    if not hasattr(mask, "shape"):
        raise ValueError(f"{head}no array: pass np.asarray(mask).")
    if tuple(mask.shape) != tuple(shape):
        raise ValueError(
            f"{head}shape {tuple(mask.shape)}: pass one boolean for each step of each sample."
        )


def select(mask: Array, new: Array, old: Array) -> Array:
    """`new` where `mask` (batch,) is True, else `old`; both (batch, ...)."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)


def fill_masked(x: Array, mask: Array) -> Array:
    """`x` with 1 at masked steps, where fewer cells are undefined than at 0.

    What a step gives there is thrown away, but a NaN or an infinity in it makes the gradients of
    the weights NaN (0 times NaN).

    Args:
        x: (batch, timesteps, ...); all but floating-point numbers stay as they are.
        mask: boolean (batch, timesteps).
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, 1)


def seen(mask: Array, reverse: bool) -> Array:
    """Whether a sample had an unmasked step up to each one; `mask` is (batch, timesteps)."""
    return jax.lax.cummax(mask.astype(jnp.int32), axis=1, reverse=reverse).astype(bool)


def carry_forward(ys: Array, mask: Array, reverse: bool) -> Array:
    """At masked steps the output of the last unmasked one, 0 before the first.

    Args:
        ys: (batch, timesteps, ...).
        mask: (batch, timesteps).
        reverse: whether the steps ran from the last to the first.
    """
    batch, timesteps = mask.shape
    steps = jnp.arange(timesteps)
    if reverse:
        last = jax.lax.cummin(jnp.where(mask, steps, timesteps), axis=1, reverse=True)
    else:
        last = jax.lax.cummax(jnp.where(mask, steps, -1), axis=1)
    held = ys[jnp.arange(batch)[:, None], jnp.clip(last, 0, timesteps - 1)]
    known = seen(mask, reverse)
    return jnp.where(known.reshape(known.shape + (1,) * (ys.ndim - 2)), held, 0)
