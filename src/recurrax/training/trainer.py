"""`Trainer`: what makes a layer a model that can be compiled, trained, evaluated and asked."""

import contextlib
import itertools
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from recurrax.layers.mask import get_mask, set_mask
from recurrax.registry import deserialize, serialize
from recurrax.training import optimizers
from recurrax.training.callbacks import Callback, CallbackList, History, ProgressBar
from recurrax.training.data import (
    ArraySource,
    Rounds,
    Source,
    choose_source,
    length_of,
    pack,
    split_off,
    to_arrays,
    unpack,
)
from recurrax.training.logs import Logs
from recurrax.training.metric_set import MetricSet
from recurrax.training.metrics import Mean
from recurrax.training.metrics.base import Metric
from recurrax.training.objective import Objective
from recurrax.training.optimizers import LossScaleOptimizer, Optimizer
from recurrax.training.step import CompiledStep, Watch
from recurrax.variable import StatelessScope, Variable

if TYPE_CHECKING:
    from recurrax.layers.layer import Layer
else:
    Layer = object

# How many steps may be under way on the device before the host waits for the oldest.
_AHEAD = 32


class Trainer(Layer):
    """Mixin for a layer: `compile`, `fit`, `evaluate`, `predict` and their single steps.

    The state of a training step is a tuple of lists of arrays: the values of
    `trainable_variables`, of `non_trainable_variables`, of `optimizer.variables` and of
    `metrics_variables`. A model of your own overrides `compute_loss`, `compute_metrics`,
    `train_step(state, data)`, `test_step(state, data)` or `predict_step(state, data)`; steps are
    traced, return `(logs, state)` and read and write variables through the state.
    """

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

    # ------------------------------------------------------------------ compile

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
        chosen = optimizers.get(optimizer)
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
        self._train_function: CompiledStep | None = None
        self._test_function: CompiledStep | None = None
        self._predict_function: Any = None

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

    # ------------------------------------------------------------------ metrics

    @property
    def metrics(self) -> list[Metric]:
        """The loss, metrics held by the model and its layers, those of `compile`, and the losses
        of single outputs."""
        found: list[Metric] = [self._loss_tracker] if self._loss_tracker is not None else []
        for layer in self.flatten_layers():
            found += [
                value
                for name, value in vars(layer).items()
                if isinstance(value, Metric) and name not in ("_loss_tracker", "_metric_set")
            ]
        if self._metric_set is not None:
            found.append(self._metric_set)
        if self._objective is not None:
            found += self._objective.trackers
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

    # ------------------------------------------------------------------ one step, as a function

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of a batch: that of `compile`, and those of the layers.

        Raises:
            ValueError: there is no loss at all.
        """
        del x, training
        losses = []
        if self._objective is not None:
            value = self._objective(y, y_pred, sample_weight)
            if value is not None:
                losses.append(value)
        losses += [value.sum() for value in self.losses]
        if not losses:
            raise ValueError(
                "There is no loss: call model.compile(loss=...), or add one in a layer with "
                "self.add_loss(...)."
            )
        return sum(losses[1:], losses[0])

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Take a batch into the metrics of `compile`, and return all results."""
        del x
        if self._metric_set is not None:
            self._metric_set.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def compute_loss_and_updates(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        metrics_variables: Sequence[Any],
        x: Any,
        y: Any,
        sample_weight: Any,
        training: bool = False,
        optimizer_variables: Sequence[Any] | None = None,
    ) -> tuple[Any, Any]:
        """The loss of a batch as a pure function of the variables' values.

        Returns:
            The loss to differentiate; and the loss, the outputs, and the new values of the
            non-trainable and of the metrics' variables.
        """
        pairs = [
            *zip(self.trainable_variables, trainable_variables, strict=True),
            *zip(self.non_trainable_variables, non_trainable_variables, strict=True),
            *zip(self.metrics_variables, metrics_variables, strict=True),
        ]
        optimizer = self._optimizer
        if optimizer is not None and optimizer_variables is not None:
            pairs += zip(optimizer.variables, optimizer_variables, strict=True)
        with StatelessScope(pairs) as scope:
            y_pred = self(x, training=training)
            loss = self.compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
            )
            if self._loss_tracker is not None:
                self._loss_tracker.update_state(
                    jax.lax.stop_gradient(loss), sample_weight=length_of(x)
                )
            self.compute_metrics(x, y, _detached(y_pred), sample_weight)
            scaled = loss
            if training and optimizer is not None:
                scaled = optimizer.scale_loss(loss)
        non_trainable = [scope.get_current_value(v) for v in self.non_trainable_variables]
        metrics = [scope.get_current_value(v) for v in self.metrics_variables]
        return scaled, (loss, y_pred, non_trainable, metrics)

    def _results(self, metrics_variables: Sequence[Any]) -> dict[str, Any]:
        with StatelessScope(zip(self.metrics_variables, metrics_variables, strict=True)):
            return self.get_metrics_result()

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """One step of training.

        Args:
            state: values of the trainable, non-trainable, optimizer and metrics variables.
            data: a batch `x`, `(x, y)` or `(x, y, sample_weight)`.

        Returns:
            Logs by name, and the new state.
        """
        trainable, non_trainable, optimizer_variables, metrics = state
        x, y, sample_weight = unpack(data)
        differentiated = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (_, (_, _, non_trainable, metrics)), gradients = differentiated(
            trainable,
            non_trainable,
            metrics,
            x,
            y,
            sample_weight,
            training=True,
            optimizer_variables=optimizer_variables,
        )
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
        return self._results(metrics), (trainable, non_trainable, optimizer_variables, metrics)

    def test_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """One step of evaluation; state: values of the trainable, non-trainable and metrics
        variables."""
        trainable, non_trainable, metrics = state
        x, y, sample_weight = unpack(data)
        _, (_, _, non_trainable, metrics) = self.compute_loss_and_updates(
            trainable, non_trainable, metrics, x, y, sample_weight, training=False
        )
        return self._results(metrics), (trainable, non_trainable, metrics)

    def predict_step(self, state: Any, data: Any) -> tuple[Any, Any]:
        """One step of prediction; state: values of the trainable and non-trainable variables."""
        trainable, non_trainable = state
        x, _, _ = unpack(data)
        outputs, non_trainable = self.stateless_call(trainable, non_trainable, x, training=False)
        return outputs, (trainable, non_trainable)

    # ------------------------------------------------------------------ one step, made to run

    def make_train_function(self) -> Any:
        """The compiled step of training."""
        if self._train_function is None:
            self._train_function = CompiledStep(self.train_step, self._run_eagerly)
        return self._train_function

    def make_test_function(self) -> Any:
        """The compiled step of evaluation."""
        if self._test_function is None:
            self._test_function = CompiledStep(self.test_step, self._run_eagerly)
        return self._test_function

    def make_predict_function(self) -> Any:
        """The compiled step of prediction."""
        if self._predict_function is None:

            def predict(trainable: Any, non_trainable: Any, data: Any) -> Any:
                outputs, state = self.predict_step((trainable, non_trainable), data)
                return outputs, state[1]

            self._predict_function = (
                predict if self._run_eagerly else jax.jit(predict, donate_argnums=1)
            )
        return self._predict_function

    def _train(self, batches: list[Any], watch: Watch) -> Logs:
        groups = [
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        ]
        return self._run(self.make_train_function(), groups, batches, watch)

    def _test(self, batches: list[Any], watch: Watch) -> Logs:
        groups = [self.trainable_variables, self.non_trainable_variables, self.metrics_variables]
        return self._run(self.make_test_function(), groups, batches, watch)

    @staticmethod
    def _run(step: CompiledStep, groups: Any, batches: list[Any], watch: Watch) -> Logs:
        state = tuple([v._value for v in group] for group in groups)
        logs, state = step(state, watch, batches)
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.replace(value)
        return logs

    # ------------------------------------------------------------------ building

    def _ready(self, batch: Any, training: bool, targets: bool = True) -> None:
        """Make all variables for batches like this one, and refuse targets that do not fit."""
        x, y, _ = batch
        if not self.built:
            self._output_shapes(x)
        if targets and self.compiled:
            objective, metric_set = self._objective, self._metric_set
            missing = (objective is not None and not objective.built) or (
                metric_set is not None and not metric_set.built
            )
            y_pred = self._output_shapes(x) if missing or objective is not None else None
            names = getattr(self, "output_names", None)
            if objective is not None:
                if y is None:
                    raise ValueError(
                        "The model was compiled with a loss, which needs targets: pass y, or "
                        "batches of (x, y)."
                    )
                if not objective.built:
                    objective.build(jax.tree.map(_struct, y), y_pred, names)
            if metric_set is not None and not metric_set.built:
                metric_set.build(jax.tree.map(_struct, y), y_pred, names)
        if training and self._optimizer is not None:
            self._optimizer.build(self.trainable_variables)

    def _output_shapes(self, x: Any) -> Any:
        """Shapes and dtypes of the outputs for inputs like `x`, computing nothing."""
        shapes = jax.tree.map(_struct, x)
        key = tuple((leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves(shapes))
        known = self.__dict__.setdefault("_known_outputs", {})
        if key not in known:
            with StatelessScope():
                known[key] = jax.eval_shape(lambda x: self(x, training=False), shapes)
        return known[key]

    def _check_arrays(self, source: Source) -> None:
        """Refuse values on the host that the model cannot take, before any compilation."""
        if not isinstance(source, ArraySource):
            return
        if hasattr(self, "check_values"):
            self.check_values(source.x)  # pyright: ignore[reportAttributeAccessIssue]
        if self._objective is not None and self._objective.built and source.y is not None:
            self._objective.check_targets(source.y, self._output_shapes(source.peek()[0]))

    def _batches(self, rounds: Rounds, done: int = 0) -> Iterator[list[Any]]:
        """Groups of `steps_per_execution` batches; what is left, and other shapes, one by one.

        The first `done` batches are left out.
        """
        count, waiting = self._steps_per_execution, []
        for x, y, weight in itertools.islice(rounds.epoch(), done, None):
            batch = pack(x, y, weight)
            if waiting and _shapes(batch) != _shapes(waiting[0]):
                yield from ([one] for one in waiting)
                waiting = []
            waiting.append(batch)
            if len(waiting) == count:
                yield waiting
                waiting = []
        yield from ([one] for one in waiting)

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
    ) -> History:
        """Train.

        Args:
            x: inputs `(samples, ...)`, a list or dictionary of them, or something that gives
                batches `(x, y)` or `(x, y, sample_weight)`: a generator, a `PyDataset`, a torch
                `DataLoader`.
            y: targets, of as many samples.
            batch_size: samples in a step, 32 by default; the last batch of an epoch has what is
                left, and counts by its size.
            epochs: number of the last epoch.
            verbose: 0: silent, 1 or "auto": a bar, 2: a line an epoch.
            callbacks: list of `Callback`s.
            validation_split: the last such share of the samples is not trained on but evaluated
                after each epoch.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or something that gives batches.
            shuffle: a new order of the samples in each epoch; "batch": of whole batches.
            class_weight: weight of each class in the loss.
            sample_weight: weight of each sample, or `(samples, steps)` of each step.
            initial_epoch: epochs done before.
            steps_per_epoch: batches in an epoch, for data without an end.
            validation_steps: batches of an evaluation.
            validation_batch_size: samples in a step of evaluation.
            validation_freq: evaluate after each so many epochs, or after those in a list.

        Returns:
            The `History`; its `history` has a list with a number an epoch for each metric.

        Raises:
            ValueError: the model is not compiled, or the data do not fit each other or the model.
        """
        self._require_compiled("fit")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_off(
                x, y, sample_weight, validation_split
            )
        source = choose_source(x, y, sample_weight, batch_size, shuffle, class_weight)
        validation = None
        if validation_data is not None:
            validation = _validation_source(validation_data, validation_batch_size or batch_size)
        if source.num_batches is None and steps_per_epoch is None and epochs - initial_epoch > 1:
            once = getattr(source, "once", False)
            if once:
                raise ValueError(
                    "The data are an iterator, which ends or goes on for ever: say "
                    "steps_per_epoch=..., so that each epoch knows its part."
                )
        self._ready(source.peek(), training=True)
        self._check_trainable()
        self._check_arrays(source)
        if validation is not None:
            self._ready(validation.peek(), training=False)
            self._check_arrays(validation)
        rounds = Rounds(source, steps_per_epoch)
        listeners = CallbackList(callbacks, self, verbose, epochs, rounds.num_batches)
        self._history = listeners.history
        self._stop_training = False
        held_out = None if validation is None else Rounds(validation, validation_steps)
        logs: dict[str, Any] = {}
        warned = False
        with contextlib.closing(listeners):
            listeners.on_train_begin()
            first, done = self._resume_at or (initial_epoch, 0)
            self._resume_at = None
            rounds.forward(first - initial_epoch)
            for epoch in range(first, epochs):
                self.reset_metrics()
                listeners.on_epoch_begin(epoch)
                watch = Watch()
                logs = self._epoch(rounds, listeners, watch, done if epoch == first else 0)
                if not warned and not np.isfinite(logs.get("loss", 0.0)):
                    warned = _warn_not_finite(watch, epoch)
                if held_out is not None and _is_due(epoch, validation_freq):
                    results = self._evaluate(held_out, listeners)
                    logs.update({f"val_{name}": value for name, value in results.items()})
                listeners.on_epoch_end(epoch, logs)
                if self._stop_training:
                    break
            self.optimizer.finalize_variable_values(self.trainable_variables)
            listeners.on_train_end(logs)
        return listeners.history

    def _epoch(
        self, rounds: Rounds, listeners: CallbackList, watch: Watch, done: int
    ) -> dict[str, Any]:
        logs: Logs | None = None
        under_way: deque[Logs] = deque()
        step = done
        for batches in self._batches(rounds, done):
            listeners.on_train_batch_begin(step)
            logs = self._train(batches, watch)
            step += len(batches)
            listeners.on_train_batch_end(step - 1, logs)
            under_way.append(logs)
            if len(under_way) > _AHEAD:
                _wait(under_way.popleft())
            if self._stop_training:
                break
        if logs is None and done:  # the epoch was interrupted after its last step
            return {name: float(value) for name, value in self.get_metrics_result().items()}
        if logs is None:
            raise ValueError("The data gave no batch for this epoch.")
        listeners.drain()
        return dict(logs.fetch())

    def _check_trainable(self) -> None:
        known, now = self.optimizer._trainable, self.trainable_variables
        if [id(v) for v in known] != [id(v) for v in now]:
            raise ValueError(
                f"The optimizer was made for {len(known)} variables, but the model now has "
                f"{len(now)} trainable ones, or others: call compile() again after changing "
                "`trainable` or the layers."
            )

    # ------------------------------------------------------------------ evaluate

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss and the metrics on some data; arguments as for `fit`.

        Returns:
            The loss, or a list of it and the metrics, or with `return_dict` a dictionary.

        Raises:
            ValueError: the model is not compiled, or the data do not fit each other or the model.
        """
        self._require_compiled("evaluate")
        source = choose_source(x, y, sample_weight, batch_size)
        self._ready(source.peek(), training=False)
        self._check_arrays(source)
        rounds = Rounds(source, steps)
        listeners = CallbackList(callbacks, self, verbose, 1, rounds.num_batches, kind="test")
        with contextlib.closing(listeners):
            logs = self._evaluate(rounds, listeners)
        if return_dict:
            return logs
        values = list(self._in_order(logs))
        return values[0] if len(values) == 1 else values

    def _evaluate(self, rounds: Rounds, listeners: CallbackList) -> dict[str, Any]:
        self.reset_metrics()
        watch = Watch()
        logs: Logs | None = None
        under_way: deque[Logs] = deque()
        listeners.on_test_begin()
        step = 0
        for batches in self._batches(rounds):
            listeners.on_test_batch_begin(step)
            logs = self._test(batches, watch)
            step += len(batches)
            listeners.on_test_batch_end(step - 1, logs)
            under_way.append(logs)
            if len(under_way) > _AHEAD:
                _wait(under_way.popleft())
        if logs is None:
            raise ValueError("The data gave no batch to evaluate.")
        results = dict(logs.fetch())
        listeners.on_test_end(results)
        return results

    def _in_order(self, logs: dict[str, Any]) -> Iterator[Any]:
        names = []
        for metric in self.metrics:
            inner = metric.by_name() if isinstance(metric, MetricSet) else [metric.name]
            names += [name for name in inner if name in logs]
        names += sorted(set(logs) - set(names))
        return (logs[name] for name in names)

    # ------------------------------------------------------------------ predict

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for some inputs; arguments as for `fit`.

        Returns:
            NumPy arrays `(samples, ...)`, in the structure of the outputs.

        Raises:
            ValueError: the data do not fit the model, or there are none.
        """
        source = choose_source(x, batch_size=batch_size)
        self._ready(source.peek(), training=False, targets=False)
        self._check_arrays(source)
        rounds = Rounds(source, steps)
        listeners = CallbackList(callbacks, self, verbose, 1, rounds.num_batches, kind="predict")
        parts: list[Any] = []
        with contextlib.closing(listeners):
            listeners.on_predict_begin()
            for step, (inputs, _, _) in enumerate(rounds.epoch()):
                listeners.on_predict_batch_begin(step)
                outputs = self._predict(pack(inputs))
                parts.append(outputs)
                if len(parts) > _AHEAD:
                    parts[-_AHEAD - 1] = jax.device_get(parts[-_AHEAD - 1])
                listeners.on_predict_batch_end(step, {"outputs": outputs})
            if not parts:
                raise ValueError("The data gave no batch to predict.")
            parts = jax.device_get(parts)
            listeners.on_predict_end()
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def _predict(self, data: Any) -> Any:
        changing = self.non_trainable_variables
        outputs, values = self.make_predict_function()(
            [v._value for v in self.trainable_variables], [v._value for v in changing], data
        )
        for variable, value in zip(changing, values, strict=True):
            variable.replace(value)
        return outputs

    # ------------------------------------------------------------------ single batches

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One step of training on one batch, with the metrics of this batch.

        Returns:
            The loss, or a list of it and the metrics, or with `return_dict` a dictionary.

        Raises:
            ValueError: as for `fit`.
        """
        self._require_compiled("train_on_batch")
        batch = self._one_batch(x, y, sample_weight, class_weight, training=True)
        return self._answer(self._train([batch], Watch()), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One step of evaluation on one batch; as `train_on_batch`."""
        self._require_compiled("test_on_batch")
        batch = self._one_batch(x, y, sample_weight, None, training=False)
        return self._answer(self._test([batch], Watch()), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as NumPy arrays."""
        x = to_arrays(x)
        self._ready((x, None, None), training=False, targets=False)
        return jax.device_get(self._predict(pack(x)))

    def _one_batch(
        self, x: Any, y: Any, sample_weight: Any, class_weight: Any, training: bool
    ) -> Any:
        samples = length_of(to_arrays(x)) if x is not None else 1
        source = ArraySource(x, y, sample_weight, max(samples, 1), class_weight=class_weight)
        batch = source.peek()
        self._ready(batch, training)
        self._check_arrays(source)
        if training:
            self._check_trainable()
        self.reset_metrics()
        return pack(*batch)

    def _answer(self, logs: Logs, return_dict: bool) -> Any:
        results = dict(logs.fetch())
        if return_dict:
            return results
        values = list(self._in_order(results))
        return values[0] if len(values) == 1 else values


def _struct(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype))


def _shapes(batch: Any) -> Any:
    return [leaf.shape for leaf in jax.tree.leaves(batch)]


def _detached(y_pred: Any) -> Any:
    """The outputs as constants for differentiation, masks and all."""

    def detach(leaf: Any) -> Any:
        mask, constant = get_mask(leaf), jax.lax.stop_gradient(leaf)
        if mask is not None and constant is not leaf:
            set_mask(constant, mask)
        return constant

    return jax.tree.map(detach, y_pred)


def _wait(logs: Logs) -> None:
    jax.block_until_ready([v for v in dict.values(logs) if isinstance(v, jax.Array)])


def _warn_not_finite(watch: Watch, epoch: int) -> bool:
    bad = watch.first_bad()
    if bad is None:
        return False
    warnings.warn(
        f"The loss is not finite (NaN or infinite) since step {bad + 1} of epoch "
        f"{epoch + 1}: try a smaller learning rate, clipnorm=1.0, or look for such values in the "
        "data.",
        RuntimeWarning,
        stacklevel=3,
    )
    return True


def _validation_source(data: Any, batch_size: int | None) -> Source:
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        return choose_source(*data, batch_size=batch_size)
    if isinstance(data, tuple | list):
        raise ValueError(
            f"validation_data must be (x, y) or (x, y, sample_weight), but it has {len(data)} "
            "parts."
        )
    return choose_source(data)


def _is_due(epoch: int, frequency: int | Sequence[int]) -> bool:
    if isinstance(frequency, int):
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency


__all__ = ["Callback", "ProgressBar", "Trainer"]
