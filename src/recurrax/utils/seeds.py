"""One seed for everything random."""

import random

import numpy as np


def set_random_seed(seed: int) -> None:
    """Make what follows reproducible: initial weights, dropout and the order of the data.

    Seeds Python's `random` and NumPy's global generator, from which every seed that nobody gives
    is drawn.

    Raises:
        ValueError: `seed` is not an integer.
    """
    if not isinstance(seed, int | np.integer):
        raise ValueError(f"seed must be an integer, but it is {seed!r}.")
    random.seed(int(seed))
    np.random.seed(int(seed) % 2**32)
