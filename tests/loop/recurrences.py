"""A small recurrence with an output projection, and how results are compared."""

import os

import jax
import jax.numpy as jnp
import numpy as np

BATCH, LENGTH, FEATURES, UNITS = 3, 6, 2, 4

# XLA's own effort, for `jax.jit(..., compiler_options=...)`: the suite runs with less of it, where
# the version at hand has the option.
AS_USERS_HAVE_IT = {
    option: value
    for option, value in {
        "xla_backend_optimization_level": 3,
        "xla_llvm_disable_expensive_passes": False,
        "xla_cpu_use_fusion_emitters": True,
        "xla_cpu_parallel_codegen_split_count": 32,
    }.items()
    if f"--{option}=" in os.environ["XLA_FLAGS"]
}


def arguments():
    """Weights, an initial state, and inputs."""
    keys = jax.random.split(jax.random.key(0), 5)
    w = {
        "kernel": jax.random.normal(keys[0], (FEATURES, UNITS)) * 0.5,
        "recurrent": jax.random.normal(keys[1], (UNITS, UNITS)) * 0.5,
        "bias": jax.random.normal(keys[2], (UNITS,)),
        "project": jax.random.normal(keys[3], (UNITS, 2)),
    }
    xs = jax.random.normal(keys[4], (LENGTH, BATCH, FEATURES))
    return w, 0.1 * jnp.ones((BATCH, UNITS)), xs


def simple(w):
    """The step of a plain recurrent layer with weights `w`."""

    def step(h, x):
        h = jnp.tanh(x @ w["kernel"] + h @ w["recurrent"] + w["bias"])
        return h, h @ w["project"]

    return step


def lstm(w):
    """The step of an LSTM with weights `w`."""

    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ w["kernel"] + h @ w["recurrent"] + w["bias"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return step


def loss_of(scan):
    """A scalar of the weights, the initial state and the inputs."""

    def loss(w, h, xs):
        last, ys = scan(simple(w), h, xs)
        return jnp.square(last).sum() + jnp.sin(ys).sum()

    return loss


def assert_same(ours, theirs, tolerance=2e-5):
    """The same values, to `tolerance` of the largest, shapes and dtypes."""
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, path
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            assert jnp.array_equal(a, b), path
            continue
        scale = np.abs(b).max(initial=1)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=str(path))
