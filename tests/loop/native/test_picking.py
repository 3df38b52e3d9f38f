"""Features picked by integers, and written where integers tell: gathers and scatters."""

import direct
import interpreter
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import assert_close, assert_like_xla, body_of, draw, run_native
from jax import lax
from recurrences import assert_same

import recurrax
from recurrax.loop import jaxprs
from recurrax.loop.body import Body
from recurrax.loop.native.kernel import build_loop
from recurrax.loop.native.lower import lower
from recurrax.loop.native.target import host
from recurrax.loop.native.unsupported import Unsupported

T, B = 3, 5


def some(n, *, low=0, high=None, count=None):
    """Indices, some of them twice."""
    high = n if high is None else high
    return np.random.default_rng(n).integers(low, high, n if count is None else count)


def permutation(n):
    return np.random.default_rng(n).permutation(n)


CELLS = {
    "permuted": lambda v, n: v[:, permutation(n)],
    "permuted by an array": lambda v, n: v[..., jnp.asarray(permutation(n))],
    "each row alone": lambda v, n: jax.vmap(lambda row: row[permutation(n)])(v),
    "features first": lambda v, n: v.T[permutation(n)].T,
    "in a few pieces": lambda v, n: v[:, np.roll(np.arange(n), 2)],
    "reversed": lambda v, n: jnp.flip(v, -1),
    "some twice": lambda v, n: v[:, some(n)],
    "outside, filled": lambda v, n: jnp.take(v, some(n, low=-2 * n, high=2 * n), 1, fill_value=2.0),
    "outside, clipped": lambda v, n: jnp.take(v, some(n, low=-n, high=2 * n), 1, mode="clip"),
    "outside, wrapped": lambda v, n: jnp.take(v, some(n, low=-n, high=2 * n), 1, mode="wrap"),
    "of two axes": lambda v, n: (v[:, :, None] * v[:, None, :3])[:, some(n), some(n, high=3) % n],
    "repeated": lambda v, n: jnp.repeat(v, some(n, high=3), axis=1, total_repeat_length=n),
    "interleaved": lambda v, n: jnp.stack([v, 2 * v], -1).reshape(v.shape[0], 2 * n)[:, 1 : n + 1],
    "a few": lambda v, n: v * v[:, [0, -1, n // 2]].sum(-1, keepdims=True),
    "set": lambda v, n: v.at[:, permutation(n)[::2]].set(v[:, : -(-n // 2)] * 3),
    "added": lambda v, n: v.at[:, some(n, high=n + 2)].add(2 * v, mode="drop"),
    "added, clipped": lambda v, n: v.at[:, some(n, low=-2, high=n + 2)].add(2 * v, mode="clip"),
    "multiplied": lambda v, n: v.at[:, permutation(n)[1::2]].multiply(0.5),
    "largest": lambda v, n: v.at[:, some(n)].max(0.1 - v),
    "subtracted": lambda v, n: v.at[:, some(n)].subtract(v),
}


@pytest.mark.parametrize(("n", "batch"), [(1, 5), (3, 33), (17, 1), (129, 5)])
def test_values_and_gradients(n, batch):
    w, h, xs = draw(0, n, n, scale=n**-0.5), draw(1, batch, n), draw(2, T, batch, n)

    def step(w, h, x):
        v = jnp.tanh(h @ w + x)
        ys = [f(v, n) for f in CELLS.values()]
        return jnp.tanh(sum(ys[::3]) + CELLS["permuted"](h, n) * v), ys

    def loss(w, h, xs):
        last, ys = recurrax.scan(lambda h, x: step(w, h, x), h, xs)
        weights = jnp.arange(n) + 1.0
        return (last * weights).sum() + sum((jnp.sin(y) * weights).sum() for y in ys), ys

    program = interpreter.traced(jax.value_and_grad(loss, (0, 1, 2), has_aux=True), w, h, xs)
    native = direct.Loops(threads=3)
    assert_same(program(native), program(), 4e-6)
    assert native.taken == 2, native.refused


def test_where_integers_come_from():
    """From arguments that nobody knows beforehand, for all rows alike, or for each row its own."""
    n, m = 37, 4
    rng = np.random.default_rng(0)
    every, own = rng.integers(-n, n, 9), rng.integers(0, n, (T, B, m))
    consts = (jnp.asarray(every), draw(3, 6, n))

    def step(consts, carry, xs):
        h, at = carry
        mine = xs[1]
        picked = h[:, consts[0]]
        taken = jnp.take_along_axis(h, mine, 1)
        table = jnp.take(consts[1], mine[:, 0] % 6, axis=0)
        element = jnp.cos(consts[1])[mine % 6, at % n]
        written = jax.vmap(lambda row, k, new: row.at[k].add(new))(h, mine, taken)
        window = lax.dynamic_slice_in_dim(h, at, 5, 1)
        ring = lax.dynamic_update_slice_in_dim(h, jnp.tanh(h[:, :20]), at - 2, 1)
        return (jnp.tanh(ring + table), at + 9), (picked, taken, element, written, window)

    xs = (draw(1, T, B, n), jnp.asarray(own, jnp.int32))
    assert_like_xla(step, consts, (draw(2, B, n), jnp.int32(0)), xs)


def whole_numbers(rng, shape, dtype):
    if np.dtype(dtype) == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.iinfo(np.int8)
    return rng.integers(max(limits.min, -999), min(limits.max, 999), shape).astype(dtype)


@pytest.mark.parametrize(
    "dtype",
    [bool, np.int8, np.uint8, np.int16, np.uint32, np.int64, np.float64, jnp.bfloat16, np.float16],
)
def test_every_dtype(dtype):
    """Small ones wrap as they are added up; what is outside has the value that JAX gives it."""
    n, steps = 19, 2
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        at = rng.integers(-2 * n, 2 * n, 23).astype(np.int8)
        h = jnp.asarray(whole_numbers(rng, (B, n), dtype))
        x = jnp.asarray(whole_numbers(rng, (steps, B, 23), dtype))

        def step(consts, carry, xs):
            v = carry[0] ^ xs[0][:, :n] if dtype is bool else carry[0]
            written = [v.at[:, consts[0]].set(xs[0]), v.at[:, consts[0]].max(xs[0])]
            if dtype in (np.int8, np.uint8, np.int16, np.uint32, np.int64):
                written += [v.at[:, consts[0]].add(xs[0]), v.at[:, consts[0]].mul(xs[0])]
            return carry, (jnp.take(v, consts[0], 1), v[:, consts[0]], *written)

        body = body_of(step, (jnp.asarray(at),), (h,), (x,))
        _, *ours = direct.run(
            body, [at, h, x], reverse=False, length=steps, threads=3, target=host()
        )
        for t in range(steps):
            theirs = step((jnp.asarray(at),), (h,), (x[t],))[1]
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(*(np.asarray(v, np.float64) for v in (a[t], b)))


MODES = lax.GatherScatterMode
WRITES = (lax.scatter, lax.scatter_add, lax.scatter_min, lax.scatter_mul)


def windows(rng):
    """A random gather or scatter of windows, and its operands: whole, indices and updates."""
    own = rng.random() < 0.4
    features = [int(rng.choice([1, 2, 3, 5, 17])) for _ in range(rng.integers(1, 4))]
    whole = (B, *features)
    indexed = rng.permutation(len(features))[: rng.integers(1, len(features) + 1)] + 1
    sizes = [n if rng.random() < 0.6 else int(rng.integers(1, n + 1)) for n in whole]
    sizes[0] = 1 if own else B
    dropped = [int(k) for k in sorted(indexed) if sizes[k] == 1 and rng.random() < 0.7]
    many = [B] * own + [int(rng.choice([1, 2, 9])) for _ in range(rng.integers(0, 3))]
    kept = [k for k in range(len(whole)) if k not in dropped and not (own and k == 0)]
    inner = sorted(int(k) for k in rng.permutation(len(kept) + len(many))[: len(kept)])
    rest, lengths = iter(many), dict(zip(inner, kept, strict=True))
    shape = [
        sizes[lengths[k]] if k in lengths else next(rest) for k in range(len(kept) + len(many))
    ]
    dtype = rng.choice([np.int32, np.int8, np.uint8, np.uint32])  # what is below 0 wraps
    indices = rng.integers(-3, 20, (*many, len(indexed))).astype(dtype)
    pair = (0,) if own else ()
    numbers = [tuple(inner), tuple(dropped), tuple(int(k) for k in indexed), pair, pair]
    mode = MODES.CLIP if rng.random() < 0.5 else MODES.FILL_OR_DROP

    def gather(h, at, _):
        dimensions = lax.GatherDimensionNumbers(*numbers)
        return lax.gather(h, at, dimensions, tuple(sizes), mode=mode)

    write = WRITES[rng.integers(len(WRITES))]

    def scatter(h, at, new):
        return write(h, at, new, lax.ScatterDimensionNumbers(*numbers), mode=mode)

    arrays = [np.float32(rng.normal(size=s)) for s in (whole, shape)]
    return gather if rng.random() < 0.4 else scatter, arrays[0], indices, arrays[1]


def test_windows_of_every_kind():
    rng = np.random.default_rng(0)
    for _ in range(24):
        move, whole, at, updates = windows(rng)
        target = direct.SSE if host().is_x86 and rng.random() < 0.3 else host()

        def step(consts, carry, xs, move=move):
            return carry, (move(-carry[0], *xs),)

        xs = at[None], updates[None]
        body = body_of(step, (), (jnp.asarray(whole),), [jnp.asarray(x) for x in xs])
        how = {"reverse": False, "length": 1, "threads": 3, "target": target}
        _, ours = direct.run(body, [whole, *xs], **how)
        assert_close(ours[0], np.asarray(move(-jnp.asarray(whole), at, updates)), 1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize(("n", "size"), [(12, 5), (300, 5), (300, 290)])
def test_windows_that_begin_far_outside(n, size, dtype):
    limits = np.iinfo(dtype)
    with jax.enable_x64(True):
        at = np.array([limits.min, limits.max, limits.max // 2 + 1, 3], dtype)

        def step(consts, carry, xs):
            (h,), (k,) = carry, xs
            window = lax.dynamic_slice_in_dim(h, k, size, 1)
            return carry, (window, lax.dynamic_update_slice_in_dim(h, consts[0], k, 1))

        assert_like_xla(step, (draw(0, B, size),), (draw(1, B, n),), (jnp.asarray(at),))


@pytest.mark.parametrize(
    ("move", "shape"),
    [
        (lambda whole, at: jnp.take(whole, at, 1, mode="clip"), (2, 2**31)),
        (lambda whole, at: jnp.take(whole, at, 0, mode="clip"), (2**31 + 1, 1)),
        (lambda whole, at: whole.at[at, at].set(1), (2**16, 2**16)),
    ],
)
def test_more_numbers_than_indices_count_are_refused(move, shape):
    whole, at = jax.ShapeDtypeStruct(shape, np.int8), jax.ShapeDtypeStruct((2,), np.int32)
    closed = jaxprs.inlined(jax.make_jaxpr(move)(whole, at), derivatives=True)
    with pytest.raises(Unsupported, match="more than its indices count"):
        lower(Body(closed, 1, 0))


def test_nan_stays_in_its_row():
    n = 21
    xs = draw(1, T, B, n).at[1, 2, 3].set(jnp.nan)

    def step(consts, carry, xs):
        h = jnp.tanh(carry[0][:, permutation(n)] + xs[0])
        return (h,), (h.at[:, some(n)].add(h), h[:, 3 + 0 * some(n)])

    body = body_of(step, (), (draw(0, B, n),), (xs,))
    _, ys = run_native(body, (), (draw(0, B, n),), (xs,))
    for y in ys:
        assert np.isfinite(np.delete(y, 2, 1)).all() and np.isfinite(y[0]).all()
    assert np.isnan(ys[0][1:, 2]).any() and np.isnan(ys[1][1, 2]).all()


@pytest.mark.parametrize("name", ["permuted", "added", "interleaved", "reversed"])
def test_code_does_not_grow_with_the_features(name):
    def lines(n):
        body = body_of(
            lambda c, s, x: ((jnp.tanh(CELLS[name](s[0], n)),), ()), (), (draw(0, B, n),), ()
        )
        return len(str(build_loop(lower(body), host(), False, T, 1)).splitlines())

    assert lines(1024) < lines(64) + 100


@jax.custom_jvp
def mixed(h):
    return h[:, permutation(8)] * 2


@mixed.defjvp
def _(primals, tangents):
    return mixed(*primals), tangents[0][:, permutation(8)] * 2


@pytest.mark.parametrize("mix", [mixed, lambda h: h[:, permutation(8)]])
def test_explain_tells_of_it(mix):
    told = recurrax.explain(
        lambda h, x: (jnp.tanh(mix(h) + x),) * 2, jnp.zeros((B, 8)), draw(0, T, B, 8)
    )
    assert told.runner == told.backward_runner == "native"


@pytest.mark.parametrize("of_rows", [True, False])
def test_arrays_that_stand_in_the_step(of_rows):
    n = 11
    rng = np.random.default_rng(0)
    gain, mask = np.float32(rng.normal(size=n)), rng.integers(0, 2, (1, n)).astype(bool)
    gain[3:6] = np.nan, -0.0, np.inf
    bits = rng.integers(0, 1 << 32, n, np.uint32)
    table = np.float32(rng.normal(size=(B, n)))

    def step(consts, carry, xs):
        h = jnp.where(mask, carry[0], xs[0])
        if of_rows:
            h = h + table
        return (jnp.tanh(h),), (h * gain, 1 / (h * 0 + gain), (bits // 3).astype(jnp.float32) * h)

    assert_like_xla(step, (), (draw(0, B, n),), (draw(1, T, B, n),))
