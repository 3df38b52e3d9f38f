"""`Trainer`: what makes a layer a model that can be compiled, trained, evaluated and asked."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax

from recurrax import memory
from recurrax.training import loops, prepare
from recurrax.training.callbacks import CallbackList, History
from recurrax.training.checks import whole
from recurrax.training.data import (
    ArraySource,
    Rounds,
    Source,
    choose_source,
    length_of,
    split_off,
    to_arrays,
)
from recurrax.training.metric_set import MetricSet
from recurrax.training.step import Watch
from recurrax.training.steps import Steps
from recurrax.utils import pack_x_y_sample_weight as pack


class Trainer(Steps):
    """Mixin for a layer: `compile`, `fit`, `evaluate`, `predict` and their single steps.

    The state of a training step is a tuple of lists of arrays: the values of
    `trainable_variables`, of `non_trainable_variables`, of `optimizer.variables` and of
    `metrics_variables`. A model of your own overrides `compute_loss`, `compute_metrics`,
    `train_step(state, data)`, `test_step(state, data)` or `predict_step(state, data)`; steps are
    traced, return `(logs, state)` and read and write variables through the state.
    """

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
        whole("epochs", epochs, 0)
        whole("initial_epoch", initial_epoch, 0)
        if not isinstance(validation_freq, Collection):
            whole("validation_freq", validation_freq)
        for name, steps in (
            ("steps_per_epoch", steps_per_epoch),
            ("validation_steps", validation_steps),
        ):
            if steps is not None:
                whole(name, steps)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_off(
                x, y, sample_weight, validation_split
            )
        source = choose_source(x, y, sample_weight, batch_size, shuffle, class_weight)
        endless = getattr(source, "once", False) and steps_per_epoch is None
        if endless and epochs - initial_epoch > 1:
            raise ValueError(
                "The data are an iterator, which ends or goes on for ever: say "
                "steps_per_epoch=..., so that each epoch knows its part."
            )
        self._prepare(source, training=True)
        held_out = None
        if validation_data is not None:
            size = validation_batch_size or batch_size
            validation = _validation_source(validation_data, size)
            self._prepare(validation)
            held_out = Rounds(validation, validation_steps)
        rounds = Rounds(source, steps_per_epoch)
        listeners = CallbackList(callbacks, self, verbose, epochs, rounds.num_batches)
        self._history = listeners.history
        self._stop_training = False
        loops.fit_epochs(self, rounds, listeners, initial_epoch, epochs, held_out, validation_freq)
        return listeners.history

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
        self._prepare(source)
        rounds = Rounds(source, steps)
        listeners = CallbackList(callbacks, self, verbose, 1, rounds.num_batches, kind="test")
        with contextlib.closing(listeners):
            logs = loops.evaluate_once(self, rounds, listeners)
        return logs if return_dict else self._listed(logs)

    def _listed(self, logs: dict[str, Any]) -> Any:
        # Keras's order: metrics of one among several outputs have other names than in `logs`.
        known: dict[str, None] = {}
        for metric in self.metrics:
            inner = metric.metrics if isinstance(metric, MetricSet) else [metric]
            known |= dict.fromkeys(each.name for each in inner if each.name in logs)
        names = [*known, *sorted(set(logs) - set(known))]
        values = [logs[name] for name in names]
        return values[0] if len(values) == 1 else values

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
            ValueError: the data do not fit the model, there are none, or batches give outputs of
                different lengths.
        """
        source = choose_source(x, batch_size=batch_size)
        self._prepare(source, targets=False)
        rounds = Rounds(source, steps)
        listeners = CallbackList(callbacks, self, verbose, 1, rounds.num_batches, kind="predict")
        with contextlib.closing(listeners):
            return loops.predict_all(self, rounds, listeners)

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
        logs = dict(loops.train(self, [batch], Watch()).fetch())
        return logs if return_dict else self._listed(logs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One step of evaluation on one batch; as `train_on_batch`."""
        self._require_compiled("test_on_batch")
        batch = self._one_batch(x, y, sample_weight, None, training=False)
        logs = dict(loops.test(self, [batch], Watch()).fetch())
        return logs if return_dict else self._listed(logs)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as NumPy arrays."""
        batch = self._one_batch(x, None, None, None, training=False, targets=False)
        return jax.device_get(loops.predict(self, batch))

    def _one_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: Any,
        training: bool,
        targets: bool = True,
    ) -> Any:
        samples = length_of(to_arrays(x)) if x is not None else 1
        source = ArraySource(x, y, sample_weight, max(samples, 1), class_weight=class_weight)
        self._prepare(source, training, targets)
        self.reset_metrics()
        return pack(*source.peek())

    def _prepare(self, source: Source, training: bool = False, targets: bool = True) -> None:
        """Make all variables for these data, and refuse data that do not fit."""
        if jax.default_backend() == "cpu":
            memory.tune_unless_refused()
        layers = tuple(id(layer) for layer in self.flatten_layers())
        if layers != self._layers_of_steps:
            self._forget_steps()
            self._layers_of_steps = layers
        prepare.ready(self, source.peek(), training, targets)
        if training:
            prepare.check_trainable(self)
        prepare.check_arrays(self, source, targets)


def _validation_source(data: Any, batch_size: int | None) -> Source:
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        return choose_source(*data, batch_size=batch_size)
    if isinstance(data, tuple | list):
        raise ValueError(
            f"validation_data must be (x, y) or (x, y, sample_weight), but it has {len(data)} "
            "parts."
        )
    return choose_source(data)
