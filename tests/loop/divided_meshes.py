"""Kinds of meshes that a loop's arrays lie on."""

import gc

import jax
import pytest
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
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from recurrences import assert_same, simple

import recurrax
from recurrax.loop import local_rows
from recurrax.loop.native import kernel


@case
def a_batch_over_two_axes_of_a_mesh_or_one_of_two():
    args = inputs()
    expected = jax.jit(THEIRS)(*args)
    for mesh, axes, parts in (
        (mesh_of(2, 2), ("a", "b"), 4),
        (mesh_of(2, 2), ("b", "a"), 4),
        (mesh_of(2, 4), "a", 2),
        (mesh_of(2, 4), "b", 4),
        (mesh_of(2, 2, 2), ("a", "c"), 4),
    ):
        check(OURS, divided(args, mesh, axes), parts, expected=expected)


@case
def a_mesh_that_is_set():
    args = inputs()
    expected = jax.jit(THEIRS)(*args)
    for mesh, axes, parts in ((mesh_of(4), "a", 4), (mesh_of(2, 4), "b", 4)):
        context = jax.set_mesh(mesh)
        check(OURS, divided(args, mesh, axes), parts, expected=expected, context=context)


@case
def two_meshes_in_one_program():
    w, h, xs = args = inputs()
    one, other = mesh_of(4), mesh_of(4, names="q")
    parts = put(w, other), put(h, one, "a"), put(xs, other, None, "q")
    check(OURS, parts, 4, expected=jax.jit(THEIRS)(*args))


@case
def some_arrays_divided_and_others_not():
    w, h, xs = args = inputs()
    mesh, expected = mesh_of(4), jax.jit(THEIRS)(*args)
    check(OURS, (put(w, mesh), put(h, mesh), put(xs, mesh, None, "a")), 4, expected=expected)
    check(OURS, (put(w, mesh), put(h, mesh, "a"), put(xs, mesh)), 4, expected=expected)


@case
def arrays_that_every_device_has():
    args, mesh = inputs(), mesh_of(4)
    text, results, _ = compiled(OURS, put(args, mesh), jax.jit(THEIRS)(*args))
    assert not any(collectives(text).values()) and kernels(text)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(results))


@case
def weights_that_are_divided_too():
    """Each device gathers the weights, and runs rows of its own."""
    w, h, xs = args = inputs()
    mesh = mesh_of(2, 4)
    w = {
        k: put(a, mesh, *[None] * (a.ndim - 1), "a" if k != "project" else None)
        for k, a in w.items()
    }
    parts = w, put(h, mesh, "b", "a"), put(xs, mesh, None, "b")
    text, results, _ = compiled(OURS, parts, jax.jit(THEIRS)(*args))
    assert all(ROWS not in shape for shapes in kernels(text) for shape in shapes) and kernels(text)
    assert results[0][1][1].sharding.spec[1] == "b"


@case
def rows_that_the_devices_cannot_share_evenly():
    args, mesh = inputs(6), mesh_of(4)

    def uneven(w, h, xs):
        h = jax.lax.with_sharding_constraint(h, NamedSharding(mesh, P("a")))
        xs = jax.lax.with_sharding_constraint(xs, NamedSharding(mesh, P(None, "a")))
        return OURS(w, h, xs)

    compiled(uneven, put(args, mesh), jax.jit(THEIRS)(*args))


@case
def some_axes_divided_by_the_program_and_others_by_xla():
    args, mesh = inputs(), mesh_of(2, 4)

    def over_one(scan):
        def some(w, h, xs):
            return jax.lax.psum(gradients(scan)(w, h, xs)[1][0], "a")

        specs = {"in_specs": (P(), P("a"), P(None, "a")), "out_specs": P()}
        return jax.shard_map(some, mesh=mesh, axis_names={"a"}, check_vma=False, **specs)

    parts = divided(args, mesh, ("a", "b"))
    text, *_ = compiled(over_one(recurrax.scan), parts, jax.jit(THEIRS)(*args)[1][0])
    assert not collectives(text)["all-gather"]


@case
def the_partitioner_of_old():
    args = inputs()
    parts, expected = divided(args, mesh_of(4), "a"), jax.jit(THEIRS)(*args)
    jax.config.update("jax_use_shardy_partitioner", False)
    try:
        check(OURS, parts, 4, expected=expected)
    finally:
        jax.config.update("jax_use_shardy_partitioner", True)


@case
def a_pass_that_fails_leaves_the_loop_to_xla():
    def fails(self, parts):
        raise AssertionError("no smaller body")

    args, mesh = inputs(), mesh_of(4)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(RuntimeWarning, match="no smaller"):
        patch.setattr(local_rows.Rows, "local", fails)
        patch.delenv("RECURRAX_STRICT", raising=False)
        function, expected = gradients(recurrax.scan), jax.jit(THEIRS)(*args)
        check(function, divided(args, mesh, "a"), 4, expected=expected, native=False)


@case
def kernels_live_as_long_as_the_program():
    args = inputs()
    mesh, expected = mesh_of(4), jax.jit(THEIRS)(*args)
    parts = divided(args, mesh, "a")
    jax.clear_caches()
    gc.collect()
    before = set(kernel._kernels)
    program = jax.jit(OURS).lower(*parts).compile()
    jax.clear_caches()
    gc.collect()
    assert set(kernel._kernels) - before
    assert_same(jax.device_get(program(*parts)), jax.device_get(expected))
    del program
    jax.clear_caches()
    gc.collect()
    assert not set(kernel._kernels) - before


@case
def what_explain_tells():
    w, h, xs = inputs()
    mesh = mesh_of(4)
    w, h, xs = divided((w, h, xs), mesh, "a")
    told = recurrax.explain(simple(w), h, xs)
    assert told.runner == told.backward_runner == "native"
    told = recurrax.explain(lambda h, x: simple(w)(h - h.mean(0), x), h, xs)
    assert told.runner == "xla" and "rows meet" in told.refusals["native"]
