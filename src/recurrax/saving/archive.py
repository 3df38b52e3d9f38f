"""Reading and writing the zip archive that a `.keras` file is.

An own reader, because of what a general one accepts: it takes two methods of compression and
plain names, compares every statement of the directory with the member itself, and unpacks into
memory only, never to the disk.
"""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from recurrax.saving.errors import LoadError
from recurrax.saving.limits import DEFAULT, Limits

SIGNATURE = b"PK"  # how archives begin
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x1, 0x800
_LINK, _KIND = 0xA000, 0xF000
_FULL = 0xFFFFFFFF


@dataclass(frozen=True)
class Member:
    """One file of an archive: where its data stand and what they unpack to."""

    name: str
    method: int
    start: int
    stored: int
    size: int
    crc: int


def read_directory(data: bytes, limits: Limits = DEFAULT) -> dict[str, Member]:
    """The members of the archive `data`, checked, by name.

    Raises:
        LoadError: no zip archive; a name that leads out of it, or stands twice; a link; an
            encrypted or overlapping member; statements that contradict each other; more than
            `limits`.
    """
    count, offset, size = _end(data)
    if count > limits.members:
        raise LoadError(
            f"The archive has {count:,} members, more than the limit members={limits.members:,}."
        )
    if offset + size > len(data) or count * _ENTRY.size > size:
        raise LoadError("The archive's directory does not lie inside the file: it is cut off.")
    members: dict[str, Member] = {}
    position, end = offset, offset + size
    for _ in range(count):
        member, position = _entry(data, position, end, limits)
        if member.name in members:
            raise LoadError(f"The archive has two members of the name {member.name!r}.")
        members[member.name] = member
    if position != end:
        raise LoadError("The archive's directory is larger than its entries.")
    _check_apart(members, offset)
    return members


def read_member(data: bytes, member: Member) -> bytes | memoryview:
    """The unpacked content of a member; no copy where it is stored as it is.

    Raises:
        LoadError: it does not unpack to the size and checksum that the directory gives.
    """
    packed = memoryview(data)[member.start : member.start + member.stored]
    if member.method == _STORED:
        content = packed
    else:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = unpacker.decompress(packed, member.size + 1)
        except zlib.error as error:
            raise LoadError(
                f"{member.name!r} in the archive cannot be unpacked: {error}."
            ) from error
        if not unpacker.eof and len(content) <= member.size:
            raise LoadError(f"{member.name!r} in the archive is cut off.")
    if len(content) != member.size:
        raise LoadError(
            f"{member.name!r} in the archive does not unpack to the {member.size:,} bytes that the "
            "directory says."
        )
    if zlib.crc32(content) != member.crc:
        raise LoadError(f"{member.name!r} in the archive is damaged: its checksum differs.")
    return content


def write_archive(file: BinaryIO, members: Mapping[str, bytes]) -> None:
    """Write an archive; members are stored as they are, as Keras does."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            # A fixed date, so that the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)


def _end(data: bytes) -> tuple[int, int, int]:
    """Number of entries, offset and size of the directory."""
    position = data.rfind(b"PK\5\6", max(0, len(data) - _END.size - 0xFFFF))
    if data[:2] != SIGNATURE or position < 0 or position + _END.size > len(data):
        raise LoadError("The file is not a zip archive, or its end is cut off.")
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(data, position)
    if position + _END.size + comment != len(data):
        raise LoadError("Bytes follow the end of the archive.")
    locator = position - _END_64_LOCATOR.size
    if locator >= 0 and data[locator : locator + 4] == b"PK\6\7":
        _, disk, start, disks = _END_64_LOCATOR.unpack_from(data, locator)
        if start + _END_64.size > len(data) or data[start : start + 4] != b"PK\6\6" or disks != 1:
            raise LoadError("The archive's directory cannot be found.")
        fields = _END_64.unpack_from(data, start)
        disk, first_disk, here, count, size, offset = fields[4:]
    if disk or first_disk or here != count:
        raise LoadError("The archive is one part of several.")
    return count, offset, size


def _entry(data: bytes, position: int, end: int, limits: Limits) -> tuple[Member, int]:
    if position + _ENTRY.size > end or data[position : position + 4] != b"PK\1\2":
        raise LoadError("The archive's directory is damaged.")
    fields = _ENTRY.unpack_from(data, position)
    flags, method, crc, stored, size = fields[3], fields[4], *fields[7:10]
    name_length, extra_length, comment_length = fields[10:13]
    attributes, start = fields[15:]
    after_name = position + _ENTRY.size + name_length
    after = after_name + extra_length + comment_length
    if after > end:
        raise LoadError("The archive's directory is damaged.")
    raw_name = data[after_name - name_length : after_name]
    name = _checked_name(raw_name, flags)
    stored, size, start = _wide(
        data[after_name : after_name + extra_length], stored, size, start, name
    )
    if flags & _ENCRYPTED:
        raise LoadError(f"{name!r} in the archive is encrypted.")
    # The upper half is the mode of the file where a Unix program wrote the archive.
    if (attributes >> 16) & _KIND == _LINK:
        raise LoadError(f"{name!r} in the archive is a symbolic link.")
    if method not in (_STORED, _DEFLATED):
        raise LoadError(f"{name!r} in the archive is packed by the unknown method {method}.")
    if method == _STORED and stored != size:
        raise LoadError(f"{name!r} in the archive has two sizes, {stored:,} and {size:,}.")
    if size > limits.unpacked_bytes or size > limits.expansion * max(stored, 64):
        raise LoadError(
            f"{name!r} in the archive would unpack from {stored:,} to {size:,} bytes, more than "
            f"the limits expansion={limits.expansion} and "
            f"unpacked_bytes={limits.unpacked_bytes:,} allow."
        )
    return Member(
        name, method, _data_start(data, start, raw_name, method), stored, size, crc
    ), after


def _checked_name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError as error:
        raise LoadError(f"A member of the archive has the unreadable name {raw!r}.") from error
    parts = name.removesuffix("/").split("/")
    outside = any(part in ("", ".", "..") for part in parts)
    if outside or "\\" in name or ":" in name or not name.isprintable():
        raise LoadError(
            f"A member of the archive has the name {name!r}, which leads out of it: names are "
            "relative, such as 'config.json'."
        )
    return name


def _wide(extra: bytes, stored: int, size: int, start: int, name: str) -> tuple[int, int, int]:
    """The sizes and the start, from the zip64 field where they do not fit into 32 bits."""
    values = {"size": size, "stored": stored, "start": start}
    missing = [key for key, value in values.items() if value == _FULL]
    position = 0
    while missing and position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            if length < 8 * len(missing) or position + 4 + length > len(extra):
                break
            found = struct.unpack_from(f"<{len(missing)}Q", extra, position + 4)
            values.update(zip(missing, found, strict=True))
            return values["stored"], values["size"], values["start"]
        position += 4 + length
    if missing:
        raise LoadError(f"{name!r} in the archive has a size that cannot be read.")
    return stored, size, start


def _data_start(data: bytes, start: int, name: bytes, method: int) -> int:
    """Where a member's data begin, after its own header."""
    if start + _LOCAL.size > len(data) or data[start : start + 4] != b"PK\3\4":
        raise LoadError(f"The archive's directory says wrongly where {name!r} begins.")
    fields = _LOCAL.unpack_from(data, start)
    name_start = start + _LOCAL.size
    if data[name_start : name_start + fields[9]] != name or fields[3] != method:
        raise LoadError(f"{name!r} in the archive contradicts the directory.")
    return name_start + fields[9] + fields[10]


def _check_apart(members: Mapping[str, Member], directory: int) -> None:
    """Members that share bytes are how a small archive unpacks to a huge one."""
    end = 0
    for member in sorted(members.values(), key=lambda m: m.start):
        if member.start < end or member.start + member.stored > directory:
            raise LoadError(f"{member.name!r} in the archive lies over something else.")
        end = member.start + member.stored
