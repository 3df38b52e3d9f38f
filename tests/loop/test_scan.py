"""What `scan` takes, keeps, and refuses."""

import jax
import jax.numpy as jnp
import pytest
from recurrences import arguments, assert_same, loss_of, simple

import recurrax
from recurrax.loop import segments

XS = jnp.arange(42.0).reshape(7, 2, 3) / 42


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_sequences(length, reverse):
    w, h, xs = arguments()

    def run(scan):
        return jax.value_and_grad(loss_of(lambda f, h, xs: scan(f, h, xs, reverse=reverse)))(
            w, h, xs[:length]
        )

    assert_same(run(recurrax.scan), run(jax.lax.scan))


def test_unroll_and_length():
    w, h, xs = arguments()
    ours = recurrax.scan(simple(w), h, xs, length=xs.shape[0], unroll=4)
    assert_same(ours, jax.lax.scan(simple(w), h, xs))
    assert_same(
        recurrax.scan(lambda c, _: (c * 2, c), 1.0, None, 5),
        jax.lax.scan(lambda c, _: (c * 2, c), 1.0, None, 5),
    )


def test_a_number_as_carry_takes_the_dtype_of_the_step():
    total, _ = recurrax.scan(lambda c, x: (c + x.sum(), None), 0, XS)
    assert total.dtype == XS.dtype
    assert_same(total, jax.lax.scan(lambda c, x: (c + x.sum(), None), 0, XS)[0])
    for number, dtype in ((1.0, jnp.bfloat16), (2, jnp.int8)):
        last, _ = recurrax.scan(lambda c, x, d=dtype: (c + x.astype(d), None), number, XS[:, 0, 0])
        assert last.dtype == dtype


def test_weights_may_ride_in_the_carry():
    def run(scan):
        def step(carry, x):
            w, h = carry
            return (w, jnp.tanh(h @ w + x)), h

        def loss(w):
            (w, _), ys = scan(step, (w, jnp.ones((2, 3))), XS)
            return ys.sum() + w.sum()

        return jax.value_and_grad(loss)(jnp.eye(3))

    assert_same(run(recurrax.scan), run(jax.lax.scan))


def test_draws_are_those_of_lax_scan():
    keys = jax.random.split(jax.random.key(0), 7)
    w = jnp.eye(3) / 2

    def run(scan):
        def step(carry, inputs):
            h, key = carry
            x, x_key = inputs
            key, here = jax.random.split(key)
            kept = jax.random.bernoulli(x_key, 0.5, h.shape) / 0.5
            h = jnp.tanh((h * kept) @ w + x + jax.random.normal(here, h.shape))
            return (h, key), h

        def loss(h):
            return scan(step, (h, jax.random.key(1)), (XS, keys))[1].sum()

        return jax.value_and_grad(loss)(jnp.ones((2, 3)))

    assert_same(run(recurrax.scan), run(jax.lax.scan))


@pytest.mark.parametrize("ordered", [False, True])
def test_debug_prints_come_once_a_step(capfd, ordered):
    def step(h, x):
        jax.debug.print("seen {}", x[0, 0], ordered=ordered)
        return jnp.tanh(h + x), h

    jax.jit(lambda h: recurrax.scan(step, h, XS)[1])(XS[0])
    jax.effects_barrier()
    assert capfd.readouterr().out.count("seen") == 7
    if not ordered:
        jax.grad(lambda h: recurrax.scan(step, h, XS)[1].sum())(XS[0])
        jax.effects_barrier()
        assert capfd.readouterr().out.count("seen") == 7


def test_a_callback_with_an_effect_leaves_the_loop_to_lax_scan():
    seen = []

    def step(count, _):
        got = jax.experimental.io_callback(
            lambda i: seen.append(int(i)) or i, jax.ShapeDtypeStruct((), jnp.int32), count
        )
        return got + 1, None

    assert recurrax.scan(step, jnp.int32(0), None, length=4)[0] == 4
    assert sorted(seen) == [0, 1, 2, 3]


def test_custom_derivatives_are_kept():
    @jax.custom_vjp
    def clipped(v):
        return v

    clipped.defvjp(lambda v: (v, None), lambda _, ct: (jnp.clip(ct, -0.1, 0.1),))

    def run(scan):
        def step(h, x):
            h = clipped(jnp.tanh(h @ (jnp.eye(3) / 2) + x)) + jax.nn.relu(h)
            return h, clipped(x) * 2

        return jax.grad(lambda h, xs: sum(y.sum() for y in scan(step, h, xs)), argnums=(0, 1))(
            jnp.ones((2, 3)), XS
        )

    assert_same(run(recurrax.scan), run(jax.lax.scan))


def test_without_jit_the_loop_is_plain_python():
    w, h, xs = arguments()
    with jax.disable_jit():
        ours = recurrax.scan(simple(w), h, xs)
    assert_same(ours, jax.lax.scan(simple(w), h, xs))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("number", [1, 2, 4, 6, "auto"])
def test_segments_change_nothing_but_memory(number, reverse):
    w, h, xs = arguments()

    def run(scan, **keywords):
        cut = loss_of(lambda f, h, xs: scan(f, h, xs, reverse=reverse, **keywords))
        return jax.jit(jax.value_and_grad(cut, argnums=(0, 1, 2)))(w, h, xs)

    assert_same(run(recurrax.scan, segments=number), run(jax.lax.scan))


def test_auto_segments_are_the_square_root():
    assert segments.count("auto", 100_000) == 316
    assert segments.count("auto", 0) == 1


def same(h, x):
    return h, x


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((1, 0.0, XS), TypeError, r"f\(carry, x\) -> \(carry, y\), got 1"),
        ((lambda h, x: h, 0.0, XS), TypeError, "return carry, None"),
        ((lambda h, x: ((h, h), x), 0.0, XS), TypeError, r"new carry: \(\*, \*\)"),
        ((lambda h, x: (h[None], x), XS[0], XS), TypeError, r"`init` of shape \(1, 2, 3\)"),
        (
            (lambda h, x: ({"a": h["a"].astype("float16")}, x), {"a": XS[0]}, XS),
            TypeError,
            r"h\['a'\].*astype\(float32\)",
        ),
        ((same, 0.0, None), ValueError, "pass the number of steps as length="),
        ((same, 0.0, (XS, XS[:3])), ValueError, r"\[7, 3\]"),
        ((same, 0.0, XS, 3), ValueError, "length=3.*7"),
        ((same, 0.0, XS, "ten"), TypeError, "'ten'"),
        ((same, 0.0, None, -1), ValueError, "got -1"),
        ((same, 0.0, 3.0), ValueError, "close over it in f"),
    ],
)
def test_errors_say_what_came_and_how_to_mend_it(arguments, error, says):
    with pytest.raises(error, match=says):
        recurrax.scan(*arguments)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"runner": "cuda"}, "runner='cuda'"),
        ({"segments": 9}, "segments=9"),
        ({"segments": 0}, "segments=0"),
        ({"unroll": -1}, "unroll.*-1"),
        ({"unroll": 2.5}, "unroll.*2.5"),
        ({"segments": "many"}, 'segments="auto"'),
    ],
)
def test_keyword_errors(keywords, says):
    with pytest.raises(ValueError, match=says):
        recurrax.scan(same, 0.0, XS, **keywords)


def test_runner_from_the_environment(monkeypatch):
    monkeypatch.setenv("RECURRAX_RUNNER", "cuda")
    with pytest.raises(ValueError, match="RECURRAX_RUNNER='cuda'"):
        recurrax.scan(same, 0.0, XS)
    monkeypatch.setenv("RECURRAX_RUNNER", "lax")
    program = jax.make_jaxpr(lambda xs: recurrax.scan(same, 0.0, xs))(XS)
    assert [e.primitive.name for e in program.eqns] == ["scan"]


def test_forcing_the_native_runner_on_what_it_cannot_take_is_an_error():
    def step(carry, x):
        return jnp.sort(carry + x), carry

    with pytest.raises(ValueError, match=r"cannot take this loop: .*sort"):
        recurrax.scan(step, jnp.zeros((3, 5)), jnp.ones((4, 3, 5)), runner="native")
