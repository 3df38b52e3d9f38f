"""Reading bytes of a file with every offset checked."""

import struct
from typing import Any

from recurrax.saving.errors import LoadError

UNDEFINED = 0xFFFFFFFFFFFFFFFF


def unpack(data: Any, offset: int, layout: str, end: int | None = None) -> tuple[Any, ...]:
    """Unpack little-endian values at `offset`.

    Raises:
        LoadError: they do not lie inside the first `end` bytes, or inside the data.
    """
    packing = struct.Struct("<" + layout)
    check_inside(data, offset, packing.size, end)
    return packing.unpack_from(data, offset)


def take(data: Any, offset: int, size: int, end: int | None = None) -> Any:
    """The `size` bytes at `offset`, not copied.

    Raises:
        LoadError: they do not lie inside the first `end` bytes, or inside the data.
    """
    check_inside(data, offset, size, end)
    return data[offset : offset + size]


def check_inside(data: Any, offset: int, size: int, end: int | None = None) -> None:
    """Raise LoadError where `size` bytes at `offset` do not lie inside."""
    end = len(data) if end is None else min(end, len(data))
    if size < 0 or offset < 0 or offset + size > end:
        raise LoadError(
            f"The HDF5 file is cut off or damaged: {size} bytes at {offset} do not lie inside it."
        )


def expect(data: Any, offset: int, signature: bytes) -> None:
    """Raise LoadError where `signature` does not stand at `offset`."""
    if bytes(take(data, offset, len(signature))) != signature:
        raise LoadError(
            f"The HDF5 file is damaged: {signature.decode()!r} was expected at {offset}."
        )
