"""Run a step natively and with XLA, and hold the results against each other."""

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.loop import jaxprs
from recurrax.loop.body import Body
from recurrax.loop.runners import native, xla


def body_of(step, consts, carry, xs):
    """`step(consts, carry, x) -> (carry, ys)`, all tuples, as a body; `xs` have a time axis."""
    shapes = [jax.ShapeDtypeStruct(jnp.shape(a), jnp.asarray(a).dtype) for a in (*consts, *carry)]
    shapes += [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in xs]

    def flat(*args):
        n, m = len(consts), len(consts) + len(carry)
        new, ys = step(args[:n], args[n:m], args[m:])
        return (*new, *ys)

    closed = jaxprs.inlined(jax.make_jaxpr(flat)(*shapes), derivatives=True)
    return Body(closed, len(consts), len(carry))


def draw(seed, *shape, dtype=np.float32, scale=1.0):
    values = np.random.default_rng(seed).normal(size=shape) * scale
    return jnp.asarray(values.astype(dtype))


def run_native(body, consts, carry, xs, reverse=False, length=None):
    refusal = native.refusal(body, consts, carry, xs, length or xs[0].shape[0])
    assert refusal is None, refusal
    length = xs[0].shape[0] if length is None else length
    return native.run(body, consts, carry, xs, length=length, reverse=reverse)


def assert_like_xla(step, consts, carry, xs, *, tolerance=2e-6, reverse=False):
    """Both runners give the same carries and results, to `tolerance` of their largest value."""
    body = body_of(step, consts, carry, xs)
    ours = run_native(body, consts, carry, xs, reverse)
    length = xs[0].shape[0]
    theirs = jax.jit(lambda *a: xla.run(body, *a, length=length, reverse=reverse))(
        list(consts), list(carry), list(xs)
    )
    assert_close(ours, theirs, tolerance)


def assert_close(ours, theirs, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = (np.asarray(v, np.float64) for v in (a, b))
        scale = np.abs(b[np.isfinite(b)]).max(initial=1)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)
