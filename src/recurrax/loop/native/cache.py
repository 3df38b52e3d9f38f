"""Compiled code kept on disk, so that a second process need not compile.

A file holds a magic word, the SHA-256 of its name and of what follows, and the object code. Its
name tells the body, the shapes, the processor and the compiler's version. Writers write beside it
and rename: readers see a whole file or none. Anything that does not fit its checksum is as good as
absent. What is loaded is run, so a folder that somebody else owns or may write to is not used.
Beyond a limit, what was not used for longest goes; any process may remove any file at any
time, since all that another one loses is the time to compile it anew.
"""

import contextlib
import functools
import hashlib
import logging
import os
import pathlib
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator

log = logging.getLogger(__name__)
PREFIX = "recurrax_"  # of every name
LIMIT = 256 << 20  # bytes of all files together
_MAGIC = b"recurrax kernel 2\n"
_HOUR, _DAY = 3600, 86400


def directory() -> pathlib.Path | None:
    """Where code is kept: `RECURRAX_CACHE_DIR` (empty: nowhere), or the user's cache directory."""
    chosen = os.environ.get("RECURRAX_CACHE_DIR")
    if chosen is not None:
        return pathlib.Path(chosen) if chosen else None
    try:
        home = pathlib.Path.home()
    except RuntimeError:  # a user that the system does not know
        home = None
    if sys.platform == "darwin":
        base = home and home / "Library" / "Caches"
    else:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():
            base = home and home / ".cache"
    return base and base / "recurrax"


def _is_trusted(folder: pathlib.Path) -> bool:
    """Whether nobody but this user can have put code into `folder`; if not, that is said once.

    Raises:
        OSError: there is no such folder, or it cannot be looked at.
    """
    status = folder.stat()
    if status.st_uid != os.geteuid():
        _not_trusted(folder, "belongs to another user", "name a folder of your own")
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _not_trusted(
            folder, "may be written to by others", f"run `chmod go-w {folder}`, or name another"
        )
    else:
        return True
    return False


@functools.cache
def _not_trusted(folder: pathlib.Path, fault: str, mend: str) -> None:
    """Say so, once for each folder."""
    warnings.warn(
        f"Compiled kernels are neither read from {folder} nor kept there, since it {fault}: each "
        f"process compiles its own. To keep them, {mend} with RECURRAX_CACHE_DIR.",
        stacklevel=2,
    )


def _digest(name: str, code: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + code).digest()


def load(name: str) -> bytes | None:
    """The object code kept under `name`, or None."""
    folder = directory()
    if folder is None:
        return None
    path = folder / name
    try:
        if not _is_trusted(folder):
            return None
        with path.open("rb") as file:
            held = file.read()
            status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid():  # it was put there while others might
            return None
    except OSError:
        return None
    if time.time() - status.st_mtime > _DAY:
        with contextlib.suppress(OSError):  # a folder that may only be read
            os.utime(path)
    start = len(_MAGIC) + 32
    code = held[start:]
    if held[: len(_MAGIC)] != _MAGIC or _digest(name, code) != held[len(_MAGIC) : start]:
        log.warning("%s is damaged, compiling anew", path)
        return None
    return code


@functools.cache
def _not_kept(folder: pathlib.Path, error: str) -> None:
    """Say so, once for each reason."""
    log.info("compiled code is not kept in %s: %s", folder, error)


def store(name: str, code: bytes) -> None:
    """Keep `code` under `name`; a disk that will not take it is not an error."""
    folder = directory()
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_trusted(folder):
            return
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    except OSError as error:
        _not_kept(folder, error.strerror or str(error))
        return
    digest = _digest(name, code)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + digest + code)
        os.replace(temporary, folder / name)
    except OSError as error:
        _not_kept(folder, error.strerror or str(error))
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    if digest[0] < 2:  # one kernel in 128: to look at all files is dearer than to write one
        sweep(folder)


def files(folder: pathlib.Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """The files of this cache in `folder`, those that writers have begun among them."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((PREFIX, f".{PREFIX}")):
                with contextlib.suppress(OSError):  # another process has removed it
                    yield entry, entry.stat(follow_symlinks=False)


def sweep(folder: pathlib.Path) -> None:
    """Remove what killed writers have left, and the kernels unused for longest beyond `LIMIT`."""
    kernels = []
    for entry, status in files(folder):
        if entry.name.startswith(PREFIX):
            kernels.append((status.st_mtime, status.st_size, entry.path))
        elif time.time() - status.st_mtime > _HOUR:
            _remove(entry.path)
    room = LIMIT
    for _, size, path in sorted(kernels, reverse=True):
        room -= size
        if room < 0:
            _remove(path)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
