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
import itertools
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from recurrax.training.ahead import Ahead, shapes_of_batches
from recurrax.training.callbacks import CallbackList
from recurrax.training.data import Rounds
from recurrax.training.logs import Logs
from recurrax.training.step import CompiledStep, Watch, shapes_of
from recurrax.utils import pack_x_y_sample_weight as pack
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


def test_state(model: Any) -> Groups:
    """The variables that a step of evaluation reads and changes."""
    return [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]


def test(model: Any, batches: list[Any], watch: Watch, state: Groups | None = None) -> Logs:
    """Steps of evaluation on some batches; `state` as for `train`."""
    return _run(model.make_test_function(), state or test_state(model), batches, watch)


def _values(groups: Groups) -> Any:
    return tuple([v._value for v in group] for group in groups)


def _run(step: CompiledStep, groups: Groups, batches: list[Any], watch: Watch) -> Logs:
    logs, state = step(_values(groups), watch, batches)
    for group, values in zip(groups, state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.replace(value)
    return logs


def predict(model: Any, data: Any, state: Groups | None = None) -> Any:
    """A step of prediction; the outputs stay on the device. `state` as for `train`."""
    state = state or [model.trainable_variables, model.non_trainable_variables]
    outputs, values = model.make_predict_function()(*_values(state), data)
    for variable, value in zip(state[1], values, strict=True):
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
    ahead = Ahead()
    with contextlib.closing(listeners), contextlib.closing(ahead):
        listeners.on_train_begin()
        initial_epoch = first
        first, done = model._resume_at or (initial_epoch, 0)
        model._resume_at = None
        rounds.forward(first - initial_epoch)
        for epoch in range(first, epochs):
            model.reset_metrics()
            listeners.on_epoch_begin(epoch)
            watch = Watch()
            skipped = done if epoch == first else 0
            logs = _epoch(model, rounds, listeners, watch, skipped, ahead, held_out)
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
    done: int,
    ahead: Ahead,
    held_out: Rounds | None,
) -> dict[str, Any]:
    """One epoch of training but for its first `done` steps, which were done before."""
    logs: Logs | None = None
    under_way: deque[Logs] = deque()
    state: Groups | None = None
    step = done
    for batches in _grouped(rounds, model.steps_per_execution, done):
        listeners.on_train_batch_begin(step)
        state = state or train_state(model)
        ahead.wait("train", batches[0])
        logs = train(model, batches, watch, state)
        if step == done:
            _compile_ahead(model, rounds, held_out, ahead)
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


def _compile_ahead(model: Any, rounds: Rounds, held_out: Rounds | None, ahead: Ahead) -> None:
    """While the device trains, compile what an epoch needs later: once for each shape."""
    if model.run_eagerly or model.steps_per_execution > 1 or model._compiled_ahead:
        return
    model._compiled_ahead = True
    step, state = model.make_train_function(), shapes_of(_values(train_state(model)))
    for batch in shapes_of_batches(rounds)[1:]:
        ahead.start("train", batch, functools.partial(step.compile_for, state))
    if held_out is not None:
        step, state = model.make_test_function(), shapes_of(_values(test_state(model)))
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
    # The same samples each time, also where validation_steps takes a part of them.
    rounds.begin_anew()
    step, state = 0, test_state(model)
    for batches in _grouped(rounds, model.steps_per_execution):
        listeners.on_test_batch_begin(step)
        if ahead is not None:
            ahead.wait("test", batches[0])
        logs = test(model, batches, watch, state)
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
    state = [model.trainable_variables, model.non_trainable_variables]
    listeners.on_predict_begin()
    for step, (x, _, _) in enumerate(rounds.epoch()):
        listeners.on_predict_batch_begin(step)
        outputs = predict(model, pack(x), state)
        if parts:
            _check_joins(parts[0], outputs, step)
        parts.append(outputs)
        if len(parts) > _AHEAD:
            parts[-_AHEAD - 1] = jax.device_get(parts[-_AHEAD - 1])
        listeners.on_predict_batch_end(step, {"outputs": outputs})
    if not parts:
        raise ValueError("The data gave no batch to predict.")
    parts = jax.device_get(parts)
    listeners.on_predict_end()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _check_joins(first: Any, outputs: Any, step: int) -> None:
    """Raise ValueError for outputs of another size than the first batch's, but for the samples."""
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(outputs), strict=True):
        if one.shape[1:] != other.shape[1:]:
            raise ValueError(
                "predict joins the outputs of all batches into one array, but those of batch 1 "
                f"have shape {one.shape} and those of batch {step + 1} {other.shape}: give all "
                "batches one length, as with recurrax.utils.pad_sequences(..., maxlen=length), or "
                "take each by itself, with predict_on_batch."
            )


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
