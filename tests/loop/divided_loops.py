"""Kinds of loops over arrays that devices hold parts of."""

import jax
import jax.numpy as jnp
from divided import (
    OURS,
    ROWS,
    THEIRS,
    case,
    check,
    collectives,
    compiled,
    divided,
    gradients,
    inputs,
    kernels,
    mesh_of,
    put,
)
from jax.sharding import PartitionSpec as P
from recurrences import assert_same, simple

import recurrax
from recurrax.loop.scan import scan_batch_major


@case
def loops_run_rows_of_their_own_on_2_4_and_8_devices():
    args = inputs()
    expected = jax.jit(THEIRS)(*args)
    for count in (2, 4, 8):
        check(OURS, divided(args, mesh_of(count), "a"), count, expected=expected)


@case
def one_row_for_each_device():
    args = inputs(5)
    mesh = mesh_of(5)
    expected = jax.jit(THEIRS)(*args)
    check(OURS, divided(args, mesh, "a"), 5, rows=5, expected=expected)


@case
def other_ways_to_ask_for_a_loop():
    args, mesh = inputs(), mesh_of(4)
    parts = divided(args, mesh, "a")
    expected = jax.jit(THEIRS)(*args)
    how = {"expected": expected}
    check(gradients(recurrax.scan, runner="native"), parts, 4, **how)
    check(gradients(recurrax.scan, segments=2), parts, 4, **how)
    check(jax.checkpoint(lambda *a: OURS(*a)), parts, 4, **how)
    backwards = jax.jit(gradients(jax.lax.scan, reverse=True))(*args)
    check(gradients(recurrax.scan, reverse=True), parts, 4, expected=backwards)


@case
def the_xla_runner_gathers_nothing_and_halves_the_work():
    args, mesh = inputs(), mesh_of(2)
    parts, expected = divided(args, mesh, "a"), jax.jit(THEIRS)(*args)
    function = gradients(recurrax.scan, runner="xla")
    check(function, parts, 2, expected=expected, native=False)
    whole, half = (compiled(function, a, expected)[2].cost_analysis() or {} for a in (args, parts))
    assert 0.4 < half["flops"] / whole["flops"] < 0.6


@case
def loops_over_arrays_that_begin_with_the_batch():
    w, h, xs = inputs()
    xs = jnp.swapaxes(xs, 0, 1)

    def ours(w, h, xs):
        return scan_batch_major(simple(w), h, xs)

    def theirs(w, h, xs):
        last, ys = jax.lax.scan(simple(w), h, jnp.swapaxes(xs, 0, 1))
        return last, jnp.swapaxes(ys, 0, 1)

    mesh = mesh_of(4)
    parts = put(w, mesh), put(h, mesh, "a"), put(xs, mesh, "a")
    check(ours, parts, 4, reduces=False, expected=theirs(w, h, xs))

    def gradient(f):
        return jax.grad(lambda *a: sum(jnp.sin(y).sum() for y in f(*a)), argnums=(0, 1, 2))

    check(gradient(ours), parts, 4, expected=gradient(theirs)(w, h, xs))


@case
def batched_loops():
    w, h, xs = inputs()
    mesh = mesh_of(4)
    several = jax.tree.map(lambda a: jnp.stack([a, 0.9 * a]), w)
    expected = jax.vmap(THEIRS, in_axes=(0, None, None))(several, h, xs)
    parts = divided((several, h, xs), mesh, "a")
    check(jax.vmap(OURS, in_axes=(0, None, None)), parts, 4, expected=expected, native=False)

    def samples(scan):
        def one(w, h, x):
            return scan(simple(w), h, x)

        return jax.vmap(one, in_axes=(None, 0, 1), out_axes=(0, 1))

    parts, expected = divided((w, h, xs), mesh, "a"), samples(jax.lax.scan)(w, h, xs)
    check(samples(recurrax.scan), parts, 4, reduces=False, expected=expected)


@case
def loops_that_xla_divides():
    """Rows that meet, random keys, effects: no kernel could be given some rows of these."""
    args, mesh = inputs(), mesh_of(4)

    def meet(w):
        return lambda h, x: simple(w)(h - h.mean(0), x)

    parts = divided(args, mesh, "a")
    text, results, _ = compiled(
        gradients(recurrax.scan, meet), parts, gradients(jax.lax.scan, meet)(*args)
    )
    assert not collectives(text)["all-gather"] and not kernels(text)
    assert results[0][1][1].sharding.spec == P(None, "a")

    def prints(w):
        def step(h, x):
            jax.debug.callback(lambda: None)
            return simple(w)(h, x)

        return step

    last = [
        jax.jit(lambda w, h, xs, s=s: s(prints(w), h, xs)) for s in (recurrax.scan, jax.lax.scan)
    ]
    assert_same(last[0](*parts), last[1](*parts))

    def draws(w):
        def step(carry, x):
            key, h = carry
            key, now = jax.random.split(key)
            h, y = simple(w)(h, x)
            return (key, h * jax.random.bernoulli(now, 0.5, h.shape)), y

        return step

    def drawn(scan):
        return lambda w, h, xs: scan(draws(w), (jax.random.key(0), h), xs)[1]

    text, results, _ = compiled(drawn(recurrax.scan), parts, drawn(jax.lax.scan)(*args))
    assert not collectives(text)["all-gather"]


@case
def loops_of_numbers_along_each_feature():
    def step(w):
        def gated(h, x):
            h = jax.nn.sigmoid(w["bias"]) * h + jnp.tanh(x @ w["kernel"])
            return h, h

        return gated

    args = inputs()
    expected = jax.jit(gradients(jax.lax.scan, step))(*args)
    check(gradients(recurrax.scan, step), divided(args, mesh_of(4), "a"), 4, expected=expected)
    # features too
    mesh = mesh_of(2, 4)
    w, h, xs = args
    parts = put(w, mesh), put(h, mesh, "a", "b"), put(xs, mesh, None, "a")
    text, *_ = compiled(gradients(recurrax.scan, step), parts, expected)
    assert all(ROWS not in shape for shapes in kernels(text) for shape in shapes) and kernels(text)


@case
def loops_in_loops():
    def outer(scan):
        def run(w, h, xs):
            return jax.lax.scan(lambda h, _: scan(simple(w), h, xs), h, None, length=2)

        return run

    args = inputs()
    parts, expected = divided(args, mesh_of(4), "a"), outer(jax.lax.scan)(*args)
    check(outer(recurrax.scan), parts, 4, reduces=False, expected=expected)
