"""Steps that hold derivatives of the caller's own, or solvers of JAX; against `jax.lax.scan`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrences import assert_same

import recurrax
from recurrax.loop import fallback

H, XS = jnp.linspace(0.1, 1, 3), jnp.linspace(-1, 1, 12).reshape(4, 3)


def loss(scan, step):
    def total(h, xs):
        last, ys = scan(step, h, xs)
        return jnp.square(last).sum() + ys.sum()

    return total


def root(h, x):
    """The solution of z³ + z = h + x, by Newton's method."""
    z = jax.lax.custom_root(
        lambda z: z**3 + z - (h + x),
        jnp.zeros(3),
        lambda f, z: jax.lax.fori_loop(0, 20, lambda _, z: z - f(z) / (3 * z**2 + 1), z),
        lambda g, y: y / g(jnp.ones_like(y)),
    )
    return z, h


@jax.custom_jvp
def weighted(x):
    return jnp.sin(x)


@weighted.defjvp
def _(primals, tangents):
    return weighted(*primals), jnp.asarray([1.0, 2.0, 3.0]) * tangents[0]


@jax.custom_jvp
def called(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


@called.defjvp
def _(primals, tangents):
    return called(*primals), jnp.cos(primals[0]) * tangents[0]


@jax.custom_jvp
def drawn(x):
    return x * jax.lax.rng_uniform(0.0, 1.0, x.shape)


@drawn.defjvp
def _(primals, tangents):
    return drawn(*primals), 2 * tangents[0]


def exponential(h, x):
    """A solver of JAX on what stays alone, which moves out of the loop."""
    a = jnp.triu(jnp.arange(9.0).reshape(3, 3) / 9, 1)
    h = jnp.tanh(h @ jax.scipy.linalg.expm(a - a.T) + x)
    return h, h


STEPS = {
    "a solver": root,
    "a solver on what stays": exponential,
    "a rule with a constant": lambda h, x: (weighted(h + x), h),
    "a callback": lambda h, x: (called(h + x), h),
}


@pytest.mark.parametrize("name", STEPS)
def test_values_and_gradients(name):
    def results(scan):
        total = loss(scan, STEPS[name])
        return total(H, XS), jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(H, XS)

    assert_same(results(recurrax.scan), results(jax.lax.scan))


def test_a_draw_behind_a_rule_is_made_once():
    """The derivative of the loop is that of its own draws: the ys tell them."""

    def step(h, _):
        h = drawn(h) ** 2  # of which the rule says that it is 2 h
        return h, h

    def total(h):
        ys = recurrax.scan(step, h, None, length=3)[1]
        return ys.sum(), ys

    (_, ys), made = jax.jit(jax.value_and_grad(total, has_aux=True))(H)
    expected = jnp.zeros(3)
    for y in ys[::-1]:
        expected = (1 + expected) * 4 * jnp.sqrt(y)
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_errors_of_a_rule_are_the_callers(monkeypatch):
    monkeypatch.delenv(fallback.STRICT)

    @jax.custom_vjp
    def f(x):
        return x * 2

    def back(_, ct):
        raise ZeroDivisionError("the caller's own")

    f.defvjp(lambda x: (f(x), None), back)
    with pytest.raises(ZeroDivisionError, match="the caller's own"):  # warnings are errors here
        jax.grad(loss(recurrax.scan, lambda h, x: (f(h + x), h)))(H, XS)


def test_a_rule_that_forward_mode_alone_passes():
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    @f.defjvp
    def _(primals, tangents):
        turns = jnp.where(primals[0].sum() > 0, 2, 3)
        return f(*primals), jax.lax.fori_loop(0, turns, lambda _, t: 0.5 * t, tangents[0])

    def moved(scan):
        return jax.jvp(loss(scan, lambda h, x: (f(h + x), h)), (H, XS), (jnp.ones(3), XS))

    assert_same(moved(recurrax.scan), moved(jax.lax.scan))
    with pytest.raises(ValueError, match="Reverse-mode"):
        jax.grad(loss(recurrax.scan, lambda h, x: (f(h + x), h)))(H, XS)
