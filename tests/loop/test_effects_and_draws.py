"""What must happen once a step and no more: prints, callbacks, draws; held against `jax.lax.scan`.

They may stand in the step, or in control flow and calls inside it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrences import assert_same

import recurrax

XS = jnp.asarray([0.5, -1.0, 2.0])
W = jnp.asarray(0.7)


def in_cond(f):
    return lambda v, x: jax.lax.cond(x > 0, f, lambda v: v - 0.3, v)


def in_scan(f):
    return lambda v, x: jax.lax.scan(lambda v, _: (f(v) * x, None), v, None, length=2)[0]


def in_while(f):
    """A loop whose derivative is not asked for."""

    def turned(v, x):
        start = (0, jax.lax.stop_gradient(v))
        return v + jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, f(s[1])), start)[1]

    return turned


def in_rule(f):
    g = jax.custom_jvp(f)
    g.defjvp(lambda primals, tangents: (f(primals[0]), 3.0 * tangents[0]))
    return lambda v, x: g(v) * x


def in_vjp(f):
    g = jax.custom_vjp(f)
    g.defvjp(lambda v: (f(v), v), lambda v, ct: (f(ct * v),))
    return lambda v, x: g(v) * x


def in_loop(f):
    return lambda v, x: recurrax.scan(lambda v, _: (f(v) * x, None), v, None, length=2)[0]


PLACES = {
    "step": lambda f: lambda v, x: f(v) * x,
    "jit": lambda f: lambda v, x: jax.jit(f)(v) * x,
    "cond": in_cond,
    "scan": in_scan,
    "while": in_while,
    "custom_jvp": in_rule,
    "custom_vjp": in_vjp,
    "recurrax.scan": in_loop,
}


def objective(scan, place, f):
    def loss(w, h, xs):
        inner = PLACES[place](f)
        last, ys = scan(lambda h, x: (inner(jnp.tanh(w * h), x), h * x), h, xs)
        return last + jnp.sin(ys).sum()

    return loss


def printed(capfd, function, *args):
    capfd.readouterr()
    result = jax.block_until_ready(function(*args))
    jax.effects_barrier()
    return result, sorted(capfd.readouterr().out.splitlines())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("ordered", [False, True])
def test_prints_inside_come_as_often_as_from_lax_scan(place, ordered, capfd):
    def shown(v):
        jax.debug.print("{:.4f}", v, ordered=ordered)
        return jnp.sin(v)

    def run(scan):
        of = objective(scan, place, shown)
        return printed(capfd, jax.jit(jax.value_and_grad(of, argnums=(0, 1, 2))), W, W, XS)

    (ours, our_lines), (theirs, their_lines) = run(recurrax.scan), run(jax.lax.scan)
    assert_same(ours, theirs)
    assert our_lines == their_lines and our_lines


def test_prints_of_what_the_weights_alone_decide_come_at_every_step(capfd):
    def shown(w):
        jax.debug.print("w {}", w)
        return w

    def step(h, x):
        return h * jax.lax.cond(W > 0, shown, jnp.negative, W) + x, None

    ours, lines = printed(capfd, lambda: recurrax.scan(step, W, XS))
    assert_same(ours, jax.lax.scan(step, W, XS))
    assert len(lines) == len(XS)


@pytest.mark.parametrize("place", PLACES)
def test_second_derivatives_pass_prints(place, capfd):
    def shown(v):
        jax.debug.print("{}", v)
        return jnp.sin(v)

    def run(scan):
        of = objective(scan, place, shown)
        return jax.grad(lambda h: jax.grad(of, argnums=1)(W, h, XS))(W)

    assert_same(run(recurrax.scan), run(jax.lax.scan))


def drawn(v):
    """The draw depends on nothing, so whoever makes it again gets another."""
    return v * jax.lax.rng_uniform(0.5, 1.5, ())


def counting(calls, v):
    """The same by a callback, which has seen how often it was called."""

    def draw(v):
        calls.append(0)
        return np.float32(1 + 0.1 * len(calls))

    like = jax.ShapeDtypeStruct((), jnp.float32)
    return v * jax.pure_callback(draw, like, jax.lax.stop_gradient(v))


@pytest.mark.parametrize("place", ["step", "jit", "cond", "scan", "custom_jvp", "recurrax.scan"])
@pytest.mark.parametrize("kind", ["rng_uniform", "pure_callback"])
def test_what_is_drawn_in_the_step_is_drawn_once(place, kind):
    """The loop is linear in `h` for given draws, so it is its gradient times `h`."""
    calls = []
    f = drawn if kind == "rng_uniform" else functools.partial(counting, calls)
    if place == "cond":
        inner = lambda v, x: jax.lax.cond(x > 0, f, lambda v: 0.5 * v, v)  # noqa: E731
    elif place == "custom_jvp":
        # A rule that is linear, and leaves the draw where it was made.
        g = jax.custom_jvp(lambda v, u: v * u)
        g.defjvp(lambda p, t: (p[0] * p[1], p[1] * t[0]))
        inner = lambda v, x: g(v, f(x))  # noqa: E731
    else:
        inner = PLACES[place](f)

    def run(h, scan):
        return scan(lambda h, x: (inner(h, x), h), h, XS)

    def check(scan):
        (last, _), vjp = jax.vjp(functools.partial(run, scan=scan), jnp.float32(2.0))
        (of_last,) = vjp((jnp.float32(1.0), jnp.zeros(3)))
        return last, of_last

    last, gradient = jax.jit(check, static_argnums=0)(recurrax.scan)
    jax.block_until_ready(gradient)
    np.testing.assert_allclose(2.0 * gradient, last, rtol=1e-5)
    ours = len(calls)
    calls.clear()
    jax.block_until_ready(jax.jit(check, static_argnums=0)(jax.lax.scan))
    assert ours == len(calls)


def test_draws_of_what_the_weights_alone_decide_differ_from_step_to_step():
    def step(h, x):
        return h, jax.lax.cond(W > 0, drawn, jnp.negative, W)

    _, ys = recurrax.scan(step, W, XS)
    assert len(set(ys.tolist())) == len(XS)


@pytest.mark.parametrize("place", PLACES)
def test_second_derivatives_pass_callbacks(place):
    """The callback is a pure function here, so that all may be compared."""

    def called(v):
        like = jax.ShapeDtypeStruct((), jnp.float32)
        scale = jax.pure_callback(lambda v: np.float32(1.1), like, jax.lax.stop_gradient(v))
        return jnp.sin(v) * scale

    def run(scan):
        of = objective(scan, place, called)
        return jax.grad(lambda w, h: jax.grad(of, argnums=1)(w, h, XS), argnums=(0, 1))(W, W)

    assert_same(run(recurrax.scan), run(jax.lax.scan))


@pytest.mark.parametrize("place", ["step", "cond", "scan"])
def test_callbacks_under_vmap(place):
    def called(v):
        like = jax.ShapeDtypeStruct(v.shape, jnp.float32)
        scale = jax.pure_callback(np.cos, like, jax.lax.stop_gradient(v), vmap_method="expand_dims")
        return v * scale

    def run(scan):
        of = objective(scan, place, called)
        return jax.vmap(jax.grad(of, argnums=(0, 1, 2)), (None, 0, None))(W, jnp.ones(2) / 3, XS)

    assert_same(run(recurrax.scan), run(jax.lax.scan))
