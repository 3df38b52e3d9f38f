"""The jaxpr of a differentiated loop: what stands inside it, and what does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import opened
from recurrences import assert_same, lstm

import recurrax
from recurrax.loop import jaxprs, split, step
from recurrax.loop.gradient import derivative

BATCH, LENGTH, FEATURES, UNITS = 3, 5, 2, 4


def lstm_arguments():
    keys = jax.random.split(jax.random.key(0), 4)
    w = {
        "kernel": jax.random.normal(keys[0], (FEATURES, 4 * UNITS)),
        "recurrent": jax.random.normal(keys[1], (UNITS, 4 * UNITS)),
        "bias": jax.random.normal(keys[2], (4 * UNITS,)),
    }
    zeros = jnp.zeros((BATCH, UNITS))
    return w, (zeros, zeros), jax.random.normal(keys[3], (LENGTH, BATCH, FEATURES))


def program_of(loss, *args):
    closed = opened(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1, 2)))(*args))
    loops = [eqn for eqn in closed.eqns if eqn.primitive.name == "loop"]
    return closed, loops


def shapes(avals):
    return [a.shape for a in avals]


def test_lstm_has_one_product_in_each_loop_and_no_weight_gradient_in_its_carry():
    w, init, xs = lstm_arguments()

    def loss(w, init, xs):
        last, ys = recurrax.scan(lstm(w), init, xs)
        return sum(jnp.sin(leaf).sum() for leaf in (*last, ys))

    closed, loops = program_of(loss, w, init, xs)
    forward, backward = (eqn.params["jaxpr"] for eqn in loops)
    for body, weight in ((forward, 1), (backward, 1)):
        (product,) = [e for e in body.eqns if e.primitive.name == "dot_general"]
        assert product.invars[weight].aval.shape == w["recurrent"].shape
        assert w["kernel"].shape not in shapes(body.in_avals)
    states, bias_sum = [(BATCH, UNITS)] * 2, (BATCH, 4 * UNITS)
    for eqn, expected in zip(loops, (states, [*states, bias_sum]), strict=True):
        m = eqn.params["num_consts"]
        carry = eqn.params["jaxpr"].in_avals[m : m + eqn.params["num_carry"]]
        assert shapes(carry) == expected
    gathered = [e.outvars[0].aval.shape for e in closed.eqns if e.primitive.name == "loop_gather"]
    assert sorted(gathered) == sorted([w["kernel"].shape, w["recurrent"].shape])
    # One cotangent of the gates serves both weights and the inputs.
    assert len(loops[1].outvars) == 3 + 1


def test_forward_keeps_the_sum_of_the_products_and_the_carry():
    w, init, xs = lstm_arguments()
    core = split.split(step.trace(lstm(w), init, xs, None).body).core
    d = derivative(core, tuple(jaxprs.is_float(a) for a in core.jaxpr.in_avals))
    assert [v.aval.shape for v in d.extras] == [(BATCH, UNITS)] * 2 + [(BATCH, 4 * UNITS)]


def test_inference_keeps_nothing():
    w, init, xs = lstm_arguments()
    closed = opened(jax.make_jaxpr(lambda w: recurrax.scan(lstm(w), init, xs))(w))
    (eqn,) = [e for e in closed.eqns if e.primitive.name == "loop"]
    assert len(eqn.outvars) == 2 + 1


def test_cotangents_that_are_zero_are_not_read():
    w, init, xs = lstm_arguments()

    def loss(w, init, xs):
        return recurrax.scan(lstm(w), init, xs)[0][0].sum()

    _, (_, backward) = program_of(loss, w, init, xs)
    n = backward.params["num_consts"] + backward.params["num_carry"]
    # carry c, the kept sum; no cotangent of ys
    assert shapes(v.aval for v in backward.invars[n:]) == [
        (LENGTH, BATCH, UNITS),
        (LENGTH, BATCH, 4 * UNITS),
    ]


@dataclasses.dataclass(frozen=True)
class Case:
    """A step on a weight, how its gradient is found, and in what shapes."""

    f: object
    shape: tuple[int, ...]
    how: str


CASES = {
    "product": Case(lambda w: lambda h, x: (jnp.tanh(h @ w + x), h), (UNITS, UNITS), "gathered"),
    "twice": Case(lambda w: lambda h, x: (jnp.tanh(h @ w @ w + x), h), (UNITS, UNITS), "gathered"),
    "transposed": Case(
        lambda w: lambda h, x: (jnp.tanh(h @ w.T + x), h), (UNITS, UNITS), "gathered"
    ),
    "from the left": Case(
        lambda w: lambda h, x: (jnp.tanh((w @ h.T).T + x), h), (UNITS, UNITS), "gathered"
    ),
    "bias": Case(lambda w: lambda h, x: (jnp.tanh(h + x + w), h), (UNITS,), "summed"),
    "gain": Case(lambda w: lambda h, x: (jnp.tanh(h * w + x), h), (UNITS,), "summed"),
    "scalar": Case(lambda w: lambda h, x: (jnp.tanh(h * w + x), h), (), "summed"),
    "steered by the state": Case(
        lambda w: lambda h, x: (jnp.tanh(h @ (w * h.mean()) + x), h), (UNITS, UNITS), "accumulated"
    ),
    "weight as it is": Case(
        lambda w: lambda h, x: (jnp.where(x > 0, w, jnp.tanh(h)), h), (BATCH, UNITS), "accumulated"
    ),
    "both": Case(
        lambda w: lambda h, x: (jnp.tanh(h @ w + x + (w * h.sum()).sum()), h),
        (UNITS, UNITS),
        "accumulated",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_gradients_are_gathered_where_they_can_be(case):
    w = jax.random.normal(jax.random.key(1), case.shape) / 2
    h = jnp.ones((BATCH, UNITS)) / 2
    xs = jax.random.normal(jax.random.key(2), (LENGTH, BATCH, UNITS))
    told = recurrax.explain(case.f(w), h, xs)
    counts = {how: getattr(told, how) for how in ("gathered", "summed", "accumulated")}
    assert counts == {**dict.fromkeys(counts, 0), case.how: 1}

    def gradient(scan):
        return jax.grad(lambda w, h, xs: scan(case.f(w), h, xs)[1].sum(), argnums=(0, 1, 2))(
            w, h, xs
        )

    assert_same(gradient(recurrax.scan), gradient(jax.lax.scan))


def test_products_of_two_states_are_kept_but_not_gathered():
    h = jax.random.normal(jax.random.key(1), (BATCH, UNITS))
    xs = jax.random.normal(jax.random.key(2), (LENGTH, BATCH, UNITS))

    def f(h, x):
        return jnp.tanh(jax.nn.softmax(h @ x.T) @ h), h

    def gradient(scan):
        return jax.grad(lambda h, xs: scan(f, h, xs)[1].sum(), argnums=(0, 1))(h, xs)

    assert recurrax.explain(f, h, xs).gathered == 0
    assert_same(gradient(recurrax.scan), gradient(jax.lax.scan))


def test_branches_that_keep_different_things_stay_native():
    xs = jax.random.normal(jax.random.key(2), (LENGTH, BATCH, UNITS))
    branches = [jnp.sin, lambda v: v * v, lambda v: jnp.tanh(v) * v[:, :1]]

    def f(carry, x):
        h, turn = carry
        return (jax.lax.switch(turn % 3, branches, 0.5 * h + x), turn + 1), h

    def gradient(scan):
        return jax.grad(lambda xs: scan(f, (xs[0], 0), xs)[1].sum())(xs)

    told = recurrax.explain(f, (xs[0], 0), xs)
    assert told.runner == told.backward_runner == "native"
    assert_same(gradient(recurrax.scan), gradient(jax.lax.scan))


def test_long_sums_of_gains_stay_exact():
    """The gradient of a gain over 20,000 steps, in float32, is that in float64."""
    xs = jax.random.normal(jax.random.key(2), (20_000, 2, 3))

    def gradient(dtype):
        def loss(gain):
            start, inputs = jnp.zeros((2, 3), dtype), xs.astype(dtype)
            ys = recurrax.scan(lambda h, x: (0.5 * jnp.tanh(h * gain) + x, h), start, inputs)[1]
            return jnp.square(ys).sum()

        return jax.jit(jax.grad(loss))(jnp.ones(3, dtype))

    single = np.asarray(gradient(jnp.float32))
    with jax.enable_x64(True):
        double = np.asarray(gradient(jnp.float64))
    np.testing.assert_allclose(single, double, rtol=1e-5)


@pytest.mark.parametrize("runner", ["native", "xla"])
def test_sums_over_steps_and_rows_are_exact(runner):
    """Gradients of biases and gains over 1,000 steps of odd sizes, to float32 rounding."""
    rows, units, length = 5, 19, 1000
    keys = jax.random.split(jax.random.key(3), 3)
    w = [0.5 * jax.random.normal(keys[0], (units,)), jnp.ones(units)]
    xs = jax.random.normal(keys[1], (length, rows, units))
    toward = jax.random.normal(keys[2], (length, rows, units))

    def loss(w, xs, segments=None):
        bias, gain = w

        def step(h, x):
            z = 0.5 * h + x
            h = jnp.tanh(z * jax.lax.rsqrt((z * z).mean(-1, keepdims=True) + 0.1) * gain + bias)
            return h, h

        start = jnp.zeros(xs.shape[1:], xs.dtype)
        ys = recurrax.scan(step, start, xs, runner=runner, segments=segments)[1]
        return (ys * toward[: len(xs)].astype(xs.dtype)).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
    ours = gradients(w, xs)
    with jax.enable_x64(True):
        exact = gradients([p.astype(jnp.float64) for p in w], xs.astype(jnp.float64))
    for a, b in zip(ours[0], exact[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())
    assert_same(gradients(w, xs, 7), ours, 1e-6)
    assert [g.tolist() for g in gradients(w, xs[:0])[0]] == [[0.0] * units] * 2

    # Groups of rows, one with a NaN: it reaches its group's sums and its row's inputs alone.
    twice = xs[:20, None].repeat(2, 1).at[3, 1, 2, 0].set(jnp.nan)
    sums, d_xs = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(None, 1)))(w, twice)
    assert_same(([s[0] for s in sums], d_xs[0]), gradients(w, xs[:20]), 1e-6)
    assert all(np.isnan(s[1]).all() for s in sums)
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(d_xs[1][:, others], d_xs[0][:, others])


@pytest.mark.parametrize("order", [1, 2])
def test_what_a_joined_cotangent_holds_does_not_leave_the_loop_again(order):
    """A minimal gated unit: two products, each added to one half of what `x` makes."""
    w, _, xs = lstm_arguments()
    w = {"both": w["kernel"][:, : 2 * UNITS], "f": w["recurrent"][:, :UNITS]}
    w["g"] = 0.5 * w["f"].T
    h = jnp.ones((BATCH, UNITS))

    def loss(scan):
        def cell(w, h, x):
            xf, xg = jnp.split(x @ w["both"], 2, -1)
            f = jax.nn.sigmoid(xf + h @ w["f"])
            h = (1 - f) * h + f * jnp.tanh(xg + (f * h) @ w["g"])
            return h, h

        def first(w, h, xs):
            return jnp.sin(scan(lambda h, x: cell(w, h, x), h, xs)[1]).sum()

        def second(w, h, xs):
            return jnp.sin(jax.grad(first)(w, h, xs)["g"]).sum()

        return first if order == 1 else second

    ours = jax.grad(loss(recurrax.scan), argnums=(0, 1, 2))(w, h, xs)
    assert_same(ours, jax.grad(loss(jax.lax.scan), argnums=(0, 1, 2))(w, h, xs))
    if order == 1:
        _, (_, backward) = program_of(loss(recurrax.scan), w, h, xs)
        leaving = shapes(v.aval for v in backward.outvars[backward.params["num_carry"] :])
        assert leaving == [(LENGTH, BATCH, 2 * UNITS), (LENGTH, BATCH, UNITS)]
