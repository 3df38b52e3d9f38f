"""Beginning anew."""

from recurrax import naming


def clear_session(free_memory: bool = True) -> None:
    """Count the names of layers from the beginning again: `lstm`, `lstm_1`, ...

    Args:
        free_memory: taken for Keras's sake; nothing else is kept.
    """
    naming.reset_names()
