"""`Store`: arrays by the path of their owner and their key there, read from a file or to be."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Store:
    """Arrays of a file, and the names of their owners.

    Args:
        arrays: for each path of an owner, arrays by key ("0", "1", ...).
        names: for each path of an owner, its name.
    """

    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def at(self, path: str) -> dict[str, np.ndarray]:
        """The arrays of the owner at `path`; none where there is no such path."""
        found = self.arrays.get(path)
        if found is None:  # the name that Keras 2.13 gave
            found = self.arrays.get(path.replace("layers", "_layer_checkpoint_dependencies"))
        return {} if found is None else found

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for arrays in self.arrays.values() for a in arrays.values())


class OwnVariables(MutableMapping[str, Any]):
    """What a layer's `save_own_variables(store)` and `load_own_variables(store)` get."""

    def __init__(self, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        self._arrays = dict(arrays or {})

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._arrays[str(key)] = np.asarray(value)

    def __delitem__(self, key: str) -> None:
        del self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)
