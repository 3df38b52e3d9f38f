"""The same source for other processors: narrower ones of this family run, others compile."""

import dataclasses

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest
from against_xla import assert_close, body_of, draw, run_native

from recurrax.loop.native import kernel
from recurrax.loop.native.lower import lower
from recurrax.loop.native.target import Target, host
from recurrax.loop.runners import native, xla

X86 = "x86_64-unknown-linux-gnu"
OTHERS = {
    "SSE": Target(X86, "x86-64", "", 16, 16),
    "AVX2": Target(X86, "haswell", "", 32, 16),
    "AVX-512": Target(X86, "skylake-avx512", "", 64, 32),
    "NEON": Target("aarch64-unknown-linux-gnu", "neoverse-n1", "", 16, 32),
    "Apple": Target("arm64-apple-darwin", "apple-m1", "", 16, 32),
}


def step(consts, carry, xs):
    weight, bias, mask = consts
    i, f, g, o = jnp.split(carry[0] @ weight + bias + xs[0], 4, -1)
    c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jax.nn.softmax(c) * mask
    return (h, c), (i, jnp.log1p(c * c) + jnp.sin(c) + jnp.abs(c) ** h, jnp.round(c))


ARGUMENTS = (
    (draw(1, 19, 76, scale=0.3), draw(2, 76), draw(3, 11, 19) > 0),
    (draw(4, 11, 19), draw(5, 11, 19)),
    (draw(6, 4, 11, 76),),
)


@pytest.mark.parametrize("name", OTHERS)
def test_compiles(name):
    target = OTHERS[name]
    module = kernel.build_loop(lower(body_of(step, *ARGUMENTS)), target, False, 4, 2)
    code = kernel.compile_module(module, target)
    assert code[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe")


@pytest.mark.parametrize("name", ["SSE", "AVX2"])
def test_runs_on_wider_processors_of_the_family(name, monkeypatch):
    target = dataclasses.replace(OTHERS[name], triple=llvm.get_process_triple())
    if not host().is_x86 or target.vector_bytes > host().vector_bytes:
        pytest.skip(f"this processor does not run {name}")
    monkeypatch.setattr(native, "host", lambda: target)
    body = body_of(step, *ARGUMENTS)
    ours = run_native(body, *ARGUMENTS)
    theirs = xla.run(body, *ARGUMENTS, length=4, reverse=False)
    assert_close(ours, theirs, 3e-6)


def test_no_spills_in_the_product():
    """The sums of a block stay in registers: nothing is stored in its inner loop."""
    module = kernel.build_loop(lower(body_of(step, *ARGUMENTS)), OTHERS["AVX2"], False, 4, 2)
    module.triple = X86
    parsed = llvm.parse_assembly(str(module))
    text = OTHERS["AVX2"].machine().emit_assembly(parsed)
    product = text.split("product0:")[1].split("retq")[0]
    blocks = [part for part in product.split(".LBB") if "vfmadd" in part]
    inner = max(blocks, key=lambda part: part.count("vfmadd"))
    assert inner.count("vfmadd") >= 2 * 12
    assert "(%rsp)" not in inner


def test_host_is_known():
    assert host().lanes(32) in (4, 8, 16)
    assert np.log2(host().vector_bytes) % 1 == 0
