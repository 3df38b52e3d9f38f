"""What a callback is: methods that training calls at its turns."""

from collections.abc import Mapping
from typing import Any

Logs = Mapping[str, Any] | None


class Callback:
    """Base of callbacks: override the methods for the turns that you want to hear of.

    Logs of a batch are fetched from the device when they are read: a callback that does not read
    them costs nothing, one that does waits for the step to end.

    Attributes:
        model: the model that is trained.
        params: `verbose`, `epochs` and `steps` (None where unknown).
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self._model: Any = None

    @property
    def model(self) -> Any:
        return self.__dict__.get("_model")

    def set_params(self, params: dict[str, Any]) -> None:
        """Called before everything else."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Called before everything else."""
        self._model = model

    def on_train_begin(self, logs: Any = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Any = None) -> None:
        """After the last epoch, with its logs."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before an epoch; they count from 0."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """After an epoch and its validation, with the results of both; what is added to `logs` goes
        into the history."""

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a step of training."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a step of training was sent to the device."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a step of training; steps count from 0 in each epoch."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a step of training was sent to the device, with the metrics so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Before an evaluation, also one within `fit`."""

    def on_test_end(self, logs: Any = None) -> None:
        """After an evaluation, with its results."""

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a step of evaluation."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a step of evaluation was sent to the device."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Any = None) -> None:
        """After a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a step of prediction."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a step of prediction was sent to the device, with its outputs."""
