"""The loops that the XLA runner hands to XLA, as the CPU compiles them."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from recurrences import AS_USERS_HAVE_IT, assert_same, lstm

import recurrax

LENGTH, BATCH, UNITS = 7, 5, 24
STACK = rf"f32\[{LENGTH},{BATCH},\d+\]"


def arguments():
    keys = jax.random.split(jax.random.key(0), 3)
    w = {
        "kernel": jax.random.normal(keys[0], (3, 4 * UNITS)) * 0.5,
        "recurrent": jax.random.normal(keys[1], (UNITS, 4 * UNITS)) * 0.2,
        "bias": jnp.zeros(4 * UNITS),
    }
    xs = jax.random.normal(keys[2], (LENGTH, BATCH, 3))
    return w, (jnp.zeros((BATCH, UNITS)),) * 2, xs


def loss(w, init, xs, scan, reverse=False):
    return jnp.square(scan(lstm(w), init, xs, reverse=reverse)[1]).sum()


@pytest.fixture(scope="module")
def compiled():
    scan = functools.partial(recurrax.scan, runner="xla")
    gradient = jax.grad(functools.partial(loss, scan=scan), argnums=(0, 1, 2))
    program = jax.jit(gradient, compiler_options=AS_USERS_HAVE_IT)
    return program.lower(*arguments()).compile()


@pytest.fixture(scope="module")
def computations(compiled):
    """The text of each computation by its name; the program's own by "ENTRY"."""
    found = re.findall(r"^(ENTRY|%[\w.\-]+) .*?\{\n(.*?)^\}", compiled.as_text(), re.M | re.S)
    return dict(found)


def test_no_loop_copies_a_stack_at_a_step(computations):
    bodies = [
        text for name, text in computations.items() if name != "ENTRY" and "dynamic-update-" in text
    ]
    assert len(bodies) >= 2
    assert not any(re.search(rf"= {STACK}\S* copy\(", text) for text in bodies)


def test_the_backward_loop_writes_where_the_forward_loop_kept(compiled):
    gates = LENGTH * BATCH * 4 * UNITS * 4
    # The kept sums take the place of x_t W, their cotangents that of the sums: one such stack,
    # the states, and what is small. With a stack for each it was 4.3.
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * gates


def test_no_product_in_a_loop_transposes_its_weight(computations):
    in_loops = [text for name, text in computations.items() if name != "ENTRY"]
    products = re.findall(rf"= f32\[{BATCH},\d+\]\S* dot\(.*", "\n".join(in_loops))
    assert len(products) == 2
    assert all("rhs_contracting_dims={0}" in product for product in products)


@pytest.mark.parametrize("reverse", [False, True])
def test_one_stack_read_twice_and_written_in_both_orders(reverse):
    def both(scan):
        def f(h, x):
            a, b = x
            return jnp.tanh(h + a), (h * b, a - h, b)

        def total(h, xs):
            return sum(jnp.sin(y).sum() for y in scan(f, h, (xs, xs), reverse=reverse)[1])

        xs = jnp.arange(24.0).reshape(4, 2, 3) / 24
        gradient = jax.value_and_grad(total, argnums=(0, 1))
        return jax.jit(gradient, compiler_options=AS_USERS_HAVE_IT)(xs[0], xs)

    assert_same(both(functools.partial(recurrax.scan, runner="xla")), both(jax.lax.scan))
