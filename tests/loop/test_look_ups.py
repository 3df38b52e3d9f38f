"""Look-ups inside the step: worked ahead on the table, looked up natively, gradients added up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrences import assert_same

import recurrax
from recurrax.loop.runners import native, xla

COUNT, FEATURES, UNITS, LENGTH, BATCH = 7, 3, 20, 6, 5
H = jnp.zeros((BATCH, UNITS))
IDS = jax.random.randint(jax.random.key(0), (LENGTH, BATCH), 0, COUNT)
SHAPES = {"table": (COUNT, FEATURES), "w": (FEATURES, UNITS), "u": (UNITS, UNITS), "b": (UNITS,)}
WEIGHTS = {
    name: jax.random.normal(jax.random.key(k), shape) / 2
    for k, (name, shape) in enumerate(SHAPES.items())
}


def clipped(p):
    def step(h, i):
        x = jnp.take(p["table"], i, axis=0, mode="clip")
        h = jnp.tanh(x @ p["w"] + p["b"] + h @ p["u"])
        return h, h[:, :FEATURES] + x

    return step


def indexed(p):
    def step(h, i):
        x = p["table"][i]
        return jnp.tanh(x @ p["w"] + h @ p["u"]) * (p["table"][i[0]] @ p["w"]), x * x

    return step


def by_state(p):
    """Looks up what the step before chose."""

    def step(state, i):
        h, chosen = state
        h = jnp.tanh(p["table"][chosen] @ p["w"] + h @ p["u"])
        return (h, (chosen + i) % COUNT), h

    return step


@pytest.mark.parametrize("runner", ["native", "xla"])
@pytest.mark.parametrize("cell", [clipped, indexed, by_state])
def test_values_and_gradients(cell, runner):
    init = (H, IDS[0]) if cell is by_state else H
    # beyond the table too, where a look-up that clips takes the first or the last row
    ids = IDS + 2 * (IDS == COUNT - 1) - 2 * (IDS == 0) if cell is clipped else IDS
    if cell is indexed and runner == "native":
        runner = None  # one look-up for all rows is not computed natively

    def run(scan, **options):
        def loss(p):
            carry, ys = scan(cell(p), init, ids, **options)
            return (ys**2).sum() + jax.tree.leaves(carry)[0].sum(), (carry, ys)

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(WEIGHTS)

    assert_same(run(recurrax.scan, runner=runner), run(jax.lax.scan))


def test_a_small_table_is_multiplied_once():
    told = recurrax.explain(clipped(WEIGHTS), H, IDS)
    assert (told.once["dot_general"], told.once["add"]) == (1, 1)
    assert "dot_general" not in told.before and told.inside["dot_general"] == 1
    assert (told.gathered, told.summed, told.accumulated) == (3, 0, 0)
    assert told.runner == told.backward_runner == "native"


def test_a_large_table_is_not():
    table = jnp.zeros((IDS.size // 2 + 1, FEATURES))
    told = recurrax.explain(clipped(WEIGHTS | {"table": table}), H, IDS)
    assert told.before["dot_general"] == told.before["gather"] == 1
    assert "dot_general" not in told.once


def test_batched_and_twice_differentiated():
    def loss(p, ids, scan):
        return (scan(clipped(p), H, ids)[1] ** 2).sum()

    def slope(p, ids, scan):
        """The length of the gradient of several samples at once."""
        found = jax.vmap(jax.grad(loss), in_axes=(None, 0, None))(p, ids, scan)
        return sum((g**2).sum() for g in jax.tree.leaves(found))

    ids = jnp.stack([IDS, IDS[::-1]])
    ours, theirs = (
        jax.jit(jax.value_and_grad(slope), static_argnums=2)(WEIGHTS, ids, scan)
        for scan in (recurrax.scan, jax.lax.scan)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


# Of more rows than are added up into one result, of more and of fewer columns than a vector holds.
@pytest.mark.parametrize(
    ("rows", "columns", "count"), [(1, 1, 1), (50, 3, 4), (300, 150, 40), (9000, 33, 5)]
)
def test_rows_added_up(rows, columns, count):
    index = jax.random.randint(jax.random.key(1), (rows,), 0, count)
    dz = jax.random.normal(jax.random.key(2), (rows, columns))
    exact = np.zeros((count, columns))
    np.add.at(exact, index, np.asarray(dz, np.float64))
    for runner in (native, xla):
        np.testing.assert_allclose(
            runner.add_up(index, dz, count=count), exact, atol=1e-6 * rows**0.5 * 3
        )
    with jax.enable_x64(True):
        wide = native.add_up(index.astype(np.int64), dz.astype(np.float64), count=count)
        np.testing.assert_allclose(wide, exact, atol=1e-11)
    narrow = native.add_up(index, dz.astype(jnp.bfloat16), count=count)
    assert narrow.dtype == jnp.bfloat16 and narrow.shape == exact.shape


def test_indices_of_every_size():
    """A table of more rows than small integers count; numbers beyond it, unsigned ones too."""
    table = jax.random.normal(jax.random.key(4), (300, UNITS))

    def run(scan, ids):
        def loss(table):
            def step(h, i):
                h = jnp.tanh(h / 2 + jnp.take(table, i, axis=0, mode="clip"))
                return h, h

            return (scan(step, H, ids)[1] ** 2).sum()

        return jax.jit(jax.value_and_grad(loss))(table)

    for dtype, far in (("int8", -3), ("uint8", 250), ("uint16", 60_000), ("uint32", 4_000_000_000)):
        ids = (17 * IDS).astype(dtype).at[0].set(far)
        clipped_ids = jnp.asarray(np.clip(np.asarray(ids, np.int64), 0, 299), jnp.int32)
        assert_same(run(recurrax.scan, ids), run(jax.lax.scan, clipped_ids))


@pytest.mark.parametrize("columns", [FEATURES, BATCH])
def test_rows_of_a_table_are_not_rows_of_the_loop(columns):
    """States with features first: what is looked up is turned over."""
    table = jax.random.normal(jax.random.key(5), (COUNT, columns))

    def run(scan):
        def step(h, i):
            h = jnp.tanh(h / 2 + jnp.take(table, i, axis=0, mode="clip").T)
            return h, h

        return jax.jit(lambda ids: scan(step, jnp.zeros((columns, BATCH)), ids))(IDS)

    assert_same(run(recurrax.scan), run(jax.lax.scan))
