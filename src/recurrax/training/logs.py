"""Results of steps that are still on their way from the device."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np


class Logs(dict):
    """A dictionary of numbers that are fetched from the device when somebody looks at them.

    Handing it to callbacks costs nothing; reading a value waits for the step to end.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._pending = True

    @property
    def ready(self) -> bool:
        """Whether reading would not wait."""
        if self._pending:
            arrays: list[Any] = [v for v in super().values() if isinstance(v, jax.Array)]
            return all(array.is_ready() for array in arrays)
        return True

    def wait(self) -> None:
        """Wait for the step to end, fetching nothing."""
        if self._pending:
            jax.block_until_ready(list(super().values()))

    def fetch(self) -> "Logs":
        """Wait for the values; they are Python numbers and NumPy arrays from then on."""
        if self._pending:
            self._pending = False
            values = jax.device_get(dict(super().items()))
            for name, value in values.items():
                is_scalar = np.ndim(value) == 0 and not isinstance(value, str)
                super().__setitem__(name, float(value) if is_scalar else value)
        return self

    def __getitem__(self, name: str) -> Any:
        self.fetch()
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.fetch()
        return super().get(name, default)

    def items(self) -> Any:
        self.fetch()
        return super().items()

    def values(self) -> Any:
        self.fetch()
        return super().values()

    def __iter__(self) -> Iterator[str]:
        # Overridden so that `dict(logs)` goes through `__getitem__`.
        return iter(list(super().keys()))

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def __repr__(self) -> str:
        return repr(self.copy())


def flatten(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries among the values, as metrics return them, put into the one dictionary."""
    flat: dict[str, Any] = {}
    for name, value in logs.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value))
        else:
            flat[name] = value
    return flat
