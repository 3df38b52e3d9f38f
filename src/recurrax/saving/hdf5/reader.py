"""Reading HDF5 files whose author nobody knows.

An own reader of the part that weights need, in place of the C library: it follows no link out of
its group, opens no other file, knows no filter and no virtual dataset, and reads an array only
where the file holds every byte of it, so that a file can cost no more than its own size.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from recurrax.saving.errors import LoadError
from recurrax.saving.hdf5 import groups, messages
from recurrax.saving.hdf5.cursor import UNDEFINED, take, unpack
from recurrax.saving.limits import DEFAULT, Limits

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass
class File:
    """The content of an HDF5 file.

    `groups` and `attributes` map paths without a leading slash ("" is the root) to the names of
    members and to attributes; `arrays` maps paths to arrays, which share the file's memory.
    """

    groups: dict[str, list[str]] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def read_file(data: bytes | memoryview, limits: Limits = DEFAULT) -> File:
    """Read the whole tree of an HDF5 file; arrays are views and cost nothing.

    Raises:
        LoadError: no HDF5 file, a damaged one, links or virtual, external, chunked or incomplete
            datasets, elements that are neither numbers nor strings, or more than `limits`.
    """
    data = memoryview(data)
    file = File()
    pending: list[tuple[str, int, tuple[int, ...]]] = [("", _root(data), ())]
    count = 0
    while pending:
        path, address, above = pending.pop()
        if address in above:
            raise LoadError(f"The HDF5 file runs in a circle: {path!r} stands inside itself.")
        if len(above) > limits.h5_depth:
            raise LoadError(f"The HDF5 file is nested deeper than h5_depth={limits.h5_depth}.")
        found = list(messages.header_messages(data, address))
        count += 1 + sum(message.kind == messages.ATTRIBUTE for message in found)
        attributes = _attributes(data, found)
        if attributes:
            file.attributes[path] = attributes
        if any(message.kind == messages.LAYOUT for message in found):
            file.arrays[path] = _array(data, found, path, attributes)
            continue
        names: dict[str, None] = {}
        for name, target in groups.members(data, found):
            if name in names or not name or "/" in name:
                raise LoadError(f"The HDF5 file has a bad or repeated name {name!r} in {path!r}.")
            names[name] = None
            pending.append((f"{path}/{name}" if path else name, target, (*above, address)))
            if count + len(pending) > limits.h5_objects:
                raise LoadError(
                    f"The HDF5 file has more objects than h5_objects={limits.h5_objects:,}."
                )
        file.groups[path] = list(names)
    return file


def _root(data: Any) -> int:
    """Address of the root group's header."""
    if bytes(data[:8]) != _SIGNATURE:
        raise LoadError("The file is not an HDF5 file.")
    (version,) = unpack(data, 8, "B")
    if version in (0, 1):
        sizes = unpack(data, 13, "BB")
        base = 24 if version == 0 else 28
        base_address, _, end, _ = unpack(data, base, "QQQQ")
        _, root = unpack(data, base + 32, "QQ")
    elif version in (2, 3):
        sizes = unpack(data, 9, "BB")
        base_address, _, end, root = unpack(data, 12, "QQQQ")
    else:
        raise LoadError(f"The HDF5 file is of unknown version {version}.")
    if sizes != (8, 8) or base_address != 0:
        raise LoadError("The HDF5 file has addresses of an unsupported size or base.")
    if end > len(data):
        raise LoadError(
            f"The HDF5 file is cut off: it should have {end:,} bytes and has {len(data):,}."
        )
    return root


def _attributes(data: Any, found: list[messages.Message]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for message in found:
        if message.kind == messages.ATTRIBUTE:
            name, value = messages.read_attribute(data, message)
            if name in attributes:
                raise LoadError(f"The HDF5 file has the attribute {name!r} twice.")
            attributes[name] = value
        elif message.kind == messages.ATTRIBUTE_INFO:
            _, flags = unpack(data, message.start, "BB", message.end)
            (heap,) = unpack(data, message.start + (4 if flags & 1 else 2), "Q", message.end)
            if heap != UNDEFINED:
                raise LoadError("The HDF5 file keeps attributes in a dense heap: unsupported.")
    return attributes


def _array(
    data: Any, found: list[messages.Message], path: str, attributes: dict[str, Any]
) -> np.ndarray:
    parts = {message.kind: message for message in found}
    if messages.EXTERNAL in parts:
        raise LoadError(
            f"The HDF5 file keeps the values of {path!r} in another file: weights must stand in "
            "the file itself."
        )
    if messages.FILTERS in parts:
        raise LoadError(f"The HDF5 file has {path!r} compressed: write it without compression.")
    if messages.DATASPACE not in parts or messages.DATATYPE not in parts:
        raise LoadError(f"The HDF5 file is damaged: {path!r} has no shape or no type.")
    spans = {kind: (message.start, message.end) for kind, message in parts.items()}
    shape = messages.read_shape(data, *spans[messages.DATASPACE])
    datatype = messages.read_datatype(data, *spans[messages.DATATYPE])
    start, size = messages.read_layout(data, *spans[messages.LAYOUT])
    if datatype.dtype is None or datatype.size == 0:
        raise LoadError(f"The HDF5 file has strings of variable length in {path!r}.")
    needed = math.prod(shape) * datatype.size
    if needed == 0:
        if max(shape) > 2**31:
            raise LoadError(f"The HDF5 file says that {path!r} has the shape {shape}.")
        return np.empty(shape, datatype.dtype)
    if start == UNDEFINED or size != needed:
        raise LoadError(
            f"The HDF5 file says that {path!r} has shape {shape} and type {datatype.dtype}, which "
            f"is {needed:,} bytes, but holds {0 if start == UNDEFINED else size:,}."
        )
    array = np.frombuffer(take(data, start, size), datatype.dtype).reshape(shape)
    if attributes.get("dtype") == "bfloat16":
        if datatype.size != 2:
            raise LoadError(f"The HDF5 file calls {path!r} bfloat16, but it is {datatype.dtype}.")
        return array.view(ml_dtypes.bfloat16)
    return array
