"""Programs over arrays that eight devices of one process hold parts of; run by `test_sharding.py`.

What is compiled is looked at: which collectives there are, what of the arrays each kernel takes,
how the results lie. The batch is of a size that nothing else has.
"""

import contextlib
import gc
import json
import re
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from named_weights import Weights, prepare
from published_cells import CELLS
from recurrences import UNITS, arguments, assert_same, simple

import recurrax
from recurrax.loop import local_rows
from recurrax.loop.native import kernel
from recurrax.loop.scan import scan_batch_major

ROWS = 40
GROUPS = {}


def case_of(group):
    def named(function):
        GROUPS.setdefault(group, {})[function.__name__] = function
        return function

    return named


def mesh_of(*sizes, names="abc"):
    count = int(np.prod(sizes))
    kinds = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(
        sizes, tuple(names[: len(sizes)]), axis_types=kinds, devices=jax.devices()[:count]
    )


def put(tree, mesh, *spec):
    return jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, P(*spec))), tree)


def collectives(text):
    names = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    return {n: len(re.findall(rf"= [^\n]*? {n}(?:-start)?\(", text)) for n in names}


def kernels(text):
    """The shapes in each call of a kernel."""
    lines = [line for line in text.splitlines() if 'custom_call_target="recurrax' in line]
    shapes = [re.findall(r"[fsu]\d+\[([\d,]*)\]", line) for line in lines]
    return [[tuple(map(int, filter(None, s.split(",")))) for s in found] for found in shapes]


def compiled(function, args, expected, context=None):
    """The text of what is compiled, its results, and the program; values are as `expected`."""
    with context or contextlib.nullcontext():
        program = jax.jit(function).lower(*args).compile()
        results = program(*args)
        assert_same(jax.device_get(results), jax.device_get(expected))
    return program.as_text(), results, program


def check(function, args, parts, *, expected, native=True, reduces=True, rows=ROWS, context=None):
    """`function` of arrays divided in `parts` runs them apart."""
    text, results, _ = compiled(function, args, expected, context)
    found = collectives(text)
    assert found.pop("all-reduce") in ((1, 2) if reduces else (0,)), found
    assert not any(found.values()), found
    assert bool(kernels(text)) == native, text
    for shapes in kernels(text):
        assert not any(rows in shape for shape in shapes), shapes
    if native:
        assert any(rows // parts in shape for shapes in kernels(text) for shape in shapes)
    for leaf in jax.tree.leaves(results):
        local = leaf.sharding.shard_shape(leaf.shape)
        assert local == tuple(n // parts if n == rows else n for n in leaf.shape), (leaf, local)


def inputs(rows=ROWS):
    w, h, xs = arguments()
    rng = np.random.default_rng(0)
    h = jnp.asarray(rng.normal(size=(rows, *h.shape[1:])), jnp.float32)
    return w, h, jnp.asarray(rng.normal(size=(len(xs), rows, xs.shape[-1])), jnp.float32)


def divided(args, mesh, axes):
    w, h, xs = args
    return put(w, mesh), put(h, mesh, axes), put(xs, mesh, None, axes)


def gradients(scan, step=simple, **how):
    def loss(w, h, xs):
        last, ys = scan(step(w), h, xs, **how)
        return jnp.sin(ys).sum() + jnp.square(last).sum(), (last, ys)

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)


OURS, THEIRS = gradients(recurrax.scan), gradients(jax.lax.scan)


# ---- kinds of loops ----


@case_of("loops")
def loops_run_rows_of_their_own_on_2_4_and_8_devices():
    args = inputs()
    expected = jax.jit(THEIRS)(*args)
    for count in (2, 4, 8):
        check(OURS, divided(args, mesh_of(count), "a"), count, expected=expected)


@case_of("loops")
def one_row_for_each_device():
    args = inputs(5)
    mesh = mesh_of(5)
    expected = jax.jit(THEIRS)(*args)
    check(OURS, divided(args, mesh, "a"), 5, rows=5, expected=expected)


@case_of("loops")
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


@case_of("loops")
def the_xla_runner_gathers_nothing_and_halves_the_work():
    args, mesh = inputs(), mesh_of(2)
    parts, expected = divided(args, mesh, "a"), jax.jit(THEIRS)(*args)
    function = gradients(recurrax.scan, runner="xla")
    check(function, parts, 2, expected=expected, native=False)
    whole, half = (compiled(function, a, expected)[2].cost_analysis() or {} for a in (args, parts))
    assert 0.4 < half["flops"] / whole["flops"] < 0.6


@case_of("loops")
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


@case_of("loops")
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


@case_of("loops")
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


@case_of("loops")
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


@case_of("loops")
def loops_in_loops():
    def outer(scan):
        def run(w, h, xs):
            return jax.lax.scan(lambda h, _: scan(simple(w), h, xs), h, None, length=2)

        return run

    args = inputs()
    parts, expected = divided(args, mesh_of(4), "a"), outer(jax.lax.scan)(*args)
    check(outer(recurrax.scan), parts, 4, reduces=False, expected=expected)


# ---- kinds of meshes ----


@case_of("meshes")
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


@case_of("meshes")
def a_mesh_that_is_set():
    args = inputs()
    expected = jax.jit(THEIRS)(*args)
    for mesh, axes, parts in ((mesh_of(4), "a", 4), (mesh_of(2, 4), "b", 4)):
        context = jax.set_mesh(mesh)
        check(OURS, divided(args, mesh, axes), parts, expected=expected, context=context)


@case_of("meshes")
def two_meshes_in_one_program():
    w, h, xs = args = inputs()
    one, other = mesh_of(4), mesh_of(4, names="q")
    parts = put(w, other), put(h, one, "a"), put(xs, other, None, "q")
    check(OURS, parts, 4, expected=jax.jit(THEIRS)(*args))


@case_of("meshes")
def some_arrays_divided_and_others_not():
    w, h, xs = args = inputs()
    mesh, expected = mesh_of(4), jax.jit(THEIRS)(*args)
    check(OURS, (put(w, mesh), put(h, mesh), put(xs, mesh, None, "a")), 4, expected=expected)
    check(OURS, (put(w, mesh), put(h, mesh, "a"), put(xs, mesh)), 4, expected=expected)


@case_of("meshes")
def arrays_that_every_device_has():
    args, mesh = inputs(), mesh_of(4)
    text, results, _ = compiled(OURS, put(args, mesh), jax.jit(THEIRS)(*args))
    assert not any(collectives(text).values()) and kernels(text)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(results))


@case_of("meshes")
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


@case_of("meshes")
def rows_that_the_devices_cannot_share_evenly():
    args, mesh = inputs(6), mesh_of(4)

    def uneven(w, h, xs):
        h = jax.lax.with_sharding_constraint(h, NamedSharding(mesh, P("a")))
        xs = jax.lax.with_sharding_constraint(xs, NamedSharding(mesh, P(None, "a")))
        return OURS(w, h, xs)

    compiled(uneven, put(args, mesh), jax.jit(THEIRS)(*args))


@case_of("meshes")
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


@case_of("meshes")
def the_partitioner_of_old():
    args = inputs()
    parts, expected = divided(args, mesh_of(4), "a"), jax.jit(THEIRS)(*args)
    jax.config.update("jax_use_shardy_partitioner", False)
    try:
        check(OURS, parts, 4, expected=expected)
    finally:
        jax.config.update("jax_use_shardy_partitioner", True)


@case_of("meshes")
def a_pass_that_fails_leaves_the_loop_to_xla():
    def fails(self, parts):
        raise AssertionError("no smaller body")

    args, mesh = inputs(), mesh_of(4)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(RuntimeWarning, match="no smaller"):
        patch.setattr(local_rows.Rows, "local", fails)
        patch.delenv("RECURRAX_STRICT", raising=False)
        function, expected = gradients(recurrax.scan), jax.jit(THEIRS)(*args)
        check(function, divided(args, mesh, "a"), 4, expected=expected, native=False)


@case_of("meshes")
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


@case_of("meshes")
def what_explain_tells():
    w, h, xs = inputs()
    mesh = mesh_of(4)
    w, h, xs = divided((w, h, xs), mesh, "a")
    told = recurrax.explain(simple(w), h, xs)
    assert told.runner == told.backward_runner == "native"
    told = recurrax.explain(lambda h, x: simple(w)(h - h.mean(0), x), h, xs)
    assert told.runner == "xla" and "rows meet" in told.refusals["native"]


# ---- cells and layers ----


def cell_program(step, scan):
    def loss(held, carry, xs):
        weights = Weights(dict(held))
        outputs = scan(lambda c, x: step(weights, c, x), carry, xs)
        floats = [y for y in jax.tree.leaves(outputs) if jnp.issubdtype(y.dtype, jnp.floating)]
        return sum(jnp.sin(y + 0.1 * i).sum() for i, y in enumerate(floats)), outputs

    return jax.value_and_grad(loss, argnums=(0, 2), has_aux=True)


@case_of("layers")
def published_cells():
    chosen = (
        *("clockwork", "slstm", "mlstm", "turing_machine", "selective", "delta_net"),
        *("trained_memory", "ode_rnn", "kalman", "window_attention", "convolutional"),
        *("greedy_decoder",),
    )
    mesh = mesh_of(3)
    for step in CELLS:
        if step.__name__ not in chosen:
            continue
        held, init, xs = prepare(step)
        init = jax.tree.map(lambda a: jnp.concatenate([a, a]) if np.ndim(a) else a, init)
        xs = jnp.concatenate([xs, 0.9 * xs], axis=1)
        expected = jax.jit(cell_program(step, jax.lax.scan))(held, init, xs)
        rows = jax.tree.map(lambda a: put(a, mesh, *["a"] * bool(np.ndim(a))), init)
        args = put(held, mesh), rows, put(xs, mesh, None, "a")
        text, *_ = compiled(cell_program(step, recurrax.scan), args, expected)
        assert not collectives(text)["all-gather"], step
        assert bool(kernels(text)) == (step.__name__ != "convolutional"), step


class NormalisedCell(recurrax.layers.Layer):
    """A cell of a user's: it is normalised, and its gates have a bias."""

    def __init__(self, units, **how):
        super().__init__(**how)
        self.units = self.state_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")
        self.gain = self.add_weight(shape=(self.units,), initializer="ones", name="gain")
        self.built = True

    def call(self, inputs, states):
        z = inputs @ self.kernel.value + states[0] @ self.recurrent.value
        z = (z - z.mean(-1, keepdims=True)) * jax.lax.rsqrt(z.var(-1, keepdims=True) + 1e-3)
        h = jnp.tanh(z * self.gain.value)
        return h, [h]


def layers():
    make = recurrax.layers
    yield "LSTM", make.LSTM(UNITS, return_sequences=True)
    yield "GRU", make.GRU(UNITS, return_sequences=True)
    yield "SimpleRNN", make.SimpleRNN(UNITS)
    yield "Bidirectional", make.Bidirectional(make.LSTM(UNITS, return_sequences=True))
    yield "a cell of a user's", make.RNN(NormalisedCell(UNITS), return_sequences=True)
    yield "ConvLSTM1D", make.ConvLSTM1D(UNITS, 3, padding="same", return_sequences=True)
    yield "stacked", make.RNN([make.LSTMCell(UNITS), make.GRUCell(UNITS)])


@case_of("layers")
def layers_that_train():
    """A step of training, with masks and without: values, weights and how they lie."""
    rng = np.random.default_rng(0)
    series = jnp.asarray(rng.normal(size=(ROWS, 6, 3)), jnp.float32)
    mask = jnp.arange(6) < rng.integers(1, 7, (ROWS, 1))
    mesh = mesh_of(4)
    for name, layer in layers():
        convolutional = name.startswith("Conv")
        x = jnp.stack([series] * 2, 2) if convolutional else series
        layer.build(x.shape)
        weights = [jnp.asarray(v.value) for v in layer.trainable_variables]
        others = [jnp.asarray(v.value) for v in layer.non_trainable_variables]
        for masked in (False, True) if name in ("LSTM", "Bidirectional") else (False,):

            def train(weights, x, mask, layer=layer, others=others, masked=masked):
                def loss(weights):
                    how = {"mask": mask} if masked else {}
                    y, _ = layer.stateless_call(weights, others, x, **how)
                    return jnp.square(y - 0.5).sum(), y

                (value, y), dw = jax.value_and_grad(loss, has_aux=True)(weights)
                return value, y, jax.tree.map(lambda w, d: w - 0.01 * d, weights, dw)

            expected = jax.jit(train)(weights, x, mask)
            parts = put(weights, mesh), put(x, mesh, "a"), put(mask, mesh, "a")
            try:
                check(train, parts, 4, expected=expected, native=not convolutional)
            except AssertionError as error:
                raise AssertionError(f"{name}, masked={masked}") from error


@case_of("layers")
def an_embedding_and_its_gradient():
    layer, table = recurrax.layers.GRU(UNITS), jnp.ones((7, 3)) * jnp.arange(7.0)[:, None]
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 7, (ROWS, 6)))
    layer.build((ROWS, 6, 3))
    weights = [table, *(jnp.asarray(v.value) for v in layer.trainable_variables)]

    def gradient(weights, ids):
        def loss(weights):
            y, _ = layer.stateless_call(weights[1:], [], weights[0][ids])
            return jnp.square(y).sum(), y

        return jax.grad(loss, has_aux=True)(weights)

    mesh = mesh_of(4)
    parts = put(weights, mesh), put(ids, mesh, "a")
    check(gradient, parts, 4, expected=jax.jit(gradient)(weights, ids))


if __name__ == "__main__":
    report = {}
    for name, function in GROUPS[sys.argv[1]].items():
        try:
            function()
        except Exception:
            report[name] = traceback.format_exc()
    print(json.dumps(report))
