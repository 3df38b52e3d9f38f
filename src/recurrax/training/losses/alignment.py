"""Connectionist temporal classification: sequences of labels without their times."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.registry import serializable
from recurrax.training.losses.base import FunctionLoss


def ctc(y_true: Any, y_pred: Any) -> Array:
    """The negative log-probability of each label sequence, summed over its alignments.

    Graves et al., "Connectionist Temporal Classification", ICML 2006.

    Args:
        y_true: integer labels `(batch, labels)`; 0 is the blank and fills short sequences.
        y_pred: scores before the softmax, `(batch, steps, classes)`.

    Raises:
        ValueError: another rank.
    """
    import optax

    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    if y_true.ndim != 2 or y_pred.ndim != 3:
        raise ValueError(
            "ctc needs y_true of shape (batch, labels) and y_pred of shape (batch, steps, "
            f"classes), but they have shapes {y_true.shape} and {y_pred.shape}."
        )
    steps = jnp.zeros(y_pred.shape[:2], y_pred.dtype)
    labels = (jnp.arange(y_true.shape[1]) >= jnp.sum(y_true != 0, axis=-1)[:, None]).astype(
        y_pred.dtype
    )
    return optax.ctc_loss(y_pred, steps, y_true.astype("int32"), labels, blank_id=0)


@serializable("keras.losses")
class CTC(FunctionLoss):
    """The negative log-probability of each label sequence; see `ctc`."""

    function = staticmethod(ctc)
