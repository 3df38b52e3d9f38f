"""`LoadError`: the one error of a file that cannot be loaded."""

import contextlib
from collections.abc import Iterator


class LoadError(ValueError):
    """A file that is not what it says, says what it must not, or does not fit the model."""


@contextlib.contextmanager
def as_load_error(what: str) -> Iterator[None]:
    """Inside, every error is a `LoadError`: whatever a class says to arguments nobody checked."""
    try:
        yield
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"{what}: {error}") from error


def not_a_file_of(kind: str, data: bytes) -> LoadError:
    """What to say of a file whose first bytes tell that it is not of this kind."""
    again = "Copy or download it again."
    if not data:
        return LoadError(f"The file is empty. {again}")
    if data.startswith(b"version https://git-lfs"):
        return LoadError("The file only points to its content: fetch that with `git lfs pull`.")
    begins = f"it begins with {bytes(data[:8])!r}"
    return LoadError(f"The file is not {kind}: {begins}. It is damaged, or something else. {again}")
