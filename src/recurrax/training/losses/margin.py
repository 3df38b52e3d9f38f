"""Losses that ask for a margin."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.losses.base import FunctionLoss


def _signs(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Labels 0 and 1 become -1 and 1; others stay."""
    y_pred = jnp.asarray(y_pred)
    y_true = jnp.asarray(y_true).astype(y_pred.dtype)
    binary = jnp.all((y_true == 0) | (y_true == 1))
    return jnp.where(binary, 2.0 * y_true - 1.0, y_true), y_pred


def hinge(y_true: Any, y_pred: Any) -> Array:
    """`mean(max(1 - y_true * y_pred, 0))` over the last axis; labels -1 and 1, or 0 and 1."""
    y_true, y_pred = _signs(y_true, y_pred)
    return jnp.mean(jnp.maximum(1.0 - y_true * y_pred, 0.0), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    """`mean(max(1 - y_true * y_pred, 0)²)` over the last axis; labels -1 and 1, or 0 and 1."""
    y_true, y_pred = _signs(y_true, y_pred)
    return jnp.mean(jnp.square(jnp.maximum(1.0 - y_true * y_pred, 0.0)), axis=-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    """`max(best wrong score - right score + 1, 0)`; labels are one-hot."""
    y_pred = jnp.asarray(y_pred)
    y_true = jnp.asarray(y_true).astype(y_pred.dtype)
    right = jnp.sum(y_true * y_pred, axis=-1)
    wrong = jnp.max((1.0 - y_true) * y_pred, axis=-1)
    return jnp.maximum(wrong - right + 1.0, 0.0)


@serializable("keras.losses")
class Hinge(FunctionLoss):
    """`mean(max(1 - y_true * y_pred, 0))`."""

    function = staticmethod(hinge)


@serializable("keras.losses")
class SquaredHinge(FunctionLoss):
    """`mean(max(1 - y_true * y_pred, 0)²)`."""

    function = staticmethod(squared_hinge)


@serializable("keras.losses")
class CategoricalHinge(FunctionLoss):
    """`max(best wrong score - right score + 1, 0)`."""

    function = staticmethod(categorical_hinge)
