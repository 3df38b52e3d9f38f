"""Files that are whole or not there."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_file(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that at every moment the old or the new one stands there.

    It is written beside, flushed to the disk and renamed.

    Args:
        path: where to; the folder must exist.
        write: called with the open file.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"Cannot save to {os.fspath(path)!r}: there is no folder {str(target.parent)!r}. "
            "Make it first."
        )
    if target.is_dir():
        raise IsADirectoryError(f"Cannot save to {os.fspath(path)!r}: it is a folder.")
    beside = target.parent / f".{target.name}.{secrets.token_hex(6)}.part"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(target))
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    _sync_folder(target.parent)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` so that at every moment the old or the new file stands there."""
    write_file(path, lambda file: file.write(data))


def remove_leftovers(folder: Path, name: str) -> None:
    """Remove what killed writers of `name` left beside it."""
    for path in folder.glob(f".{name}.*.part"):
        path.unlink(missing_ok=True)


def _mode(target: Path) -> int:
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        return 0o666


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
