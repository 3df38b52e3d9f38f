"""Initial weights: each initializer is a function `(shape, dtype) -> array`.

Values are drawn with NumPy on the host: making a model compiles nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.random import SeedGenerator, make_default_seed
from recurrax.registry import (
    builtin_classes,
    deserialize,
    get_registered_object,
    is_record,
    serializable,
    unknown_name,
)
from recurrax.registry import (
    serialize as serialize,
)

Shape = Sequence[int]


class Initializer:
    """Base of initializers: `__call__(shape, dtype)` returns the initial value."""

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__(shape, dtype).")

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Initializer":
        return cls(**config)

    def clone(self) -> "Initializer":
        """Another one of the same configuration."""
        return type(self).from_config(self.get_config())


def _array(value: np.ndarray | float, shape: Shape, dtype: Any) -> Array:
    filled = np.broadcast_to(np.asarray(value), tuple(shape))
    return jax.device_put(filled.astype(jnp.dtype(dtype or "float32")))


@serializable("keras.initializers", "zeros")
class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        return _array(0.0, shape, dtype)


@serializable("keras.initializers", "ones")
class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        return _array(1.0, shape, dtype)


@serializable("keras.initializers", "constant")
class Constant(Initializer):
    """All `value`, which may be an array of the weight's shape."""

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        try:
            fits = np.broadcast_shapes(np.shape(self.value), tuple(shape)) == tuple(shape)
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"Constant holds an array of shape {np.shape(self.value)}, but the weight has "
                f"shape {tuple(shape)}: give an array of that shape, or one number."
            )
        return _array(self.value, shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value}


@serializable("keras.initializers", "IdentityInitializer", "identity")
class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        if len(shape) != 2:
            raise ValueError(
                f"Identity initialises matrices only, but the weight has shape {tuple(shape)}."
            )
        return _array(self.gain * np.eye(shape[0], shape[1]), shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """Base of random initializers.

    Args:
        seed: an integer: the same values at every call; a `SeedGenerator`: other ones; None draws
            an integer.
    """

    def __init__(self, seed: int | SeedGenerator | None = None) -> None:
        if not isinstance(seed, int | np.integer | SeedGenerator | None):
            raise ValueError(
                f"seed must be an integer, a SeedGenerator or None, but it is {seed!r}."
            )
        self._init_seed = seed
        self.seed = make_default_seed() if seed is None else seed

    def generator(self) -> np.random.Generator:
        """NumPy's generator for one call."""
        seed = self.seed
        if isinstance(seed, SeedGenerator):
            return np.random.default_rng(np.asarray(seed.next()))
        return np.random.default_rng(seed)

    def get_config(self) -> dict[str, Any]:
        seed = self._init_seed
        return {"seed": seed if seed is None or isinstance(seed, int) else seed.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Initializer":
        if isinstance(config.get("seed"), dict):
            config = {**config, "seed": SeedGenerator.from_config(config["seed"])}
        return cls(**config)


def _truncated_normal(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """A standard normal without what lies beyond 2 standard deviations."""
    values = generator.standard_normal(tuple(shape), dtype=np.float32)
    outside = np.abs(values) > 2
    while outside.any():
        values[outside] = generator.standard_normal(int(outside.sum()), dtype=np.float32)
        outside = np.abs(values) > 2
    return values


@serializable("keras.initializers", "random_normal", "normal")
class RandomNormal(RandomInitializer):
    """Normal, of the given mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        draw = self.generator().standard_normal(tuple(shape), dtype=np.float32)
        return _array(self.mean + self.stddev * draw, shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"mean": self.mean, "stddev": self.stddev, **super().get_config()}


@serializable("keras.initializers", "truncated_normal")
class TruncatedNormal(RandomNormal):
    """Normal, without what lies beyond two standard deviations."""

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        draw = _truncated_normal(self.generator(), shape)
        return _array(self.mean + self.stddev * draw, shape, dtype)


@serializable("keras.initializers", "random_uniform", "uniform")
class RandomUniform(RandomInitializer):
    """Uniform over [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        draw = self.generator().random(tuple(shape), dtype=np.float32)
        return _array(self.minval + (self.maxval - self.minval) * draw, shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"minval": self.minval, "maxval": self.maxval, **super().get_config()}


def compute_fans(shape: Shape) -> tuple[int, int]:
    """Inputs and outputs of one unit: the last two axes, times the size of the kernel before."""
    if len(shape) == 0:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive


@serializable("keras.initializers", "variance_scaling")
class VarianceScaling(RandomInitializer):
    """Variance `scale / n`, n the fan in, the fan out or their mean.

    Args:
        scale: positive factor.
        mode: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"`, `"untruncated_normal"` or `"uniform"`.
    """

    MODES = ("fan_in", "fan_out", "fan_avg")
    DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
    ) -> None:
        if scale <= 0:
            raise ValueError(f"scale must be positive, but it is {scale!r}.")
        if mode not in self.MODES:
            raise unknown_name("mode", mode, self.MODES)
        distribution = "truncated_normal" if distribution == "normal" else distribution
        if distribution not in self.DISTRIBUTIONS:
            raise unknown_name("distribution", distribution, self.DISTRIBUTIONS)
        super().__init__(seed)
        self.scale, self.mode, self.distribution = scale, mode, distribution

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        fan_in, fan_out = compute_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        generator = self.generator()
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            draw = limit * (2 * generator.random(tuple(shape), dtype=np.float32) - 1)
        elif self.distribution == "untruncated_normal":
            draw = math.sqrt(variance) * generator.standard_normal(tuple(shape), dtype=np.float32)
        else:
            # The standard deviation of a standard normal cut at ±2.
            draw = math.sqrt(variance) / 0.87962566103423978 * _truncated_normal(generator, shape)
        return _array(draw, shape, dtype)

    def get_config(self) -> dict[str, Any]:
        own = {"scale": self.scale, "mode": self.mode, "distribution": self.distribution}
        return {**own, **super().get_config()}


class _Preset(VarianceScaling):
    """A `VarianceScaling` with everything but the seed chosen."""

    preset: tuple[float, str, str]

    def __init__(self, seed: Any = None) -> None:
        super().__init__(*self.preset, seed=seed)

    def get_config(self) -> dict[str, Any]:
        return RandomInitializer.get_config(self)


@serializable("keras.initializers", "glorot_uniform")
class GlorotUniform(_Preset):
    """Uniform, variance 2 / (fan in + fan out) (Glorot & Bengio, 2010)."""

    preset = (1.0, "fan_avg", "uniform")


@serializable("keras.initializers", "glorot_normal")
class GlorotNormal(_Preset):
    """Truncated normal, variance 2 / (fan in + fan out) (Glorot & Bengio, 2010)."""

    preset = (1.0, "fan_avg", "truncated_normal")


@serializable("keras.initializers", "he_uniform")
class HeUniform(_Preset):
    """Uniform, variance 2 / fan in (arXiv:1502.01852)."""

    preset = (2.0, "fan_in", "uniform")


@serializable("keras.initializers", "he_normal")
class HeNormal(_Preset):
    """Truncated normal, variance 2 / fan in (arXiv:1502.01852)."""

    preset = (2.0, "fan_in", "truncated_normal")


@serializable("keras.initializers", "lecun_uniform")
class LecunUniform(_Preset):
    """Uniform, variance 1 / fan in (LeCun et al., 1998)."""

    preset = (1.0, "fan_in", "uniform")


@serializable("keras.initializers", "lecun_normal")
class LecunNormal(_Preset):
    """Truncated normal, variance 1 / fan in (LeCun et al., 1998)."""

    preset = (1.0, "fan_in", "truncated_normal")


@serializable("keras.initializers", "OrthogonalInitializer", "orthogonal")
class Orthogonal(RandomInitializer):
    """A random orthogonal matrix times `gain` (arXiv:1312.6120).

    All axes but the last are folded into the rows.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: Shape, dtype: Any = None) -> Array:
        if len(shape) < 2:
            raise ValueError(
                "Orthogonal initialises weights of at least two axes, but the weight has shape "
                f"{tuple(shape)}."
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        draw = self.generator().standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(draw)
        q = q * np.sign(np.diag(r))  # uniform over orthogonal matrices (Mezzadri, 2007)
        q = q.T if rows < columns else q
        return _array(self.gain * q.reshape(tuple(shape)), shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, **super().get_config()}


zeros, ones, constant, identity = Zeros, Ones, Constant, Identity
random_normal, truncated_normal, random_uniform = RandomNormal, TruncatedNormal, RandomUniform
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_uniform, glorot_normal, he_uniform = GlorotUniform, GlorotNormal, HeUniform
he_normal, lecun_uniform, lecun_normal = HeNormal, LecunUniform, LecunNormal
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal


def get(identifier: Any) -> Any:
    """The initializer that a name, a class, a function, a configuration or an array stands for.

    Raises:
        ValueError: an unknown name; the message gives the nearest.
    """
    if identifier is None:
        return None
    if isinstance(identifier, type):
        return identifier()
    if is_record(identifier):
        return deserialize(identifier)
    if isinstance(identifier, str):
        known = builtin_classes("keras.initializers")
        found = get_registered_object(identifier) or known.get(identifier)
        if found is None:
            raise unknown_name("initializer", identifier, known)
        return found() if isinstance(found, type) else found
    if callable(identifier):
        return identifier
    if isinstance(identifier, np.ndarray | Array | int | float):
        return Constant(identifier)
    raise ValueError(f"Cannot make an initializer of {identifier!r}: give a name or a function.")
