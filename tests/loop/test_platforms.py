"""Programs for other platforms than this process runs on: no kernels of the CPU in them."""

import jax
import jax.numpy as jnp
import pytest
from recurrences import arguments, loss_of, simple

import recurrax
from recurrax.loop import machine
from recurrax.loop.machine import Machine
from recurrax.loop.scan import scan_batch_major


def batch_major(w, h, xs):
    return scan_batch_major(simple(w), h, jnp.swapaxes(xs, 0, 1))[1]


def embedded(w, h, xs):
    ids = (xs[..., 0] > 0).astype(jnp.int32)

    def loss(table):
        return recurrax.scan(simple(w), h, table[ids])[1].sum()

    return jax.grad(loss)(jnp.ones((2, xs.shape[-1])))


PROGRAMS = {
    "loop": lambda w, h, xs: recurrax.scan(simple(w), h, xs),
    "gradient": jax.grad(loss_of(recurrax.scan), argnums=(0, 1, 2)),
    "batch first": batch_major,
    "gradient, batch first": jax.grad(lambda *args: batch_major(*args).sum()),
    "layer": lambda w, h, xs: recurrax.layers.LSTM(4)(xs),
    "look-up": embedded,
}


def lowered(program, *platforms):
    traced = jax.jit(program).trace(*arguments())
    return traced.lower(lowering_platforms=platforms).as_text()


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_only_the_cpu_has_kernels(program):
    assert "@recurrax_" in lowered(program, "cpu")
    for platforms in (("cuda",), ("rocm",), ("tpu",), ("cpu", "cuda")):
        assert "@recurrax_" not in lowered(program, *platforms), platforms


def test_one_trace_serves_both():
    """What is decided before a program is lowered is right for every platform."""
    traced = jax.jit(PROGRAMS["batch first"]).trace(*arguments())
    texts = [traced.lower(lowering_platforms=(p,)).as_text() for p in ("cuda", "cpu", "cuda")]
    assert ["@recurrax_" in text for text in texts] == [False, True, False]


def test_a_loop_for_another_platform_is_plain():
    """The form that XLA's CPU backend likes is for that alone."""
    runs = {
        name: jax.jit(lambda w, h, xs, r=name: recurrax.scan(simple(w), h, xs, runner=r))
        for name in ("xla", "lax")
    }
    operations = {}
    for name, run in runs.items():
        text = run.trace(*arguments()).lower(lowering_platforms=("cuda",)).as_text()
        operations[name] = text.count("stablehlo.dynamic_update_slice")
    assert operations["xla"] == operations["lax"] > 0


def test_what_is_asked_for_and_cannot_be():
    def native(w, h, xs):
        return recurrax.scan(simple(w), h, xs, runner="native")

    with pytest.raises(ValueError, match="it runs on the CPU, and the device is cuda"):
        lowered(native, "cuda")
    with pytest.raises(ValueError, match="the device is one of several platforms"):
        lowered(native, "cpu", "cuda")


def test_explain_tells_of_the_device(monkeypatch):
    w, h, xs = arguments()
    types = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (h, xs))
    held = jax.device_put(h, jax.devices()[0]), xs

    def explained(given):
        told = recurrax.explain(simple(w), *given)
        return told.runner, told.backward_runner, told.refusals.get("native")

    assert explained(types)[:2] == explained(held)[:2] == ("native", "native")
    with jax.default_device("cpu"):
        assert machine.default() == Machine("cpu")
    monkeypatch.setattr(machine, "default", lambda: Machine("cuda"))
    refusal = "it runs on the CPU, and the device is cuda"
    assert explained(types) == ("xla", "xla", refusal)
    # what is bound to a device is run there
    assert explained(held)[:2] == ("native", "native")


def test_a_stream_goes_by_the_default_device(monkeypatch):
    model = recurrax.Sequential([recurrax.layers.Input((None, 2)), recurrax.layers.GRU(3)])
    assert model.stream(batch_size=1).runner == "native"
    monkeypatch.setattr(machine, "default", lambda: Machine("cuda"))
    assert model.stream(batch_size=1).runner == "xla (runs on cuda)"
