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
