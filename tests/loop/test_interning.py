"""The same step, traced again, is the same body."""

import jax
import jax.numpy as jnp
import pytest

import recurrax
from recurrax.loop import split, step

XS = jnp.ones((5, 2, 3))
W = jnp.eye(3)


def core_of(f, xs=XS):
    return split.split(step.trace(f, xs[0], xs, None).body).core


def linear(scale, shift=0.0):
    return lambda h, x: (jnp.tanh(h @ W * scale + x) + shift, None)


def test_two_traces_of_one_step_are_one_body():
    assert core_of(linear(2.0)) is core_of(linear(2.0))


def test_other_numbers_shapes_and_operations_are_other_bodies():
    bodies = [
        core_of(linear(2.0)),
        core_of(linear(3.0)),
        core_of(linear(2.0, -0.0)),
        core_of(linear(2.0), XS[:, :1]),
        core_of(lambda h, x: (jnp.sin(h @ W * 2.0 + x) + 0.0, None)),
        core_of(lambda h, x: (jnp.tanh(x + h @ W * 2.0) + 0.0, None)),
    ]
    assert len({id(body) for body in bodies}) == len(bodies)


def test_steps_with_nested_programs_are_compared_in_depth():
    def nested(times):
        def f(h, x):
            return jax.lax.fori_loop(0, 3, lambda _, h: h * times + x, h), None

        return f

    assert core_of(nested(2.0)) is core_of(nested(2.0))
    assert core_of(nested(2.0)) is not core_of(nested(3.0))


def with_rule(slope, symbolic_zeros=False):
    """A step with a derivative of its own, written anew at each call as in a cell's `call`."""

    @jax.custom_jvp
    def gate(z):
        return jnp.tanh(z)

    def rule(primals, tangents):
        if symbolic_zeros:
            return gate(*primals), jnp.zeros_like(primals[0])
        return gate(*primals), slope * tangents[0]

    gate.defjvp(rule, symbolic_zeros=symbolic_zeros)
    return lambda h, x: (gate(h @ W + x), None)


def test_steps_with_derivatives_of_their_own_are_compared_with_their_rules():
    def relu(h, x):
        return jax.nn.relu(h @ W + x), None

    assert core_of(relu) is core_of(lambda h, x: (jax.nn.relu(h @ W + x), None))
    assert core_of(with_rule(2.0)) is core_of(with_rule(2.0))
    assert core_of(with_rule(2.0)) is not core_of(with_rule(3.0))
    # Such a rule may do anything for each pattern of zeros: it is never taken for another.
    assert core_of(with_rule(2.0, True)) is not core_of(with_rule(2.0, True))


def test_a_rule_that_fails_fails_only_where_it_is_asked_for():
    @jax.custom_jvp
    def forward_only(z):
        return jnp.sin(z)

    @forward_only.defjvp
    def _(primals, tangents):
        raise NotImplementedError("no derivative")

    def f(h, x):
        return forward_only(h @ W + x), None

    assert recurrax.scan(f, XS[0], XS)[0].shape == (2, 3)


@pytest.mark.parametrize("step_of", [linear, with_rule])
def test_a_call_outside_jit_compiles_once(step_of, caplog):
    for _ in range(2):
        jax.grad(lambda h: recurrax.scan(step_of(7.0), h, XS)[0].sum())(XS[0])
    with jax.log_compiles(), caplog.at_level("WARNING"):
        jax.grad(lambda h: recurrax.scan(step_of(8.0), h, XS)[0].sum())(XS[0])
        assert "jit(loop)" in caplog.text
        caplog.clear()
        jax.grad(lambda h: recurrax.scan(step_of(7.0), h, XS)[0].sum())(XS[0])
    assert "jit(loop)" not in caplog.text
