"""Compiled code kept on disk, so that a second process need not compile.

A file holds a magic word, the SHA-256 of what follows, and the object code. Its name tells the
body, the shapes, the processor and the compiler's version. Writers write beside it and rename:
readers see a whole file or none. Anything that does not fit its checksum is as good as absent.
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import sys
import tempfile

log = logging.getLogger(__name__)
_MAGIC = b"recurrax kernel 1\n"


def directory() -> pathlib.Path | None:
    """Where code is kept: `RECURRAX_CACHE_DIR` (empty: nowhere), or the user's cache directory."""
    chosen = os.environ.get("RECURRAX_CACHE_DIR")
    if chosen is not None:
        return pathlib.Path(chosen) if chosen else None
    if sys.platform == "darwin":
        base = pathlib.Path.home() / "Library" / "Caches"
    else:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return base / "recurrax"


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
    if held[: len(_MAGIC)] != _MAGIC or hashlib.sha256(code).digest() != held[len(_MAGIC) : start]:
        log.warning("%s is damaged, compiling anew", folder / name)
        return None
    return code


def store(name: str, code: bytes) -> None:
    """Keep `code` under `name`; a disk that will not take it is not an error."""
    folder = directory()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    except OSError as error:
        log.info("compiled code is not kept: %s", error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(code).digest() + code)
        os.replace(temporary, folder / name)
    except OSError as error:
        log.info("compiled code is not kept: %s", error)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
