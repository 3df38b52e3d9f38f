"""What the trials of all frameworks share: the data, and how their results are told."""

from collections.abc import Callable
from typing import Any

import numpy as np

X = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
UNITS = 4


def close(a: Any, b: Any) -> bool:
    return bool(np.allclose(np.asarray(a), np.asarray(b), atol=1e-5))


def refused(call: Callable[[], Any], *errors: type[Exception]) -> bool:
    """Whether a call raises one of these."""
    try:
        call()
    except errors:
        return True
    return False
