"""`compile`: what a model is trained with, and its metrics."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.registry import deserialize, serialize
from recurrax.training import optimizers
from recurrax.training.callbacks import History
from recurrax.training.metric_set import MetricSet
from recurrax.training.metrics import Mean
from recurrax.training.metrics.base import Metric
from recurrax.training.objective import Objective
from recurrax.training.optimizers import LossScaleOptimizer, Optimizer
from recurrax.training.step import CompiledStep
from recurrax.variable import Variable

if TYPE_CHECKING:
    from recurrax.layers.layer import Layer
else:
    Layer = object


class Compiled(Layer):
    """The part of `Trainer` that says how a model is trained."""

    _compiled_options: dict[str, Any] | None = None
    _optimizer: Optimizer | None = None
    _objective: Objective | None = None
    _metric_set: MetricSet | None = None
    _loss_tracker: Mean | None = None
    _stop_training = False
    _run_eagerly = False
    _steps_per_execution = 1
    _history: History | None = None
    # Epoch and step where a callback that restored the state wants `fit` to go on.
    _resume_at: tuple[int, int] | None = None
    _train_function: CompiledStep | None = None
    _test_function: CompiledStep | None = None
    _predict_function: Any = None
    _layers_of_steps: tuple[int, ...] = ()
    _compiled_ahead = False

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Say how the model is trained.

        Args:
            optimizer: a name, an `Optimizer`, or any optax transformation.
            loss: a name, a function `(y_true, y_pred)` or a `Loss`; for several outputs a list in
                their order or a dictionary by their names.
            loss_weights: how much each loss counts.
            metrics: list of names, functions or `Metric`s; for several outputs a list of lists or a
                dictionary.
            weighted_metrics: the same, for metrics that sample weights count in.
            run_eagerly: run steps line by line, to look into them; slow.
            steps_per_execution: so many batches go to the device at once, in one loop there.
            jit_compile: taken for Keras's sake; steps are compiled unless `run_eagerly`.
            auto_scale_loss: scale the loss of a `mixed_float16` model.

        Raises:
            ValueError: an unknown name (the nearest is named) or an argument out of range.
        """
        del jit_compile
        if not isinstance(steps_per_execution, int) or steps_per_execution < 1:
            raise ValueError(
                "steps_per_execution must be an integer above 0, but it is "
                f"{steps_per_execution!r}."
            )
        if isinstance(loss_weights, str) or (
            isinstance(loss_weights, list | tuple) and any(isinstance(w, str) for w in loss_weights)
        ):
            raise ValueError(
                f"compile's third argument is loss_weights, numbers, but it got {loss_weights!r}: "
                f"pass metrics by name, metrics={loss_weights!r}."
            )
        chosen = optimizers.get(optimizer)
        if chosen is None:
            raise ValueError(
                'optimizer must be a name such as "adam", an Optimizer or an optax transformation, '
                "but it is None: leave it out for the default."
            )
        objective = Objective(loss, loss_weights) if loss is not None else None
        metric_set = MetricSet(metrics, weighted_metrics) if metrics or weighted_metrics else None
        half = self.dtype_policy.name == "mixed_float16"
        if half and auto_scale_loss and not isinstance(chosen, LossScaleOptimizer):
            chosen = LossScaleOptimizer(chosen)
        self._compiled_options = {
            "optimizer": optimizer if isinstance(optimizer, str) else chosen,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
        }
        self._optimizer = chosen
        self._objective = objective
        self._metric_set = metric_set
        self._loss_tracker = Mean(name="loss")
        self._run_eagerly = bool(run_eagerly)
        self._steps_per_execution = steps_per_execution
        self._forget_steps()

    def _forget_steps(self) -> None:
        self._train_function = self._test_function = self._predict_function = None
        self._compiled_ahead = False
        self.__dict__.pop("_known_outputs", None)

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled_options is not None

    @property
    def optimizer(self) -> Any:
        """The optimizer that `compile` was given."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Any) -> None:
        self._optimizer = optimizers.get(optimizer)
        self._forget_steps()

    @property
    def loss(self) -> Any:
        """The loss that `compile` was given."""
        return None if self._compiled_options is None else self._compiled_options["loss"]

    @property
    def run_eagerly(self) -> bool:
        """Whether steps run line by line."""
        return self._run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self._run_eagerly = bool(value)
        self._forget_steps()

    @property
    def steps_per_execution(self) -> int:
        """How many batches go to the device at once."""
        return self._steps_per_execution

    @property
    def stop_training(self) -> bool:
        """Set it in a callback to end training after this epoch."""
        return self._stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self._stop_training = bool(value)

    @property
    def history(self) -> Any:
        """The `History` of the last `fit`."""
        return self._history

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile` was given, as data; None where it was not called."""
        if self._compiled_options is None:
            return None
        return serialize(self._compiled_options)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """`compile` with what `get_compile_config` returned."""
        known = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")
        known += ("run_eagerly", "steps_per_execution")
        given = {k: deserialize(v) for k, v in config.items() if k in known}
        if isinstance(config.get("optimizer"), Mapping):
            given["optimizer"] = optimizers.deserialize(config["optimizer"])
        self.compile(**given)
        if self._optimizer is not None and self.built:
            self._optimizer.build(self.trainable_variables)

    def _require_compiled(self, what: str) -> None:
        if not self.compiled:
            raise ValueError(
                f"{what} needs a compiled model: call model.compile(optimizer=..., loss=...) first."
            )

    @property
    def metrics(self) -> list[Metric]:
        """The loss, the metrics of `compile`, the losses of single outputs, and metrics held by the
        model and its layers."""
        found: list[Metric] = [self._loss_tracker] if self._loss_tracker is not None else []
        if self._metric_set is not None:
            found.append(self._metric_set)
        if self._objective is not None:
            found += self._objective.trackers
        for layer in self.flatten_layers():
            found += [
                value
                for name, value in vars(layer).items()
                if isinstance(value, Metric) and name not in ("_loss_tracker", "_metric_set")
            ]
        return found

    @property
    def metrics_names(self) -> list[str]:
        """The names of `metrics`."""
        return [metric.name for metric in self.metrics]

    @property
    def metrics_variables(self) -> list[Variable]:
        """The state of all metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def reset_metrics(self) -> None:
        """Begin all metrics again."""
        for variable in self.metrics_variables:
            variable.replace(np.zeros(variable.shape, variable.dtype))  # pyright: ignore
        for metric in self.metrics:
            if type(metric).reset_state is not Metric.reset_state:
                metric.reset_state()

    def get_metrics_result(self) -> dict[str, Any]:
        """The result of each metric, by name."""
        results: dict[str, Any] = {}
        for metric in self.metrics:
            value = metric.result()
            results.update(value if isinstance(value, Mapping) else {metric.name: value})
        return results
