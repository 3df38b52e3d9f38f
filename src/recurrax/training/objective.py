"""The loss of a model: the weighted sum of the losses of its outputs."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from recurrax.layers.mask import get_mask
from recurrax.training.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)
from recurrax.training.losses.base import Loss
from recurrax.training.losses.table import as_loss
from recurrax.training.metrics import Mean
from recurrax.training.outputs import Outputs, binary_or_sparse

_CROSSENTROPY = ("crossentropy", "ce")


class Objective:
    """What `compile(loss=..., loss_weights=...)` asked for.

    Args:
        loss: a name, a function or an object; for several outputs a list or a dictionary of them.
        loss_weights: a number for each loss.

    Raises:
        ValueError: an unknown name.
    """

    def __init__(self, loss: Any, loss_weights: Any = None) -> None:
        for leaf in jax.tree.leaves(loss):
            if not (isinstance(leaf, str) and leaf.lower() in _CROSSENTROPY):
                as_loss(leaf)
        self._loss = loss
        self._weights = loss_weights
        self.trackers: list[Mean] = []
        self.losses: list[Loss | None] = []
        self.built = False

    def build(self, y: Any, y_pred: Any, names: Sequence[str] | None = None) -> None:
        """Fit the losses to outputs of these shapes.

        Raises:
            ValueError: losses that do not fit the outputs.
        """
        self.outputs = Outputs(y_pred, names)
        given = self.outputs.split(self._loss, "loss")
        weights = self._weights
        if weights is not None and not isinstance(weights, dict) and self.outputs.multiple:
            present = [i for i, loss in enumerate(given) if loss is not None]
            flat = list(weights) if isinstance(weights, list | tuple) else [weights]
            if len(flat) == len(present) < self.outputs.count:
                weights = [None] * self.outputs.count
                for i, weight in zip(present, flat, strict=True):
                    weights[i] = weight
        self.weights = self.outputs.split(weights, "loss_weights")
        targets = self.outputs.split_targets(y, given)
        self.losses = [
            _resolve(loss, target, prediction)
            for loss, target, prediction in zip(
                given, targets, jax.tree.leaves(y_pred), strict=True
            )
        ]
        if sum(loss is not None for loss in self.losses) > 1:
            self.trackers = [
                Mean(name=f"{name or loss.name}_loss")
                for name, loss in zip(self.outputs.names, self.losses, strict=True)
                if loss is not None
            ]
        self.built = True

    def check_targets(self, y: Any, y_pred: Any) -> None:
        """Refuse targets on the host that cannot belong to outputs of these shapes.

        Raises:
            ValueError: a class that the output does not have, or shapes that do not fit.
        """
        targets = self.outputs.split_targets(y, self.losses)
        for loss, target, prediction in zip(
            self.losses, targets, jax.tree.leaves(y_pred), strict=True
        ):
            if loss is not None and target is not None:
                loss.check_targets(target, tuple(prediction.shape))

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any = None) -> Array | None:
        """The loss of a batch; None where no output has one."""
        if not self.built:
            self.build(y, y_pred)
        targets = self.outputs.split_targets(y, self.losses)
        weights = self.outputs.split_weights(sample_weight)
        trackers = iter(self.trackers)
        total = None
        for loss, factor, target, prediction, weight in zip(
            self.losses, self.weights, targets, jax.tree.leaves(y_pred), weights, strict=True
        ):
            if loss is None:
                continue
            if target is None:
                raise ValueError(
                    f"The loss {loss.name!r} needs targets: pass y, or batches of (x, y)."
                )
            value = loss(target, prediction, weight, mask=get_mask(prediction))
            if value.ndim:
                value = value.mean()
            tracker = next(trackers, None)
            if tracker is not None:
                tracker.update_state(
                    jax.lax.stop_gradient(value), sample_weight=prediction.shape[0]
                )
            if factor is not None:
                value = value * factor
            total = value if total is None else total + value
        return total


def _resolve(identifier: Any, y_true: Any, y_pred: Any) -> Loss | None:
    if isinstance(identifier, str) and identifier.lower() in _CROSSENTROPY:
        binary, sparse = binary_or_sparse(y_true, y_pred)
        if binary:
            return BinaryCrossentropy()
        return SparseCategoricalCrossentropy() if sparse else CategoricalCrossentropy()
    return as_loss(identifier)
