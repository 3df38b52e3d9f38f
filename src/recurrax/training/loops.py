"""The loops over epochs and batches behind `fit`, `evaluate` and `predict`.

Steps are sent to the device one after the other and nobody waits for them: their logs are fetched
when somebody reads them, at the latest at the end of an epoch.

The last, incomplete batch of an epoch is a step of its own shape, compiled once more: filled up
with samples of weight zero it would change what batch normalisation, dropout and losses of whole
batches compute, so that the numbers would not be those of the samples alone.
"""

import contextlib
import itertools
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from recurrax.training.callbacks import CallbackList
from recurrax.training.data import Rounds, pack
from recurrax.training.logs import Logs
from recurrax.training.step import CompiledStep, Watch
from recurrax.variable import Variable

# How many steps may be under way on the device before the host waits for the oldest.
_AHEAD = 32


Groups = list[list[Variable]]


def train_state(model: Any) -> Groups:
    """The variables that a step of training changes."""
    return [
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    ]


def train(model: Any, batches: list[Any], watch: Watch, state: Groups | None = None) -> Logs:
    """Steps of training on some batches; `state` spares finding the variables at every step."""
    return _run(model.make_train_function(), state or train_state(model), batches, watch)


def test(model: Any, batches: list[Any], watch: Watch) -> Logs:
    """Steps of evaluation on some batches."""
    groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
    return _run(model.make_test_function(), groups, batches, watch)


def _run(step: CompiledStep, groups: Groups, batches: list[Any], watch: Watch) -> Logs:
    state = tuple([v._value for v in group] for group in groups)
    logs, state = step(state, watch, batches)
    for group, values in zip(groups, state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.replace(value)
    return logs


def predict(model: Any, data: Any) -> Any:
    """A step of prediction; the outputs stay on the device."""
    changing = model.non_trainable_variables
    outputs, values = model.make_predict_function()(
        [v._value for v in model.trainable_variables], [v._value for v in changing], data
    )
    for variable, value in zip(changing, values, strict=True):
        variable.replace(value)
    return outputs


def fit_epochs(
    model: Any,
    rounds: Rounds,
    listeners: CallbackList,
    first: int,
    epochs: int,
    held_out: Rounds | None,
    validation_freq: int | Sequence[int],
) -> None:
    """Train for some epochs, evaluating after those that are due."""
    logs: dict[str, Any] = {}
    warned = False
    with contextlib.closing(listeners):
        listeners.on_train_begin()
        initial_epoch = first
        first, done = model._resume_at or (initial_epoch, 0)
        model._resume_at = None
        rounds.forward(first - initial_epoch)
        for epoch in range(first, epochs):
            model.reset_metrics()
            listeners.on_epoch_begin(epoch)
            watch = Watch()
            logs = _epoch(model, rounds, listeners, watch, done if epoch == first else 0)
            if not warned and not np.isfinite(logs.get("loss", 0.0)):
                warned = _warn_not_finite(watch, epoch)
            if held_out is not None and _is_due(epoch, validation_freq):
                results = evaluate_once(model, held_out, listeners)
                logs.update({f"val_{name}": value for name, value in results.items()})
            listeners.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        model.optimizer.finalize_variable_values(model.trainable_variables)
        listeners.on_train_end(logs)


def _epoch(
    model: Any, rounds: Rounds, listeners: CallbackList, watch: Watch, done: int
) -> dict[str, Any]:
    """One epoch of training but for its first `done` steps, which were done before."""
    logs: Logs | None = None
    under_way: deque[Logs] = deque()
    state: Groups | None = None
    step = done
    for batches in _grouped(rounds, model.steps_per_execution, done):
        listeners.on_train_batch_begin(step)
        state = state or train_state(model)
        logs = train(model, batches, watch, state)
        step += len(batches)
        listeners.on_train_batch_end(step - 1, logs)
        under_way.append(logs)
        if len(under_way) > _AHEAD:
            under_way.popleft().wait()
        if model.stop_training:
            break
    if logs is None and done:  # the epoch was interrupted after its last step
        return {name: float(value) for name, value in model.get_metrics_result().items()}
    if logs is None:
        raise ValueError("The data gave no batch for this epoch.")
    listeners.drain()
    return dict(logs.fetch())


def evaluate_once(model: Any, rounds: Rounds, listeners: CallbackList) -> dict[str, Any]:
    """The results of all batches of a round."""
    model.reset_metrics()
    watch = Watch()
    logs: Logs | None = None
    under_way: deque[Logs] = deque()
    listeners.on_test_begin()
    step = 0
    for batches in _grouped(rounds, model.steps_per_execution):
        listeners.on_test_batch_begin(step)
        logs = test(model, batches, watch)
        step += len(batches)
        listeners.on_test_batch_end(step - 1, logs)
        under_way.append(logs)
        if len(under_way) > _AHEAD:
            under_way.popleft().wait()
    if logs is None:
        raise ValueError("The data gave no batch to evaluate.")
    results = dict(logs.fetch())
    listeners.on_test_end(results)
    return results


def predict_all(model: Any, rounds: Rounds, listeners: CallbackList) -> Any:
    """The outputs of all batches of a round, on the host, joined."""
    parts: list[Any] = []
    listeners.on_predict_begin()
    for step, (x, _, _) in enumerate(rounds.epoch()):
        listeners.on_predict_batch_begin(step)
        outputs = predict(model, pack(x))
        parts.append(outputs)
        if len(parts) > _AHEAD:
            parts[-_AHEAD - 1] = jax.device_get(parts[-_AHEAD - 1])
        listeners.on_predict_batch_end(step, {"outputs": outputs})
    if not parts:
        raise ValueError("The data gave no batch to predict.")
    parts = jax.device_get(parts)
    listeners.on_predict_end()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _grouped(rounds: Rounds, count: int, done: int = 0) -> Iterator[list[Any]]:
    """Groups of `count` batches; what is left, and batches of other shapes, one by one.

    The first `done` batches are left out.
    """
    waiting: list[Any] = []
    for x, y, weight in itertools.islice(rounds.epoch(), done, None):
        batch = pack(x, y, weight)
        if count == 1:
            yield [batch]
            continue
        if waiting and _shapes(batch) != _shapes(waiting[0]):
            yield from ([one] for one in waiting)
            waiting = []
        waiting.append(batch)
        if len(waiting) == count:
            yield waiting
            waiting = []
    yield from ([one] for one in waiting)


def _shapes(batch: Any) -> Any:
    return [leaf.shape for leaf in jax.tree.leaves(batch)]


def _warn_not_finite(watch: Watch, epoch: int) -> bool:
    bad = watch.first_bad()
    if bad is None:
        return False
    warnings.warn(
        f"The loss is not finite (NaN or infinite) since step {bad + 1} of epoch {epoch + 1}: try "
        "a smaller learning rate, clipnorm=1.0, or look for such values in the data.",
        RuntimeWarning,
        stacklevel=4,
    )
    return True


def _is_due(epoch: int, frequency: int | Sequence[int]) -> bool:
    if isinstance(frequency, int):
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency
