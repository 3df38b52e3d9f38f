"""`LoadError`: the one error of a file that cannot be loaded."""


class LoadError(ValueError):
    """A file that is not what it says, says what it must not, or does not fit the model."""
