"""Parts of a step that no derivative passes: nothing is asked of them; against `jax.lax.scan`."""

import jax
import jax.numpy as jnp
import pytest
from recurrences import assert_same

import recurrax

XS = jnp.asarray([0.5, -1.0, 2.0])


def looped(b):
    return jax.lax.while_loop(lambda b: b < 3.0, lambda b: b + 1.1, b)


def called(b):
    return jax.pure_callback(lambda b: 2 * b, jax.ShapeDtypeStruct((), jnp.float32), b)


OPAQUE = {"while_loop": looped, "pure_callback": called}


@pytest.mark.parametrize("moved", OPAQUE)
def test_a_carry_that_nothing_differentiated_reaches(moved):
    def run(scan):
        def step(carry, x):
            h, b = carry
            b = OPAQUE[moved](b) - 2.5
            return (jnp.tanh(h * b + x), b), h * b

        def loss(h, xs):
            (last, b), ys = scan(step, (h, 0.2), xs)
            return last + b + ys.sum()

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(0.1, XS)

    assert_same(run(recurrax.scan), run(jax.lax.scan))


def test_a_carry_whose_cotangent_is_zero():
    """Its own derivative cannot be turned round, and need not be."""

    def run(scan, weight):
        def step(carry, x):
            h, b = carry
            return (jnp.tanh(h + x), looped(b + h)), looped(h)

        def loss(h):
            (last, _), ys = scan(step, (h, 0.0), XS)
            return last + weight * ys.sum() if weight else last

        return jax.value_and_grad(loss)(0.1)

    assert_same(run(recurrax.scan, 0), run(jax.lax.scan, 0))
    for scan in (recurrax.scan, jax.lax.scan):
        with pytest.raises(ValueError, match="while_loop"):
            run(scan, 2)


def test_a_weight_in_a_condition_alone_has_no_gradient():
    def run(scan):
        def loss(w, h):
            def step(h, x):
                turns = jax.lax.while_loop(lambda b: b < w, lambda b: b + 1.1, 0.0)
                return jnp.tanh(h + x) * turns, h

            last, ys = scan(step, h, XS)
            return last + ys.sum()

        return jax.value_and_grad(loss, argnums=(0, 1))(2.0, 0.3)

    assert_same(run(recurrax.scan), run(jax.lax.scan))


@pytest.mark.parametrize("moved", OPAQUE)
def test_what_has_no_derivative_raises_as_in_lax_scan(moved):
    def run(scan):
        return jax.grad(lambda h: scan(lambda h, x: (OPAQUE[moved](h), None), h, XS)[0])(0.1)

    errors = []
    for scan in (recurrax.scan, jax.lax.scan):
        with pytest.raises(ValueError) as error:
            run(scan)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_values_that_are_stopped_or_rounded_are_not_differentiated():
    def run(scan):
        def step(carry, x):
            h, b = carry
            b = called(jnp.floor(b)) + looped(jax.lax.stop_gradient(h))
            return (jnp.tanh(h * 0.5 + x + b), b - 3.0), (h, b)

        def loss(h):
            return sum(leaf.sum() for leaf in jax.tree.leaves(scan(step, (h, 0.4), XS)))

        return jax.value_and_grad(loss)(0.3)

    assert_same(run(recurrax.scan), run(jax.lax.scan))


def test_a_carry_that_moves_at_the_first_step_alone():
    """The step hands it out, and starts anew from something that does not move."""

    def loss(scan):
        def step(carry, x):
            a, b = carry
            return (jax.lax.stop_gradient(jnp.sin(a)) + 1, b * jnp.cos(x)), (a * b, a)

        def total(a, b, xs):
            last, ys = scan(step, (a, b), xs)
            return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves((last, ys)))

        return jax.grad(total, argnums=(0, 1, 2))

    arrays = jnp.linspace(0.1, 1, 4), jnp.linspace(1, 2, 4), jnp.linspace(-1, 1, 12).reshape(3, 4)
    assert_same(loss(recurrax.scan)(*arrays), loss(jax.lax.scan)(*arrays))
