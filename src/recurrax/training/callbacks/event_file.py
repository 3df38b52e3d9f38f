"""TensorBoard's event files: records of protocol buffers, written by hand.

A record is its length (uint64), the masked CRC-32C of that, the bytes, and the masked CRC-32C of
them (TFRecord); the bytes are an `Event` of tensorboard/compat/proto/event.proto.
"""

import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of `data`, masked as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _doubles(field: int, values: Any) -> bytes:
    return _bytes(field, np.asarray(values, "<f8").tobytes())


def scalar(tag: str, value: float) -> bytes:
    """A number, as a `Summary.Value`."""
    return _bytes(1, tag.encode()) + _float(2, value)


def histogram(tag: str, values: np.ndarray, bins: int = 30) -> bytes:
    """The distribution of an array's entries, as a `Summary.Value`."""
    values = np.asarray(values, "float64").ravel()
    counts, edges = np.histogram(values[np.isfinite(values)], bins)
    proto = _double(1, float(values.min())) + _double(2, float(values.max()))
    proto += _double(3, values.size) + _double(4, float(values.sum()))
    proto += _double(5, float(np.square(values).sum()))
    proto += _doubles(6, edges[1:]) + _doubles(7, counts)
    return _bytes(1, tag.encode()) + _bytes(5, proto)


class EventFile:
    """An event file in a folder, which is made if it is missing.

    Args:
        folder: where TensorBoard looks for runs.
    """

    _count = 0

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        EventFile._count += 1
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
        self.path = Path(folder) / f"{name}.{os.getpid()}.{EventFile._count}"
        self._file = self.path.open("ab")
        self._write(_double(1, time.time()) + _bytes(3, b"brain.Event:2"))

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._file.write(length + struct.pack("<I", masked_crc(length)))
        self._file.write(event + struct.pack("<I", masked_crc(event)))

    def add(self, step: int, *values: bytes) -> None:
        """Write values, as `scalar` and `histogram` make them, for a step."""
        summary = b"".join(_bytes(1, value) for value in values)
        event = _double(1, time.time()) + _varint(2 << 3) + _varint(step) + _bytes(5, summary)
        self._write(event)

    def flush(self) -> None:
        """Let readers see what was written."""
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
