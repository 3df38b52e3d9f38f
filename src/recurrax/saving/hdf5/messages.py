"""The messages of an HDF5 object header: shapes, types, layouts, attributes, links.

After the HDF5 File Format Specification, version 3.0, chapter IV.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from recurrax.saving.errors import LoadError
from recurrax.saving.hdf5.cursor import check_inside, expect, take, unpack

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL = 0x01, 0x02, 0x03, 0x06, 0x07
LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION = 0x08, 0x0B, 0x0C, 0x10
SYMBOL_TABLE, ATTRIBUTE_INFO = 0x11, 0x15
_SHARED = 0x02
_MAX_MESSAGES = 100_000
_MAX_RANK = 32


@dataclass(frozen=True)
class Datatype:
    """The type of an element: a NumPy dtype, or a string of variable length (dtype None)."""

    dtype: np.dtype | None
    size: int


@dataclass(frozen=True)
class Message:
    """One message of an object header."""

    kind: int
    start: int
    end: int


def header_messages(data: Any, address: int) -> Iterator[Message]:
    """The messages of the object header at `address`.

    Raises:
        LoadError: it is damaged, runs in a circle, or shares a message with another object.
    """
    version_2 = bytes(take(data, address, 4)) == b"OHDR"
    blocks = [_first_block_2(data, address) if version_2 else _first_block_1(data, address)]
    seen: set[int] = set()
    count = 0
    while blocks:
        start, end, extra = blocks.pop(0)
        if start in seen:
            raise LoadError("The HDF5 file is damaged: an object header runs in a circle.")
        seen.add(start)
        head = (4 + extra) if version_2 else 8
        while start + head <= end:
            count += 1
            if count > _MAX_MESSAGES:
                raise LoadError("The HDF5 file is damaged: an object header has no end.")
            if version_2:
                kind, size, flags = unpack(data, start, "BHB", end)
            else:
                kind, size, flags = unpack(data, start, "HHB", end)
            body = start + head
            check_inside(data, body, size, end)
            start = body + size
            if kind == CONTINUATION:
                blocks.append(_next_block(data, body, version_2, extra))
            elif kind:
                if flags & _SHARED:
                    raise LoadError("The HDF5 file shares messages between objects: unsupported.")
                yield Message(kind, body, body + size)


def _first_block_1(data: Any, address: int) -> tuple[int, int, int]:
    version, size = unpack(data, address, "BxHII")[0::3]
    if version != 1:
        raise LoadError(f"The HDF5 file is damaged: no object header stands at {address}.")
    check_inside(data, address + 16, size)
    return address + 16, address + 16 + size, 0


def _first_block_2(data: Any, address: int) -> tuple[int, int, int]:
    _, version, flags = unpack(data, address, "4sBB")
    if version != 2:
        raise LoadError(f"The HDF5 file has an object header of unknown version {version}.")
    start = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    (size,) = unpack(data, start, {1: "B", 2: "H", 4: "I", 8: "Q"}[width])
    check_inside(data, start + width, size)
    return start + width, start + width + size, 2 if flags & 4 else 0


def _next_block(data: Any, body: int, version_2: bool, extra: int) -> tuple[int, int, int]:
    start, size = unpack(data, body, "QQ")
    check_inside(data, start, size)
    if not version_2:
        return start, start + size, 0
    expect(data, start, b"OCHK")
    return start + 4, start + size - 4, extra


def read_shape(data: Any, start: int, end: int) -> tuple[int, ...]:
    """The shape that a dataspace message gives.

    Raises:
        LoadError: of too many axes, or damaged.
    """
    version, rank, flags = unpack(data, start, "BBB", end)
    if version not in (1, 2) or rank > _MAX_RANK or (version == 2 and flags > 1):
        raise LoadError(f"The HDF5 file has a dataspace that is no array of {rank} axes.")
    kind = unpack(data, start + 3, "B", end)[0] if version == 2 else 1
    if version == 2 and kind == 2:  # a null dataspace
        return (0,)
    return unpack(data, start + (8 if version == 1 else 4), f"{rank}Q", end)


def read_datatype(data: Any, start: int, end: int) -> Datatype:
    """The element type that a datatype message gives.

    Raises:
        LoadError: no number, truth value or string.
    """
    head, bits, _, _, size = unpack(data, start, "BBBBI", end)
    kind = head & 0x0F
    order = ">" if bits & 1 else "<"
    if kind == 0 and size in (1, 2, 4, 8):
        offset, precision = unpack(data, start + 8, "HH", end)
        if offset == 0 and precision == 8 * size:
            return Datatype(np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}"), size)
    elif kind == 1 and size in (2, 4, 8):
        found = unpack(data, start + 8, "HHBBBBI", end)
        for dtype, layout in _FLOATS.items():
            if found == layout:
                return Datatype(np.dtype(dtype).newbyteorder(order), size)
    elif kind == 3:
        return Datatype(np.dtype(f"S{size}"), size) if size else Datatype(np.dtype("S1"), 0)
    elif kind == 5 and size == 2:  # bfloat16, as h5py writes it
        return Datatype(np.dtype("V2"), size)
    elif kind == 8 and size == 1:  # an enumeration of FALSE and TRUE
        return Datatype(np.dtype("?"), size)
    elif kind == 9 and bits & 0x0F == 1 and size == 16:
        return Datatype(None, size)
    raise LoadError(
        f"The HDF5 file has elements of class {kind} and {size} bytes, which are no weights: "
        "numbers, truth values and strings are expected."
    )


# Bit offset, precision, exponent at, exponent bits, mantissa at, mantissa bits, bias.
_FLOATS = {
    "f2": (0, 16, 10, 5, 0, 10, 15),
    "f4": (0, 32, 23, 8, 0, 23, 127),
    "f8": (0, 64, 52, 11, 0, 52, 1023),
    ml_dtypes.bfloat16: (0, 16, 7, 8, 0, 7, 127),
}


def read_layout(data: Any, start: int, end: int) -> tuple[int, int]:
    """Where the elements stand and how many bytes they are; (UNDEFINED, 0) for nowhere.

    Raises:
        LoadError: chunked, virtual or damaged.
    """
    version, kind = unpack(data, start, "BB", end)
    if version not in (3, 4):
        raise LoadError(f"The HDF5 file has a dataset layout of unknown version {version}.")
    if kind == 0:
        (size,) = unpack(data, start + 2, "H", end)
        check_inside(data, start + 4, size, end)
        return start + 4, size
    if kind == 1:
        return unpack(data, start + 2, "QQ", end)
    names = {2: "chunked or compressed", 3: "virtual (its values stand in other files)"}
    raise LoadError(
        f"The HDF5 file has a dataset that is {names.get(kind, 'of unknown layout')}: weights are "
        "stored in one piece. Write the file anew without chunks and compression."
    )


def read_attribute(data: Any, message: Message) -> tuple[str, Any]:
    """Name and value of an attribute: a string, or an array of numbers or strings.

    Raises:
        LoadError: damaged, or of another type.
    """
    start, end = message.start, message.end
    version, flags, name_size, type_size, space_size = unpack(data, start, "BBHHH", end)
    if version not in (1, 2, 3) or (version > 1 and flags & 3):
        raise LoadError("The HDF5 file has an attribute of unknown kind.")
    position = start + (9 if version == 3 else 8)

    def part(size: int) -> tuple[int, int]:
        nonlocal position
        begin = position
        check_inside(data, begin, size, end)
        position += -(-size // 8) * 8 if version == 1 else size
        return begin, begin + size

    begin, stop = part(name_size)
    name = text(data[begin:stop])
    datatype = read_datatype(data, *part(type_size))
    shape = read_shape(data, *part(space_size))
    count = math.prod(shape)
    values = take(data, position, count * datatype.size, end)
    if datatype.dtype is None:
        strings = [_heap_string(data, *unpack(values, 16 * i, "IQI")) for i in range(count)]
        return name, strings[0] if shape == () else np.array(strings, dtype=object).reshape(shape)
    if datatype.size == 0:
        return name, ""
    array = np.frombuffer(values, datatype.dtype).reshape(shape)
    if array.dtype.kind == "S" and shape == ():
        return name, text(array.item())
    return name, array


def _heap_string(data: Any, length: int, heap: int, index: int) -> str:
    """A string of variable length, from a global heap."""
    if length == 0:
        return ""
    expect(data, heap, b"GCOL")
    (heap_size,) = unpack(data, heap + 8, "Q")
    position, end = heap + 16, heap + heap_size
    while position + 16 <= end:
        found, _, size = unpack(data, position, "HH4xQ", end)
        if found == index and index:
            return text(take(data, position + 16, min(size, length), end))
        if found == 0:
            break
        position += 16 + -(-size // 8) * 8
    raise LoadError("The HDF5 file is damaged: a string is missing from its heap.")


def read_link(data: Any, message: Message) -> tuple[str, int]:
    """Name and target of a link.

    Raises:
        LoadError: a soft or external link.
    """
    start, end = message.start, message.end
    version, flags = unpack(data, start, "BB", end)
    if version != 1:
        raise LoadError(f"The HDF5 file has a link of unknown version {version}.")
    position = start + 2
    kind = 0
    if flags & 8:
        (kind,) = unpack(data, position, "B", end)
        position += 1
    position += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    width = 1 << (flags & 3)
    (length,) = unpack(data, position, {1: "B", 2: "H", 4: "I", 8: "Q"}[width], end)
    name = text(take(data, position + width, length, end))
    if kind:
        raise LoadError(
            f"The HDF5 file has {name!r} as {'a soft' if kind == 1 else 'an external'} link: "
            "weights must stand in the file itself."
        )
    return name, unpack(data, position + width + length, "Q", end)[0]


def text(raw: Any) -> str:
    """The string that null-terminated UTF-8 spells.

    Raises:
        LoadError: no UTF-8.
    """
    try:
        return bytes(raw).split(b"\0", 1)[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise LoadError("The HDF5 file is damaged: a name is not readable.") from error
