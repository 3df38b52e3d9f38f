"""The loops over epochs and batches behind `fit`, `evaluate` and `predict`.

Steps are sent to the device one after the other and nobody waits for them: their logs are fetched
when somebody reads them, at the latest at the end of an epoch.

The last, incomplete batch of an epoch is a step of its own shape, compiled once more: filled up
with samples of weight zero it would change what batch normalisation, dropout and losses of whole
batches compute, so that the numbers would not be those of the samples alone. A thread compiles it,
and the steps of the validation, while the device trains on the first batches.
"""

import contextlib
import functools
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from recurrax.training.ahead import Ahead, shapes_of_batches
from recurrax.training.callbacks import CallbackList
from recurrax.training.data import Rounds, pack
from recurrax.training.logs import Logs
from recurrax.training.step import CompiledStep, Watch, shapes_of
from recurrax.variable import Variable

# How many steps may be under way on the device before the host waits for the oldest.
_AHEAD = 32


def train(model: Any, batch: Any) -> Logs:
    """One step of training."""
    return _run(model.make_train_function(), _training_groups(model), [batch], Watch())


def test(model: Any, batch: Any) -> Logs:
    """One step of evaluation."""
    return _run(model.make_test_function(), _test_groups(model), [batch], Watch())


def _training_groups(model: Any) -> list[list[Variable]]:
    return [
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    ]


def _test_groups(model: Any) -> list[list[Variable]]:
    return [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]


def _values(groups: list[list[Variable]]) -> Any:
    return tuple([v._value for v in group] for group in groups)


def _run(step: CompiledStep, groups: Any, batches: list[Any], watch: Watch) -> Logs:
    logs, state = step(_values(groups), watch, batches)
    for group, values in zip(groups, state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.replace(value)
    return logs


def predict(model: Any, data: Any) -> Any:
    """One step of prediction; the outputs stay on the device."""
    groups = [model.trainable_variables, model.non_trainable_variables]
    return _predict(model.make_predict_function(), groups, data)


def _predict(function: Any, groups: list[list[Variable]], data: Any) -> Any:
    outputs, values = function(*_values(groups), data)
    for variable, value in zip(groups[1], values, strict=True):
        variable.replace(value)
    return outputs


def fit_epochs(
    model: Any,
    rounds: Rounds,
    listeners: CallbackList,
    epochs: range,
    held_out: Rounds | None,
    validation_freq: int | Sequence[int],
) -> None:
    """Train for some epochs, evaluating after those that are due."""
    logs: dict[str, Any] = {}
    warned = False
    ahead = Ahead()
    with contextlib.closing(listeners), contextlib.closing(ahead):
        listeners.on_train_begin()
        for epoch in epochs:
            model.reset_metrics()
            listeners.on_epoch_begin(epoch)
            watch = Watch()
            logs = _epoch(model, rounds, listeners, watch, ahead, held_out)
            if not warned and not np.isfinite(logs.get("loss", 0.0)):
                warned = _warn_not_finite(watch, epoch)
            if held_out is not None and _is_due(epoch, validation_freq):
                results = evaluate_once(model, held_out, listeners, ahead)
                logs.update({f"val_{name}": value for name, value in results.items()})
            listeners.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        model.optimizer.finalize_variable_values(model.trainable_variables)
        listeners.on_train_end(logs)


def _epoch(
    model: Any,
    rounds: Rounds,
    listeners: CallbackList,
    watch: Watch,
    ahead: Ahead,
    held_out: Rounds | None,
) -> dict[str, Any]:
    logs: Logs | None = None
    under_way: deque[Logs] = deque()
    function, groups, step = model.make_train_function(), _training_groups(model), 0
    for batches in _grouped(rounds, model.steps_per_execution):
        listeners.on_train_batch_begin(step)
        ahead.wait("train", batches[0])
        logs = _run(function, groups, batches, watch)
        if step == 0:
            _compile_ahead(model, rounds, held_out, ahead)
        step += len(batches)
        listeners.on_train_batch_end(step - 1, logs)
        under_way.append(logs)
        if len(under_way) > _AHEAD:
            under_way.popleft().wait()
        if model.stop_training:
            break
    if logs is None:
        raise ValueError("The data gave no batch for this epoch.")
    listeners.drain()
    return dict(logs.fetch())


def _compile_ahead(model: Any, rounds: Rounds, held_out: Rounds | None, ahead: Ahead) -> None:
    """While the device trains, compile what an epoch needs later: once for each shape."""
    if model.run_eagerly or model.steps_per_execution > 1 or model._compiled_ahead:
        return
    model._compiled_ahead = True
    step, state = model.make_train_function(), shapes_of(_values(_training_groups(model)))
    for batch in shapes_of_batches(rounds)[1:]:
        ahead.start("train", batch, functools.partial(step.compile_for, state))
    if held_out is not None:
        step, state = model.make_test_function(), shapes_of(_values(_test_groups(model)))
        for batch in shapes_of_batches(held_out):
            ahead.start("test", batch, functools.partial(step.compile_for, state))


def evaluate_once(
    model: Any, rounds: Rounds, listeners: CallbackList, ahead: Ahead | None = None
) -> dict[str, Any]:
    """The results of all batches of a round."""
    model.reset_metrics()
    watch = Watch()
    logs: Logs | None = None
    under_way: deque[Logs] = deque()
    listeners.on_test_begin()
    function, groups, step = model.make_test_function(), _test_groups(model), 0
    for batches in _grouped(rounds, model.steps_per_execution):
        listeners.on_test_batch_begin(step)
        if ahead is not None:
            ahead.wait("test", batches[0])
        logs = _run(function, groups, batches, watch)
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
    function = model.make_predict_function()
    groups = [model.trainable_variables, model.non_trainable_variables]
    listeners.on_predict_begin()
    for step, (x, _, _) in enumerate(rounds.epoch()):
        listeners.on_predict_batch_begin(step)
        outputs = _predict(function, groups, pack(x))
        parts.append(outputs)
        if len(parts) > _AHEAD:
            parts[-_AHEAD - 1] = jax.device_get(parts[-_AHEAD - 1])
        listeners.on_predict_batch_end(step, {"outputs": outputs})
    if not parts:
        raise ValueError("The data gave no batch to predict.")
    parts = jax.device_get(parts)
    listeners.on_predict_end()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _grouped(rounds: Rounds, count: int) -> Iterator[list[Any]]:
    """Groups of `count` batches; what is left, and batches of other shapes, one by one."""
    waiting: list[Any] = []
    for x, y, weight in rounds.epoch():
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
