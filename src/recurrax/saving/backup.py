"""`BackupAndRestore`: training that goes on after its process was killed."""

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from recurrax.saving import archive, atomic, h5_format, strict_json, transfer
from recurrax.saving.errors import LoadError
from recurrax.saving.store import Store
from recurrax.saving.tree import Node
from recurrax.training.callbacks import Callback
from recurrax.variable import Variable

_NAME, _STATE, _VARIABLES = "backup.zip", "state.json", "variables.h5"


class BackupAndRestore(Callback):
    """Backs the training up, so that the same `fit` in a new process goes on where it stood.

    A resumed run gives the numbers of an uninterrupted one: weights, optimizer, metrics, states and
    seeds of layers, the order of the data drawn from NumPy's global generator, the plain settings
    of the other callbacks (`wait`, `best`, ...) and the history are restored. Data that an iterator
    gives are drawn again from its beginning; what draws random numbers elsewhere (in torch, say)
    draws new ones.

    Args:
        backup_dir: a folder for this training alone; made where there is none.
        save_freq: "epoch", or a number of steps.
        delete_checkpoint: remove the backup when the training ends.

    Raises:
        ValueError: another `save_freq`.
        LoadError: (when training begins) the backup is damaged, or one of another model.
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f'save_freq must be "epoch" or a number of steps, but it is {save_freq!r}.'
            )
        self.backup_dir = Path(backup_dir)
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self._others: list[Any] = []
        self._restored: dict[str, Any] | None = None
        self._epoch = 0
        self._began_with: list[Any] = []
        self._epoch_began_with: list[Any] = []

    @property
    def path(self) -> Path:
        """The backup's file."""
        return self.backup_dir / _NAME

    def on_train_begin(self, logs: Any = None) -> None:
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        atomic.remove_leftovers(self.backup_dir, _NAME)
        self._restored = self._restore() if self.path.exists() else None
        if self._restored is None:
            self._began_with = _random_state()
            return
        self._began_with = self._restored["random_at_start"]
        _set_random_state(self._began_with)
        self.model._resume_at = (self._restored["epoch"], self._restored["step"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        if self._restored is not None:
            # Only now, since fit begins each epoch with fresh metrics.
            _set_random_state(self._restored["random_at_epoch"])
            self._fill(self._restored["store"], ("metrics",))
            for callback, values in zip(self._others, self._restored["callbacks"], strict=False):
                vars(callback).update(_decoded(values))
            history = self.model.history
            history.epoch = self._restored["epochs"]
            history.history = _decoded(self._restored["history"])
            self._restored = None
            self._epoch_began_with = _random_state()
            return
        self._epoch_began_with = _random_state()
        if epoch:  # the end of an epoch is here, when all callbacks have heard of it
            self._back_up(epoch, 0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = batch + 1
        last = done == self.params.get("steps")
        if isinstance(self.save_freq, int) and done % self.save_freq == 0 and not last:
            self._back_up(self._epoch, done)

    def on_train_end(self, logs: Any = None) -> None:
        if self.delete_checkpoint:
            self.path.unlink(missing_ok=True)

    def _groups(self) -> dict[str, list[Variable]]:
        return {
            "trainable": self.model.trainable_variables,
            "non_trainable": self.model.non_trainable_variables,
            "optimizer": self.model.optimizer.variables,
            "metrics": self.model.metrics_variables,
        }

    def _back_up(self, epoch: int, step: int) -> None:
        store = Store()
        for name, variables in self._groups().items():
            store.arrays[name] = {str(i): v.numpy() for i, v in enumerate(variables)}
        history = self.model.history
        state = {
            "epoch": epoch,
            "step": step,
            "random_at_start": self._began_with,
            "random_at_epoch": self._epoch_began_with,
            "callbacks": [_encoded(_plain(vars(c))) for c in self._others],
            "epochs": history.epoch,
            "history": _encoded(history.history),
        }
        members = {_STATE: json.dumps(state).encode(), _VARIABLES: h5_format.write(store)}
        buffer = io.BytesIO()
        archive.write_archive(buffer, members)
        atomic.write_bytes(self.path, buffer.getvalue())

    def _restore(self) -> dict[str, Any]:
        data = self.path.read_bytes()
        members = archive.read_directory(data)
        if set(members) != {_STATE, _VARIABLES}:
            raise LoadError(f"{str(self.path)!r} is not a backup.")
        text = bytes(archive.read_member(data, members[_STATE]))
        state = strict_json.parse(text, f"The backup {str(self.path)!r}")
        store = h5_format.read(archive.read_member(data, members[_VARIABLES]))
        self._fill(store, ("trainable", "non_trainable", "optimizer"))
        return {**state, "store": store}

    def _fill(self, store: Store, names: tuple[str, ...]) -> None:
        groups = self._groups()
        problems = []
        for name in names:
            node = Node(name, self.model, self.model.name)
            problems.append(transfer.mismatch(node, groups[name], store.at(name)))
        transfer.report([p for p in problems if p], skip_mismatch=False)
        for name in names:
            for i, variable in enumerate(groups[name]):
                variable.assign(store.at(name)[str(i)])

    def set_callbacks(self, callbacks: list[Any]) -> None:
        """Called by `fit` with all callbacks, whose settings are backed up too."""
        self._others = [c for c in callbacks if c is not self]


def _random_state() -> list[Any]:
    """The states of NumPy's and Python's global generators, as data."""
    name, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return [[name, np.asarray(keys).tolist(), *rest], [version, list(internal), gauss]]


def _set_random_state(state: list[Any]) -> None:
    (name, keys, *rest), (version, internal, gauss) = state
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    random.setstate((version, tuple(internal), gauss))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    kinds = bool | int | float | np.floating | None
    return {k: v for k, v in values.items() if isinstance(v, kinds)}


def _encoded(value: Any) -> Any:
    """Numbers as data that JSON keeps to the last bit, infinities too."""
    if isinstance(value, dict):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    if isinstance(value, float | np.floating):
        return {"float": float(value).hex()}
    return value.item() if isinstance(value, np.generic) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"float"}:
            return float.fromhex(value["float"])
        return {key: _decoded(item) for key, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value
