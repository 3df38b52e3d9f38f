"""Products and decompositions of matrices."""

from typing import Any

import jax.numpy as jnp
import jax.scipy.linalg as linalg
from jax import Array
from jax.scipy.special import logsumexp as _logsumexp

from recurrax.ops.dispatch import binary, in_order, op


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """A norm of vectors or matrices, as `numpy.linalg.norm`."""
    return jnp.linalg.norm(x, ord=ord, axis=axis, keepdims=keepdims)


def _solve_triangular(a: Any, b: Any, lower: bool = False) -> Array:
    """`x` with `a x = b` for a triangular `a`."""
    return linalg.solve_triangular(a, b, lower=lower)


cholesky = op(jnp.linalg.cholesky)
cross = binary(jnp.cross)
det = op(jnp.linalg.det)
dot = binary(jnp.dot)
eigh = op(jnp.linalg.eigh)
einsum = op(jnp.einsum, tensors=0)
inner = binary(jnp.inner)
inv = op(jnp.linalg.inv)
logsumexp = op(in_order(_logsumexp, "axis", "keepdims"))
matmul = binary(jnp.matmul)
norm = op(_norm)
outer = binary(jnp.outer)
qr = op(jnp.linalg.qr)
solve = binary(jnp.linalg.solve)
solve_triangular = binary(_solve_triangular)
svd = op(jnp.linalg.svd)
tensordot = binary(jnp.tensordot)
trace = op(jnp.trace)
vdot = binary(jnp.vdot)
