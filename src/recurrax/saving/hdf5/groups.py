"""The members of an HDF5 group, in the old form (a B-tree) and the new (links in its header)."""

from collections.abc import Iterator
from typing import Any

from recurrax.saving.errors import LoadError
from recurrax.saving.hdf5 import messages
from recurrax.saving.hdf5.cursor import UNDEFINED, expect, take, unpack

_ENTRY_SIZE = 40
_MAX_LEVEL = 16
_SOFT = 2


def members(data: Any, found: list[messages.Message]) -> Iterator[tuple[str, int]]:
    """Names and addresses of what a group with these header messages holds.

    Raises:
        LoadError: a link that leads elsewhere, or a damaged file.
    """
    for message in found:
        if message.kind == messages.SYMBOL_TABLE:
            tree, heap = unpack(data, message.start, "QQ", message.end)
            yield from _symbols(data, tree, _names(data, heap), set())
        elif message.kind == messages.LINK:
            yield messages.read_link(data, message)
        elif message.kind == messages.LINK_INFO:
            _, flags = unpack(data, message.start, "BB", message.end)
            (heap,) = unpack(data, message.start + (10 if flags & 1 else 2), "Q", message.end)
            if heap != UNDEFINED:
                raise LoadError(
                    "The HDF5 file keeps a group's links in a dense heap: unsupported. Write it "
                    "anew with h5py.File(path, 'w'), without libver='latest' and track_order."
                )


def _names(data: Any, heap: int) -> Any:
    expect(data, heap, b"HEAP")
    size, _, start = unpack(data, heap + 8, "QQQ")
    return take(data, start, size)


def _symbols(data: Any, address: int, names: Any, seen: set[int]) -> Iterator[tuple[str, int]]:
    """The entries of a B-tree node and all below it."""
    if address in seen:
        raise LoadError("The HDF5 file is damaged: a group's tree runs in a circle.")
    seen.add(address)
    expect(data, address, b"TREE")
    kind, level, used = unpack(data, address + 4, "BBH")
    if kind != 0 or level > _MAX_LEVEL:
        raise LoadError("The HDF5 file is damaged: a group's tree is none.")
    for position in range(used):
        (child,) = unpack(data, address + 32 + 16 * position, "Q")
        if level:
            yield from _symbols(data, child, names, seen)
        else:
            yield from _leaf(data, child, names, seen)


def _leaf(data: Any, address: int, names: Any, seen: set[int]) -> Iterator[tuple[str, int]]:
    if address in seen:
        raise LoadError("The HDF5 file is damaged: a group's tree runs in a circle.")
    seen.add(address)
    expect(data, address, b"SNOD")
    (count,) = unpack(data, address + 6, "H")
    for position in range(count):
        entry = address + 8 + _ENTRY_SIZE * position
        name_start, target, cache = unpack(data, entry, "QQI")
        rest = take(names, name_start, len(names) - name_start)
        name = messages.text(bytes(rest[:1024]))
        if cache == _SOFT or target == UNDEFINED:
            raise LoadError(
                f"The HDF5 file has {name!r} as a soft link: weights must stand in the file itself."
            )
        yield name, target
