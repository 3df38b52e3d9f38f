"""The metrics of a model, output by output."""

from collections.abc import Sequence
from typing import Any

import jax

from recurrax.registry import unknown_name
from recurrax.training.metrics import (
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    MeanMetricWrapper,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
)
from recurrax.training.metrics.base import Metric
from recurrax.training.metrics.reduction import Mean
from recurrax.training.metrics.table import get, names
from recurrax.training.outputs import Outputs, binary_or_sparse
from recurrax.variable import StatelessScope, Variable

_ACCURACY = ("accuracy", "acc")
_CROSSENTROPY = ("crossentropy", "ce")


class MetricSet(Metric):
    """What `compile(metrics=..., weighted_metrics=...)` asked for; one metric to the model.

    Raises:
        ValueError: an unknown name.
    """

    def __init__(self, metrics: Any, weighted_metrics: Any = None) -> None:
        super().__init__(name="compile_metrics")
        for given in (metrics, weighted_metrics):
            if given is not None and not isinstance(given, list | tuple | dict):
                raise ValueError(
                    "metrics must be a list or a dictionary, but it is "
                    f"{given!r}: pass [{given!r}]."
                )
            for leaf in jax.tree.leaves(given):
                _check(leaf)
        self._given = (metrics, weighted_metrics)
        self.built = False
        self._plain: list[list[Metric]] = []
        self._weighted: list[list[Metric]] = []

    def build(self, y: Any, y_pred: Any, output_names: Sequence[str] | None = None) -> None:
        """Make the metrics for outputs of these shapes, and their variables.

        Raises:
            ValueError: metrics that do not fit the outputs.
        """
        self.outputs = Outputs(y_pred, output_names)
        predictions = jax.tree.leaves(y_pred)
        targets = self._targets(y)
        self._plain, self._weighted = (
            [
                _make(each, target, prediction)
                for each, target, prediction in zip(
                    self.outputs.split(given, "metrics", single=list),
                    targets,
                    predictions,
                    strict=True,
                )
            ]
            for given in self._given
        )
        self.built = True

    def _targets(self, y: Any) -> list[Any]:
        asked = [
            p or w
            for p, w in zip(
                self.outputs.split(self._given[0], "metrics", single=list),
                self.outputs.split(self._given[1], "weighted_metrics", single=list),
                strict=True,
            )
        ]
        return self.outputs.split_targets(y, [each or None for each in asked])

    @property
    def metrics(self) -> list[Metric]:
        """All metrics, in the order of the outputs; those with sample weights last."""
        return [metric for group in (*self._plain, *self._weighted) for metric in group]

    @property
    def variables(self) -> list[Variable]:
        return [variable for metric in self.metrics for variable in metric.variables]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        if not self.built:
            self.build(y_true, y_pred)
        targets, predictions = self._targets(y_true), jax.tree.leaves(y_pred)
        weights = self.outputs.split_weights(sample_weight)
        for metrics, target, prediction in zip(self._plain, targets, predictions, strict=True):
            for metric in metrics:
                metric.update_state(target, prediction)
        for metrics, target, prediction, weight in zip(
            self._weighted, targets, predictions, weights, strict=True
        ):
            for metric in metrics:
                metric.update_state(target, prediction, weight)

    def result(self) -> dict[str, Any]:
        """The result of each metric by its name, the output's in front where there are several."""
        return {name: metric.result() for name, metric in self.by_name().items()}

    def by_name(self) -> dict[str, Metric]:
        """Each metric by the name of its result."""
        found: dict[str, Metric] = {}
        for weighted, groups in ((False, self._plain), (True, self._weighted)):
            for i, metrics in enumerate(groups):
                output = self.outputs.names[i]
                prefix = f"{output}_" if output and self.outputs.multiple else ""
                for metric in metrics:
                    name = prefix + metric.name
                    if weighted and name in found:
                        name = f"{prefix}weighted_{metric.name}"
                    found[_numbered(name, found)] = metric
        return found


def _numbered(name: str, taken: dict[str, Any]) -> str:
    if name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _check(identifier: Any) -> None:
    if isinstance(identifier, str):
        if identifier.lower() not in (*_ACCURACY, *_CROSSENTROPY):
            get(identifier)
    elif not callable(identifier) and not hasattr(identifier, "update_state"):
        raise unknown_name("metric", identifier, names())


def _make(given: Any, y_true: Any, y_pred: Any) -> list[Metric]:
    if given is None:
        return []
    items = given if isinstance(given, list | tuple) else [given]
    return [_resolve(item, y_true, y_pred) for item in items if item is not None]


def _resolve(identifier: Any, y_true: Any, y_pred: Any) -> Metric:
    if isinstance(identifier, type):
        identifier = identifier()
    if isinstance(identifier, Metric):
        metric = identifier
    elif isinstance(identifier, str):
        kind = identifier.lower()
        if kind in _ACCURACY + _CROSSENTROPY:
            classes = (
                (BinaryAccuracy, SparseCategoricalAccuracy, CategoricalAccuracy)
                if kind in _ACCURACY
                else (BinaryCrossentropy, SparseCategoricalCrossentropy, CategoricalCrossentropy)
            )
            binary, sparse = binary_or_sparse(y_true, y_pred)
            metric = classes[0 if binary else 1 if sparse else 2]()
        else:
            metric = get(identifier)
        metric.name = identifier
    elif hasattr(identifier, "update_state"):
        metric = identifier
    else:
        made = get(identifier)
        metric = made if isinstance(made, Metric) else MeanMetricWrapper(made)
    if not isinstance(metric, Mean):
        # Some make their variables when they see the first shapes.
        with StatelessScope():
            jax.eval_shape(metric.update_state, y_true, y_pred)
    return metric
