"""Programs over arrays that eight devices of one process hold parts of; run by `test_sharding.py`.

What is compiled is looked at: which collectives there are, what of the arrays each kernel takes,
how the results lie. The batch is of a size that nothing else has.
"""

import contextlib
import importlib
import json
import re
import traceback

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from recurrences import arguments, assert_same, simple

import recurrax

ROWS = 40
CASES = []


def case(function):
    CASES.append(function)
    return function


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


def run(module):
    """Prints which cases of a module fail, and how."""
    importlib.import_module(module)
    report = {}
    for function in CASES:
        try:
            function()
        except Exception:
            report[function.__name__] = traceback.format_exc()
    print(json.dumps(report))
