"""`jax.linear_transpose` of loops that are linear in what goes in, against `jax.lax.scan`."""

import jax
import jax.numpy as jnp
import pytest
from recurrences import assert_same

import recurrax

W = jnp.asarray([[0.5, -0.2], [0.3, 0.9]])
XS = jnp.linspace(-1, 1, 12).reshape(3, 2, 2)
H = jnp.ones((2, 2))


def of_init(scan):
    return lambda h: scan(lambda h, x: (h @ W * x, h), h, XS), (H,)


def of_xs(scan):
    return lambda xs: scan(lambda h, x: (h @ W + x @ W, h), jnp.zeros_like(H), xs), (XS,)


def of_both(scan):
    return lambda h, xs: scan(lambda h, x: (h @ W + x, x @ W), h, xs), (H, XS)


def of_a_weight(scan):
    return lambda w: scan(lambda h, x: (h * 0.5 + x @ w, h * 2), jnp.zeros_like(H), XS), (W,)


def of_part_of_the_carry(scan):
    def loop(h):
        def step(carry, x):
            h, count, n = carry
            return (h * x * n, count + 1, jnp.cos(n)), h[0] * count

        (h, _, _), ys = scan(step, (h, 0, 0.3), XS)
        return h, ys

    return loop, (H,)


LOOPS = [of_init, of_xs, of_both, of_a_weight, of_part_of_the_carry]


def transposed(made):
    function, args = made
    outputs = jax.eval_shape(function, *args)
    cts = jax.tree.map(lambda a: jnp.linspace(0, 1, a.size).reshape(a.shape), outputs)
    return jax.linear_transpose(function, *args), cts


def by_vjp(made, cts):
    function, args = made
    return jax.vjp(function, *args)[1](cts)


@pytest.mark.parametrize("make", LOOPS)
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_transposes(make, jitted):
    turn, cts = transposed(make(recurrax.scan))
    expected = by_vjp(make(jax.lax.scan), cts)
    assert_same((jax.jit(turn) if jitted else turn)(cts), expected)


@pytest.mark.parametrize("make", LOOPS)
def test_through_vmap(make):
    turn, cts = transposed(make(recurrax.scan))
    many = jax.tree.map(lambda ct: jnp.stack([ct, 2 * ct, -ct]), cts)
    expected = jax.vmap(lambda cts: by_vjp(make(jax.lax.scan), cts))(many)
    assert_same(jax.vmap(turn)(many), expected)
    function, args = make(recurrax.scan)
    batched = jax.tree.map(lambda a: jnp.stack([a, a, a]), args)
    assert_same(jax.linear_transpose(jax.vmap(function), *batched)(many), expected)


@pytest.mark.parametrize("make", LOOPS)
def test_transposed_twice_is_itself(make):
    turn, cts = transposed(make(recurrax.scan))
    function, args = make(jax.lax.scan)
    assert_same(jax.linear_transpose(turn, cts)(args)[0], function(*args))


def test_loops_in_a_linear_solve():
    def run(scan):
        def matvec(v):
            h, ys = scan(lambda h, x: (0.3 * h + v * x[0, 0], h), 0.2 * v, XS)
            return 2 * v + h + ys.sum(0) * 0.1

        def solve(b):
            return jax.lax.custom_linear_solve(
                matvec,
                b,
                lambda f, b: jnp.linalg.solve(jax.vmap(f, 0, 1)(jnp.eye(2)), b),
                transpose_solve=lambda f, b: jnp.linalg.solve(jax.vmap(f, 0, 1)(jnp.eye(2)), b),
            )

        return jax.value_and_grad(lambda b: jnp.sin(solve(b)).sum())(jnp.asarray([1.0, 2.0]))

    assert_same(run(recurrax.scan), run(jax.lax.scan))
