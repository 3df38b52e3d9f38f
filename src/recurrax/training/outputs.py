"""Which loss, metric, target and weight belong to which output of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from recurrax.registry import nearest


class Outputs:
    """The outputs of a model in one order, with the names that they go by.

    Args:
        y_pred: the structure of outputs.
        names: the model's names for its outputs, or None.
    """

    def __init__(self, y_pred: Any, names: Sequence[str] | None = None) -> None:
        self.count = len(jax.tree.leaves(y_pred))
        self.names: list[Any] = [None] * self.count
        if self.count != 1 or isinstance(y_pred, Mapping):
            if isinstance(y_pred, Mapping) and len(y_pred) == self.count:
                self.names = sorted(y_pred)
            elif names is not None and len(names) == self.count:
                self.names = list(names)
        elif names is not None and len(names) == 1:
            # Known by name, but not shown by it.
            self.single = names[0]
        self.multiple = self.count > 1

    @property
    def _known(self) -> list[Any]:
        if self.count == 1 and self.names == [None]:
            return [getattr(self, "single", None)]
        return self.names

    def split(self, given: Any, what: str, single: Any = None) -> list[Any]:
        """What belongs to each output.

        Args:
            given: one thing, a list in the order of the outputs, or a dictionary by name.
            what: for the error: "loss", "metrics", ...
            single: where there is one output: how to take a list apart.

        Raises:
            ValueError: a name that no output has (the nearest is named), or another number.
        """
        if given is None:
            return [None] * self.count
        if isinstance(given, Mapping):
            unknown = [key for key in given if key not in self._known]
            if unknown and self.count == 1 and len(given) == 1:
                return [next(iter(given.values()))]
            if unknown:
                names = [str(name) for name in self._known]
                raise ValueError(
                    f"{what} names an output {unknown[0]!r} that the model does not have."
                    f"{nearest(str(unknown[0]), names)} Its outputs: {', '.join(names)}."
                )
            return [given.get(name) for name in self._known]
        if self.count == 1:
            if isinstance(given, list | tuple) and single is None and len(given) == 1:
                return [given[0]]
            return [given]
        if isinstance(given, list | tuple):
            if len(given) != self.count:
                raise ValueError(
                    f"The model has {self.count} outputs, but {what} has {len(given)} entries: "
                    "give one for each output, None where there is none."
                )
            return list(given)
        return [given] * self.count

    def split_targets(self, y: Any, losses: Sequence[Any]) -> list[Any]:
        """The target of each output; outputs without a loss may be left out of a list.

        Raises:
            ValueError: the structure of `y` does not fit the outputs.
        """
        if y is None:
            return [None] * self.count
        if isinstance(y, Mapping):
            return self.split(y, "y")
        leaves = jax.tree.leaves(y)
        if len(leaves) == self.count:
            return leaves
        wanted = [i for i, loss in enumerate(losses) if loss is not None]
        if len(leaves) == len(wanted):
            targets: list[Any] = [None] * self.count
            for i, leaf in zip(wanted, leaves, strict=True):
                targets[i] = leaf
            return targets
        raise ValueError(
            f"The model has {self.count} outputs, but y holds {len(leaves)} arrays: give a target "
            "for each output."
        )

    def split_weights(self, sample_weight: Any) -> list[Any]:
        """The sample weight of each output; one array counts for all."""
        if isinstance(sample_weight, Mapping):
            return self.split(sample_weight, "sample_weight")
        leaves = jax.tree.leaves(sample_weight)
        if len(leaves) == 1:
            return leaves * self.count
        return self.split(sample_weight, "sample_weight")


def binary_or_sparse(y_true: Any, y_pred: Any) -> tuple[bool, bool]:
    """Whether an output has one class, and whether its truth is integer classes, by the shapes."""
    sparse = y_true.ndim < y_pred.ndim or (y_true.shape[-1] == 1 and y_pred.shape[-1] > 1)
    return y_pred.shape[-1] == 1, sparse
