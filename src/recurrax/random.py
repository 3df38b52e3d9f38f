"""Random numbers whose state is a variable, so that it is traced, saved and restored."""

import random as python_random
from typing import Any

import jax
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


def _key(seed: Any) -> Array:
    """The key that a seed stands for.

    An integer gives the same one always, a `SeedGenerator` its next one. None draws one on the
    host, which a compiled function draws once, when it is compiled.
    """
    if isinstance(seed, SeedGenerator):
        return seed.next()
    number = make_default_seed() if seed is None else int(seed) % 2**32
    return jnp.array([number, 0], jnp.uint32)


def normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Array:
    """Normal numbers."""
    return mean + stddev * jax.random.normal(_key(seed), tuple(shape), _dtype(dtype))


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Array:
    """Normal numbers, without what lies beyond two standard deviations."""
    draw = jax.random.truncated_normal(_key(seed), -2.0, 2.0, tuple(shape), _dtype(dtype))
    return mean + stddev * draw


def uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> Array:
    """Numbers spread evenly over [minval, maxval)."""
    return jax.random.uniform(_key(seed), tuple(shape), _dtype(dtype), minval, maxval)


def randint(shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> Array:
    """Integers from `minval` to `maxval - 1`."""
    return jax.random.randint(_key(seed), tuple(shape), minval, maxval, dtype)


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Array:
    """Classes (batch, num_samples), drawn with probabilities softmax(logits) (batch, classes)."""
    logits = jnp.asarray(logits)
    shape = (num_samples, logits.shape[0])
    return jax.random.categorical(_key(seed), logits, shape=shape).T.astype(dtype)


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> Array:
    """`x` in another order along `axis`."""
    return jax.random.permutation(_key(seed), jnp.asarray(x), axis)


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Array:
    """`inputs` with the share `rate` of the entries 0, and the others scaled up."""
    x = jnp.asarray(inputs)
    kept = jax.random.bernoulli(_key(seed), 1 - rate, noise_shape or x.shape)
    return jnp.where(kept, x * (1 / (1 - rate) if rate < 1 else 0.0), 0).astype(x.dtype)


def _dtype(dtype: Any) -> Any:
    return jnp.dtype(dtype or "float32")
