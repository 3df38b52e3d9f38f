"""Every kind of equation, natively and with XLA."""

import functools

import direct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import assert_like_xla, body_of, draw, run_native
from row_functions import FUNCTIONS, B, F, T

from recurrax.loop.native.target import host
from recurrax.loop.runners import native


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_of_the_carry(name):
    def step(consts, carry, xs):
        value = FUNCTIONS[name](carry[0] + xs[0])
        return (0.5 * jnp.tanh(value),), (value,)

    assert_like_xla(step, (), (draw(0, B, F),), (draw(1, T, B, F),), tolerance=4e-6)


def test_products_with_weights():
    """Both ways round, with bias, with a slice of the weight, and one product after another."""
    consts = [
        draw(k, *s, scale=0.4) for k, s in enumerate([(F, 7), (9, 7), (9,), (3, 9), (4, 9, F)])
    ]

    def step(consts, carry, xs):
        a, b, bias, c, d = consts
        z = carry[0] @ a
        y = jnp.einsum("ij,bj->bi", b, jnp.tanh(z)) + bias
        w = (c @ y.T).T + y[:, 2:5]
        q = jnp.einsum("bi,kij->bkj", y, d)
        return (jnp.tanh(q[:, 1]) + 0.1 * q[:, 3],), (w, z, q, jnp.ones((B, F)) @ a[:, 2:5])

    assert_like_xla(step, consts, (draw(7, B, F),), (draw(1, T, B, F),))


def test_heads_with_weights_of_their_own():
    """(B, H, D) states and (H, D, 4D) weights: one product for each head."""
    heads, size = 3, 5
    consts = (draw(2, heads, size, 4 * size, scale=0.4), draw(3, heads, 4 * size))

    def step(consts, carry, xs):
        (c, h), (weight, bias) = carry, consts
        z = jnp.einsum("bhd,hde->bhe", h, weight) + bias + xs[0]
        i, f, g, o = jnp.split(z, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        norm = jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + 1e-3)
        return (c, jax.nn.sigmoid(o) * c * norm), (z, c.sum(-1))

    carry = (draw(4, B, heads, size), draw(5, B, heads, size))
    assert_like_xla(step, consts, carry, (draw(6, T, B, heads, 4 * size),))


def test_products_of_values():
    """Attention over a row's own features: nothing of it is a weight."""

    def step(consts, carry, xs):
        q, k = carry[0].reshape(B, 2, 3), xs[0].reshape(B, 2, 3)
        scores = jax.nn.softmax(jnp.einsum("bid,bjd->bij", q, k))
        new = (
            jnp.einsum("bij,bjd->bid", scores, q)
            + jnp.einsum("bi,bi->b", carry[0], xs[0])[:, None, None]
        )
        return (jnp.tanh(new).reshape(B, F),), (scores,)

    assert_like_xla(step, (), (draw(7, B, F),), (draw(1, T, B, F),))


def test_rows_of_several_axes_are_folded():
    consts = (draw(2, F, F), draw(3, F))

    def step(consts, carry, xs):
        new = jnp.tanh(carry[0] @ consts[0] + consts[1] + xs[0])
        return (new,), (new * 2,)

    assert_like_xla(step, consts, (draw(4, 2, 3, F),), (draw(5, T, 2, 3, F),))


@pytest.mark.parametrize("batch", [1, 4])
def test_constants_of_every_shape(batch):
    """Scalars, vectors, (1, F) rows, dropout masks of a row for each row, numbers for each row."""
    consts = (
        jnp.float32(0.7),
        draw(2, F),
        draw(3, 1, F),
        draw(4, batch, F) > 0,
        draw(5, batch),
        draw(6, F, F),
        draw(7, batch, 1),
    )

    def step(consts, carry, xs):
        scale, gain, bias, mask, rowwise, weight, column = consts
        h = jnp.where(mask, carry[0], 0.0) @ weight * gain + bias
        h = jnp.tanh(h * scale + rowwise[:, None] + column)
        return (h, carry[1] + 1, carry[2] * rowwise), (h.sum(-1), carry[1], scale * gain)

    carry = (draw(8, batch, F), jnp.int32(3), draw(9, batch))
    assert_like_xla(step, consts, carry, (draw(1, T, batch, F),))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32])
def test_masks_of_many_dtypes(dtype):
    mask = jnp.asarray(np.random.default_rng(3).integers(0, 2, (T, B, 1)).astype(dtype))

    def step(consts, carry, xs):
        x, m = xs
        new = jnp.where(m.astype(bool), jnp.tanh(carry[0] + x), carry[0])
        return (new,), (new, m, jnp.where(m == 1, x, 0.0))

    assert_like_xla(step, (), (draw(0, B, F),), (draw(1, T, B, F), mask))


def test_a_ring_that_an_integer_points_into():
    """Reads and writes at a place that the carry tells, outside of it too."""

    def step(consts, carry, xs):
        ring, t = carry
        old = jax.lax.dynamic_index_in_dim(ring, t % 4, 1, keepdims=False)
        window = jax.lax.dynamic_slice_in_dim(ring, t - 1, 2, 1).sum(1)
        ring = jax.lax.dynamic_update_index_in_dim(ring, jnp.tanh(old + xs[0]), (t + 1) % 5, 1)
        return (ring.at[:, t].mul(0.5), t + 1), (old + window,)

    assert_like_xla(step, (), (draw(0, B, 4, F), jnp.int32(0)), (draw(1, 7, B, F),))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, jnp.bfloat16])
def test_small_numbers_are_written_where_they_belong_and_nowhere_else(dtype):
    """Of rows a vector and one number wide, beside which others are, done before."""
    carry, xs = jnp.ones((B, 17), dtype), jnp.full((T, B, 17), 7, dtype)
    body = body_of(lambda c, s, x: (s, (s[0] + x[0],)), (), [carry], [xs])
    arrays = [np.asarray(carry), np.asarray(xs)]
    _, ys = direct.run(body, arrays, reverse=False, length=T, threads=3, target=host())
    assert (ys == 8).all()


def test_a_long_chain():
    def step(consts, carry, xs):
        h = carry[0]
        for _ in range(800):
            h = h * 0.5 + xs[0]
        return (h,), ()

    carry, xs = (draw(0, B, F),), (draw(1, 2, B, F),)
    (last,), _ = run_native(body_of(step, (), carry, xs), (), carry, xs)
    np.testing.assert_allclose(last, 2 * xs[0][1], rtol=1e-6)


def test_no_rows_at_all():
    """A step on vectors, without a batch."""
    consts = (draw(2, F, F),)

    def step(consts, carry, xs):
        new = jnp.tanh(consts[0] @ carry[0] + xs[0])
        return (new,), (new.sum(), new)

    assert_like_xla(step, consts, (draw(0, F),), (draw(1, T, F),))


def test_no_carry_and_no_xs():
    body = body_of(lambda consts, carry, xs: ((carry[0] * 0.5,), ()), (), (draw(0, B, F),), ())
    (last,), ys = run_native(body, [], [draw(0, B, F)], [], length=4)
    np.testing.assert_allclose(last, draw(0, B, F) * 0.5**4, rtol=1e-6)
    assert ys == []


def test_float64():
    with jax.enable_x64(True):
        consts = (draw(2, F, 4 * F, dtype=np.float64), draw(3, 4 * F, dtype=np.float64))

        def step(consts, carry, xs):
            i, f, g, o = jnp.split(carry[0] @ consts[0] + consts[1] + xs[0], 4, -1)
            c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.sin(c) + jnp.log1p(c * c) + jnp.expm1(-c * c)
            return (h, c), (jax.lax.erf(h), jax.nn.softplus(c), jnp.abs(c) ** h)

        carry = (draw(4, B, F, dtype=np.float64), draw(5, B, F, dtype=np.float64))
        xs = (draw(6, T, B, 4 * F, dtype=np.float64),)
        assert_like_xla(step, consts, carry, xs, tolerance=1e-13)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_small_floats_are_storage(dtype):
    """Arithmetic is in float32: closer to the float32 result than XLA's rounding at every step."""
    consts = (draw(2, F, F), draw(3, F))

    def step(consts, carry, xs):
        new = jnp.tanh(carry[0] @ consts[0] + consts[1] + xs[0])
        return (new,), (new,)

    carry, xs = (draw(4, B, F),), (draw(5, T, B, F),)
    small = jax.tree.map(lambda a: a.astype(dtype), (consts, carry, xs))
    body = body_of(step, *small)
    ours = run_native(body, *small)
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), small)
    exact = run_native(body_of(step, *wide), *wide)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b.astype(dtype))


def test_every_float16_is_read_and_the_nearest_is_written():
    """All 65,536 of them, and float32 numbers at, between and beyond them."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    with np.errstate(over="ignore"):
        ordinary = np.sort(halves[np.isfinite(halves)].astype(np.float32))
        middles = (ordinary[1:] + ordinary[:-1]) / 2
        near = [np.nextafter(middles, s * np.float32(np.inf)) for s in (-1, 1)]
        ends = np.float32([65519.9, 65520, 65520.1, 1e30, np.inf, -np.inf, np.nan, 1e-30])
        wide = np.concatenate([ordinary, middles, *near, ends])
        expected = wide.astype(np.float16)
    xs = [jnp.asarray(np.resize(v, (1, v.size))) for v in (halves, wide)]
    body = body_of(
        lambda c, s, x: ((), (x[0].astype(jnp.float32), x[1].astype(jnp.float16))), (), (), xs
    )
    _, (read, written) = run_native(body, [], [], xs)
    np.testing.assert_array_equal(read[0], halves.astype(np.float32))
    np.testing.assert_array_equal(written[0], expected)


def test_nan_stays_in_its_row():
    consts = (draw(2, F, F),)

    def step(consts, carry, xs):
        h = jnp.maximum(jnp.tanh(carry[0] @ consts[0] + xs[0]), -0.5)
        return (h,), (jax.nn.softmax(h), jax.nn.sigmoid(h) * h.sum(-1, keepdims=True))

    xs = draw(1, T, B, F).at[1, 2, 3].set(jnp.nan).at[0, 4, 0].set(jnp.inf)
    body = body_of(step, consts, (draw(0, B, F),), (xs,))
    (last,), ys = run_native(body, consts, (draw(0, B, F),), (xs,))
    rows = np.arange(B) == 2
    assert np.isnan(last[rows]).all() and np.isfinite(last[~rows]).all()
    for y in ys:
        assert np.isnan(y[1:, 2]).all() and np.isfinite(y[:, ~rows]).all()
        assert np.isfinite(y[0]).all()


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_loops(length):
    def step(consts, carry, xs):
        new = jnp.tanh(carry[0] @ consts[0] + xs[0])
        return (new,), (new, carry[0])

    consts, carry = (draw(2, F, F),), (draw(0, B, F),)
    xs = (draw(1, length, B, F),)
    assert_like_xla(step, consts, carry, xs, reverse=True)


REFUSED = {
    "cumsum": (lambda v: jnp.cumsum(jnp.tile(v, 2), -1)[:, :40], "`cumsum` of [40, 80]"),
    "sort": (lambda v: jnp.sort(v, -1), "sort"),
    "complex": (lambda v: jnp.fft.fft(v).real, "complex64"),
    "inverse": (jnp.linalg.inv, "`lu` of [40, 40]: no native form"),
    "rounded": (lambda v: jax.lax.reduce_precision(v, 5, 10), "`reduce_precision` of [40, 40]"),
    "long": (
        lambda v: functools.reduce(lambda v, _: jnp.tanh(v), range(1100), v),
        "too long to compile",
    ),
    "rows together": (lambda v: v @ (v.T @ v), "rows meet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_equation(name):
    function, word = REFUSED[name]
    wide = 40
    body = body_of(
        lambda consts, carry, xs: ((function(carry[0]),), ()), (), (draw(0, wide, wide),), ()
    )
    assert word in native.refusal(body, [], [draw(0, wide, wide)], [], 3)


def test_a_product_of_more_digits_than_its_operands_is_refused():
    def step(consts, carry, xs):
        wide = jax.lax.dot(carry[0], consts[0], preferred_element_type=jnp.float64)
        return (wide.astype(jnp.float32),), ()

    with jax.enable_x64(True):
        arrays = [draw(0, F, F)], [draw(1, B, F)], []
        refusal = native.refusal(body_of(step, *arrays), *arrays, 3)
    assert refusal is not None and refusal.startswith("`dot_general` of [5, 6], [6, 6]")


def test_the_largest_is_found_where_it_is_computed_again():
    """A product and a sum may be rounded once or twice, but not here so and there so."""
    gain, xs = draw(1, F), draw(2, 40, B, F)

    def step(consts, carry, xs):
        scaled = carry[0] * consts[0]
        total = scaled + xs[0]
        found = total == total.max(-1, keepdims=True)
        return (0.9 * jnp.tanh(scaled),), (found.sum(-1), jnp.argmax(total, -1))

    arguments = [gain], [draw(3, B, F)], [xs]
    _, (number, place) = run_native(body_of(step, *arguments), *arguments)
    assert (number == 1).all() and (place < F).all()
