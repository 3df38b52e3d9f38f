"""Weights as a safetensors file, under names that people read: `layers.lstm.cell.kernel`.

The format: the length of a JSON header in 8 bytes, the header, the arrays one after the other.
"""

import json
import math
import struct
from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np

from recurrax.saving import strict_json
from recurrax.saving.errors import LoadError
from recurrax.saving.limits import DEFAULT, Limits
from recurrax.saving.store import Store
from recurrax.saving.tree import Node

_DTYPES: dict[str, Any] = {
    "BOOL": np.dtype("?"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    **{f"I{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"U{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)},
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_NAMES = "recurrax.names"


def write(store: Store, nodes: Iterable[Node]) -> bytes:
    """The file that holds `store`; `nodes` say how its arrays are called."""
    labels = _labels(nodes)
    header: dict[str, Any] = {
        "__metadata__": {"format": "recurrax", _NAMES: json.dumps(store.names)}
    }
    chunks, position = [], 0
    for path, arrays in store.arrays.items():
        for key, array in arrays.items():
            chunk = np.ascontiguousarray(array).tobytes()
            header[labels.get((path, key), _dotted(path, key))] = {
                "dtype": _CODES[array.dtype],
                "shape": list(array.shape),
                "data_offsets": [position, position + len(chunk)],
            }
            chunks.append(chunk)
            position += len(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)


def read(data: bytes, nodes: Iterable[Node], limits: Limits = DEFAULT) -> Store:
    """What the file `data` holds; `nodes` say how its arrays are called.

    Raises:
        LoadError: not such a file, a damaged one, or more than `limits`.
    """
    if len(data) < 8 or struct.unpack_from("<Q", data)[0] > len(data) - 8:
        raise LoadError("The file is not a safetensors file, or it is cut off.")
    (length,) = struct.unpack_from("<Q", data)
    header = strict_json.parse(data[8 : 8 + length], "The header of the safetensors file", limits)
    if not isinstance(header, dict):
        raise LoadError("The header of the safetensors file is no dictionary.")
    metadata = header.pop("__metadata__", {})
    body = memoryview(data)[8 + length :]
    found = {name: _array(name, entry, body) for name, entry in header.items()}
    if sum(array.nbytes for array in found.values()) != len(body):
        raise LoadError("The arrays of the safetensors file lie over each other, or leave gaps.")
    store = Store()
    owners = {label: place for place, label in _labels(nodes).items()}
    for name, array in found.items():
        path, _, key = name.rpartition(".")
        path, key = owners.get(name, (path.replace(".", "/"), key))
        store.arrays.setdefault(path, {})[key] = array
    names = metadata.get(_NAMES) if isinstance(metadata, dict) else None
    if isinstance(names, str):
        names = strict_json.parse(names, "The names in the safetensors file", limits)
        store.names = {k: v for k, v in dict(names).items() if isinstance(v, str)}
    return store


def _labels(nodes: Iterable[Node]) -> dict[tuple[str, str], str]:
    """For the place of each array, the name of its variable."""
    labels: dict[tuple[str, str], str] = {}
    for node in nodes:
        names = [variable.name for variable in node.variables]
        for number, name in enumerate(names):
            label = name if names.count(name) == 1 else str(number)
            labels[node.path, str(number)] = _dotted(node.path, label)
    return labels


def _dotted(path: str, key: str) -> str:
    return f"{path}/{key}".lstrip("/").replace("/", ".")


def _array(name: str, entry: Any, body: memoryview) -> np.ndarray:
    try:
        dtype, shape, (start, end) = (
            _DTYPES[entry["dtype"]],
            tuple(entry["shape"]),
            entry["data_offsets"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"The safetensors file describes {name!r} as {entry!r:.80}.") from error
    numbers = (*shape, start, end)
    if len(shape) > 32 or not all(type(n) is int and 0 <= n <= 2**48 for n in numbers):
        raise LoadError(f"The safetensors file describes {name!r} as {entry!r:.80}.")
    if end > len(body) or end - start != math.prod(shape) * dtype.itemsize:
        raise LoadError(
            f"The safetensors file says that {name!r} has shape {shape} and type {dtype}, but "
            f"holds {end - start:,} bytes of it."
        )
    return np.frombuffer(body[start:end], dtype).reshape(shape)
