"""Loops over arrays that several devices hold parts of, in a process that has two."""

import os
import pathlib
import subprocess
import sys
import textwrap

import recurrax

PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from recurrences import arguments, assert_same, simple
    import recurrax

    w, h, xs = arguments()
    h, xs = jnp.tile(h, (2, 1)), jnp.tile(xs, (1, 2, 1)) * jnp.arange(1.0, 7.0)[:, None]
    specs = (P(), P("d"), P(None, "d"))

    def loss_of(scan, **options):
        def loss(w, h, xs):
            step = simple(w)
            return jnp.sin(scan(lambda h, x: step(jax.nn.relu(h), x), h, xs, **options)[1]).sum()
        return loss

    def gradient_of(scan, **options):
        return jax.jit(jax.value_and_grad(loss_of(scan, **options), argnums=(0, 1, 2)))

    def kernels(function, *args):
        return function.lower(*args).as_text().count("@recurrax_")

    def divided(mesh):
        return jax.tree.map(
            lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec)), (w, h, xs),
            ({k: P() for k in w}, *specs[1:]),
        )

    expected = gradient_of(jax.lax.scan)(w, h, xs)
    automatic, explicit = (
        jax.make_mesh((2,), ("d",), axis_types=(kind,))
        for kind in (AxisType.Auto, AxisType.Explicit)
    )
    ours = gradient_of(recurrax.scan)
    assert kernels(ours, w, h, xs) >= 2

    # the partitioner divides the arrays as it sees fit
    assert_same(ours(*divided(automatic)), expected)

    # types say how the arrays are divided: lax.scan's work
    with jax.set_mesh(explicit):
        parts = divided(explicit)
        assert_same(ours(*parts), expected)
        assert_same(gradient_of(recurrax.scan, segments=2)(*parts), expected)
        told = recurrax.explain(simple(parts[0]), parts[1], parts[2])
        assert told.runner == "lax" and "jax.shard_map" in told.refusals["native"]
        try:
            recurrax.scan(simple(parts[0]), parts[1], parts[2], runner="native")
        except ValueError as error:
            assert "explicit axes of a mesh" in str(error)
        else:
            raise AssertionError("the impossible was not refused")
        # a state that starts alike everywhere
        whole = recurrax.scan(simple(w), 0 * h, xs)
        assert_same(recurrax.scan(simple(parts[0]), 0 * h, parts[2]), whole)

    # a loop for each device, natively, its weight gradients added up after it
    for mesh, checked in ((automatic, False), (explicit, True)):
        def parts(w, h, xs):
            value, (dw, *others) = gradient_of(recurrax.scan)(w, h, xs)
            if not checked:
                dw = jax.lax.psum(dw, "d")
            return jax.lax.psum(value, "d"), (dw, *others)

        mapped = jax.jit(jax.shard_map(
            parts, mesh=mesh, in_specs=specs, out_specs=(P(), specs), check_vma=checked
        ))
        with jax.set_mesh(mesh):
            assert kernels(mapped, *divided(mesh)) >= 2
            assert_same(mapped(*divided(mesh)), expected)

    # a layer's states start alike on all devices
    layer = recurrax.layers.GRU(3)
    x = jnp.swapaxes(xs, 0, 1)
    whole = layer(x)
    mapped = jax.shard_map(layer, mesh=automatic, in_specs=P("d"), out_specs=P("d"))
    assert_same(jax.jit(mapped)(x), whole)
"""


def test_two_devices():
    program = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)]
    folders = [pathlib.Path(recurrax.__file__).parents[1], pathlib.Path(__file__).parent]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
    }
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
