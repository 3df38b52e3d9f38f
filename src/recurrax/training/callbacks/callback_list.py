"""`CallbackList`: all callbacks of a run, called in order."""

from typing import Any

from recurrax.training.callbacks.base import Callback
from recurrax.training.callbacks.history import History
from recurrax.training.callbacks.progress_bar import ProgressBar

# What `fit` adds itself.
_OWN = (History, ProgressBar)


class CallbackList:
    """The callbacks of a run: those given, then the bar and the history.

    Args:
        callbacks: a list of callbacks, one callback, or None.
        model: the model.
        verbose: 0: no bar, 1 or "auto": a bar, 2: lines.
        epochs: number of the last epoch.
        steps: batches in an epoch; None where nobody knows.
        kind: "train", "test" or "predict".

    Raises:
        TypeError: something that is no callback.
        ValueError: another `verbose`.
    """

    def __init__(
        self,
        callbacks: Any,
        model: Any,
        verbose: int | str,
        epochs: int,
        steps: int | None,
        kind: str = "train",
    ) -> None:
        if isinstance(callbacks, CallbackList):
            callbacks = callbacks.callbacks
        given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
        self.callbacks: list[Any] = [c for c in given if c is not None]
        for callback in self.callbacks:
            if not hasattr(callback, "on_epoch_end"):
                raise TypeError(
                    f"callbacks must hold Callback objects, but it holds {callback!r}."
                    + (" Make one: call the class." if isinstance(callback, type) else "")
                )
            if isinstance(callback, type):
                raise TypeError(
                    f"callbacks holds the class {callback.__name__}: make an object of it, "
                    f"{callback.__name__}(...)."
                )
        if verbose not in (0, 1, 2, "auto"):
            raise ValueError(f'verbose must be 0, 1, 2 or "auto", but it is {verbose!r}.')
        verbose = 1 if verbose == "auto" else int(verbose)
        if verbose:
            self.callbacks.append(ProgressBar(verbose, kind))
        known = [c for c in self.callbacks if isinstance(c, History)]
        self.history = known[0] if known else History()
        if not known and kind == "train":
            self.callbacks.append(self.history)
        for callback in self.callbacks:
            callback.set_params({"verbose": verbose, "epochs": epochs, "steps": steps})
            callback.set_model(model)
            if hasattr(callback, "set_callbacks"):
                callback.set_callbacks([c for c in self.callbacks if type(c) not in _OWN])

    def __getattr__(self, turn: str) -> Any:
        if not turn.startswith("on_"):
            raise AttributeError(turn)
        # Only those that listen to this turn are called: a step has many turns.
        listening = [getattr(c, turn) for c in self.callbacks if _listens(c, turn)]

        numbered = "epoch" in turn or "batch" in turn

        def call(*arguments: Any) -> None:
            if len(arguments) == numbered:  # as Keras, `logs` is empty where there are none
                arguments = (*arguments, {})
            for method in listening:
                method(*arguments)

        self.__dict__[turn] = call
        return call

    def drain(self) -> None:
        """Wait for the steps under way, with a bar that goes on."""
        for callback in self.callbacks:
            if isinstance(callback, ProgressBar):
                callback.drain()

    def close(self) -> None:
        """Give the terminal back."""
        for callback in self.callbacks:
            if isinstance(callback, ProgressBar):
                callback.close()


def _listens(callback: Any, turn: str) -> bool:
    if turn in vars(callback) or not isinstance(callback, Callback):
        return True
    names = [turn]
    if turn.startswith("on_train_batch"):
        names.append(turn.replace("train_", ""))
    return any(
        name in vars(callback) or getattr(type(callback), name) is not getattr(Callback, name)
        for name in names
    )
