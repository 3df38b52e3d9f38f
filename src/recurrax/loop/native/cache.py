"""Compiled code kept on disk, so that a second process need not compile.

A file holds a magic word, the SHA-256 of its name and of what follows, and the object code. Its
name tells the body, the shapes, the processor and the compiler's version. Writers write beside it
and rename: readers see a whole file or none. Anything that does not fit its checksum is as good as
absent.
"""

import contextlib
import functools
import hashlib
import logging
import os
import pathlib
import sys
import tempfile

log = logging.getLogger(__name__)
_MAGIC = b"recurrax kernel 2\n"


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


def _digest(name: str, code: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + code).digest()


def load(name: str) -> bytes | None:
    """The object code kept under `name`, or None."""
    folder = directory()
    if folder is None:
        return None
    try:
        held = (folder / name).read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + 32
    code = held[start:]
    if held[: len(_MAGIC)] != _MAGIC or _digest(name, code) != held[len(_MAGIC) : start]:
        log.warning("%s is damaged, compiling anew", folder / name)
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
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    except OSError as error:
        _not_kept(folder, error.strerror or str(error))
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + _digest(name, code) + code)
        os.replace(temporary, folder / name)
    except OSError as error:
        _not_kept(folder, error.strerror or str(error))
        with contextlib.suppress(OSError):
            os.unlink(temporary)
