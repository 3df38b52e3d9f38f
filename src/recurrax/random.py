"""Random numbers whose state is a variable, so that it is traced, saved and restored."""

import random as python_random
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.registry import serializable
from recurrax.variable import Variable


def make_default_seed() -> int:
    """A seed for who gave none, reproducible under `utils.set_random_seed`."""
    return python_random.randint(1, 10**9)


@serializable("keras.random")
class SeedGenerator:
    """A stream of random keys.

    Its `state` is a non-trainable variable of shape (2,) and dtype uint32: the seed and a counter.

    Args:
        seed: an integer; None draws one.
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **_: Any) -> None:
        if seed is None:
            seed = make_default_seed()
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be a non-negative integer, but it is {seed!r}.")
        self._initial_seed = int(seed)
        self.name = name or "seed_generator"
        self.state = Variable(
            np.array([self._initial_seed % 2**32, 0], np.uint32),
            trainable=False,
            name="seed_generator_state",
            autocast=False,
        )

    def next(self) -> Array:
        """The next key, `uint32[2]`, for `jax.random`; the counter moves on."""
        state = self.state.value
        self.state.assign(state + jnp.array([0, 1], jnp.uint32))
        return state

    def get_config(self) -> dict[str, Any]:
        return {"seed": self._initial_seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SeedGenerator":
        return cls(**config)
