"""Functions of float32 against float64, in units in the last place."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

# the function natively, its exact values, and its worst error
WORST = {
    "tanh": (jnp.tanh, np.tanh, 1.7),
    "logistic": (jax.nn.sigmoid, scipy.special.expit, 1.5),
    "exp": (jnp.exp, np.exp, 1.0),
    "log": (jnp.log, np.log, 1.2),
    "log1p": (jnp.log1p, np.log1p, 1.6),
    "expm1": (jnp.expm1, np.expm1, 1.5),
    "erf": (jax.lax.erf, scipy.special.erf, 1.0),
    "erfc": (jax.lax.erfc, scipy.special.erfc, 1.0),
    "sinh": (jnp.sinh, np.sinh, 1.0),
    "cosh": (jnp.cosh, np.cosh, 1.0),
    "exp2": (jnp.exp2, np.exp2, 1.0),
    "cbrt": (jnp.cbrt, np.cbrt, 1.0),
    "rsqrt": (jax.lax.rsqrt, lambda x: 1 / np.sqrt(x), 1.6),
}
_SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 88.72, 88.73, -87.3, -104.0]


def sample():
    """One float32 in a few thousand, over all exponents and both signs, and those at borders."""
    bits = np.arange(0, 1 << 32, 8191, dtype=np.uint64).astype(np.uint32)
    return np.concatenate([bits.view(np.float32), np.float32(_SPECIAL)])


def ulps(ours, exact):
    """How far `ours` is from `exact` in units of the last place; numbers alike count nothing."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(ours.dtype)
        far = np.abs(ours.astype(np.float64) - exact) / np.spacing(np.abs(rounded))
    same = (ours == rounded) | (np.isnan(ours) & np.isnan(rounded))
    return np.where(same, 0, np.where(np.isnan(far), np.inf, far))


def worst_error(name, x, ours):
    """The worst error of the function `name`, with `ours` its values of float32 numbers `x`.

    XLA's threads take subnormal numbers for zero, so those are left out on both sides.
    """
    least = np.finfo(np.float32).tiny
    with np.errstate(all="ignore"):
        exact = WORST[name][1](x.astype(np.float64))
    ordinary = ((np.abs(x) >= least) | (x == 0)) & ~(np.abs(exact) < 1.1 * least)
    ordinary |= np.isnan(x) | np.isinf(x) | (exact == 0)
    return ulps(ours, exact)[ordinary].max()
