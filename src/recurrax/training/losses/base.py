"""What a loss is: a value for each sample, weighed, masked and reduced to a number."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.dtypes import floatx
from recurrax.layers import mask as masks
from recurrax.naming import to_snake_case
from recurrax.registry import serialize

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


def same_rank(x1: Array, x2: Array) -> tuple[Array, Array]:
    """Two arrays of one rank, where a trailing axis of size 1 is all that is between them."""
    if x1.ndim == x2.ndim + 1 and x1.shape[-1] == 1:
        return (x1, x2[..., None]) if x2.ndim == 1 else (x1[..., 0], x2)
    if x2.ndim == x1.ndim + 1 and x2.shape[-1] == 1:
        return (x1[..., None], x2) if x1.ndim == 1 else (x1, x2[..., 0])
    return x1, x2


def as_float(x: Any) -> Array:
    """Floating-point arrays in at least the default precision; integers stay."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(jnp.promote_types(x.dtype, floatx()))
    return x


def fitting(y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    """`same_rank` of truth and prediction, which must be of one shape, or repeat to one.

    Raises:
        ValueError: they are not.
    """
    y_true, y_pred = same_rank(y_true, y_pred)
    if not _broadcast(y_true, y_pred):
        raise ValueError(
            f"y_true has shape {y_true.shape} and y_pred has shape {y_pred.shape}, but they must "
            "be equal: give each prediction its truth."
        )
    return y_true, y_pred


def _broadcast(*arrays: Array) -> bool:
    try:
        np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        return False
    return True


def aligned(values: Array, weight: Array) -> tuple[Array, Array]:
    """Values, and weights of as many axes: a weight a sample counts for each of its steps.

    Raises:
        ValueError: the weights fit neither the samples nor their steps.
    """
    values, weight = same_rank(values, weight)
    wider = weight.reshape(weight.shape + (1,) * max(values.ndim - weight.ndim, 0))
    if not _broadcast(values, wider):
        raise ValueError(
            f"The weights (sample_weight) or the mask have shape {weight.shape}, but what they "
            f"weigh has shape {values.shape}: give one for each sample, or for each of its steps."
        )
    return values, wider


def divide_no_nan(numerator: Array, denominator: Array) -> Array:
    """The quotient, 0 where the denominator is 0."""
    zero = denominator == 0
    return jnp.where(zero, 0, numerator / jnp.where(zero, 1, denominator))


def reduce_weighted(
    values: Array, sample_weight: Any = None, mask: Any = None, reduction: str | None = None
) -> Array:
    """`values`, times their weights, reduced; with a mask the mean is that of what it leaves."""
    weight = None if sample_weight is None else jnp.asarray(sample_weight).astype(values.dtype)
    if mask is not None:
        kept = jnp.asarray(mask).astype(values.dtype)
        if reduction in ("mean", "sum_over_batch_size"):
            kept = kept * divide_no_nan(jnp.asarray(kept.size, values.dtype), jnp.sum(kept))
        if weight is None:
            weight = kept
        else:
            kept, weight = aligned(kept, weight)
            weight = weight * kept
    if weight is not None:
        values, weight = aligned(values, weight)
        values = values * weight
    if reduction in (None, "none") or values.ndim == 0 or values.shape == (0,):
        return values
    total = jnp.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weight is not None:
        return divide_no_nan(total, jnp.sum(weight))
    return total / max(values.size, 1)


class Loss:
    """Base of losses. Define `call(y_true, y_pred)`, which returns a value for each sample.

    Args:
        name: shown in messages and in the configuration.
        reduction: "sum_over_batch_size" (the mean of all values), "sum", "mean",
            "mean_with_sample_weight", or "none" (all values).
        dtype: taken for Keras's sake; losses are computed in the default precision or a higher one.

    Raises:
        ValueError: another reduction.
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, but it is "
                f"{reduction!r}."
            )
        self.name = name or to_snake_case(type(self).__name__)
        self.reduction = reduction
        self.dtype = dtype

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A value for each sample (and step)."""
        raise NotImplementedError(f"{type(self).__name__} defines no call(self, y_true, y_pred).")

    def valid(self, y_true: Any, y_pred: Any) -> Array | None:
        """Which entries count, as a mask; None: all."""
        del y_true, y_pred
        return None

    def check_targets(self, y_true: Any, output_shape: tuple[int | None, ...]) -> None:
        """Refuse targets on the host that cannot belong to outputs of this shape."""

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> Array:
        """The loss of predictions.

        Args:
            y_true: targets, an array or a structure of arrays.
            y_pred: predictions, of the same structure.
            sample_weight: `(batch,)` or `(batch, steps)`.
            mask: true where a prediction counts; by default the one that came with `y_pred`.
        """
        if mask is None and isinstance(y_pred, Array):
            mask = masks.get_mask(y_pred)
        y_true, y_pred = jax.tree.map(as_float, (y_true, y_pred))
        values = jnp.asarray(self.call(y_true, y_pred))
        own = self.valid(y_true, y_pred)
        if own is not None:
            mask = own if mask is None else own & jnp.asarray(mask, bool)
        return reduce_weighted(values, sample_weight, mask, self.reduction)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Loss":
        return cls(**config)


class FunctionLoss(Loss):
    """A loss whose values a function computes; its other arguments are kept and passed on."""

    function: Callable[..., Any]

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.arguments = arguments

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if isinstance(y_true, Array) and isinstance(y_pred, Array):
            y_true, y_pred = same_rank(y_true, y_pred)
        return type(self).function(y_true, y_pred, **self.arguments)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}


class LossFunctionWrapper(FunctionLoss):
    """A function `(y_true, y_pred) -> a value for each sample`, as a loss."""

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            reduction=reduction,
            name=name or getattr(fn, "__name__", "loss"),
            dtype=dtype,
            **kwargs,
        )
        self.fn = fn

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if isinstance(y_true, Array) and isinstance(y_pred, Array):
            y_true, y_pred = same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self.arguments)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fn": serialize(self.fn)}
