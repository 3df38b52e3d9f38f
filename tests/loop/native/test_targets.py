"""The same source for other processors: narrower ones of this family run, others compile."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest
from against_xla import assert_close, body_of, draw, run_native

from recurrax.loop.native import kernel
from recurrax.loop.native.emit import Module
from recurrax.loop.native.lower import lower
from recurrax.loop.native.microkernel import Operand, Shape, block_for, emit_product
from recurrax.loop.native.panels import Layout
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


# A label, and what follows it up to a jump back to it, with no label in between.
_LOOP = re.compile(
    r"^(\.?L\w+):.*\n((?:(?!\.?L\w+:).*\n)*?.*\b(?:b\.\w+|j\w+)\s+\1$)", re.MULTILINE
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


@pytest.mark.parametrize("name", ["AVX2", "AVX-512", "NEON"])
@pytest.mark.parametrize("rows", [1, 2, 3, None])
def test_no_spills_in_the_product(name, rows):
    """The sums of a block stay in registers: its inner loop leaves the stack alone."""
    target = OTHERS[name]
    block = block_for(target.registers)
    rows, vectors = (rows, 2) if rows else (block.rows, block.vectors)
    layout = Layout(128, 24 * target.lanes(32), target.lanes(32), vectors)
    module = Module("product", target)
    shape = Shape(((rows, 1),), "f32", Operand.by_rows(128), layout.outputs, (), layout)
    made = emit_product(module, "product", shape, target.registers)
    made.linkage, module.triple = "external", target.triple
    text = target.machine().emit_assembly(llvm.parse_assembly(str(module)))
    loops = _LOOP.findall(text)
    inner = max((body for _, body in loops), key=lambda body: len(re.findall("fmla|vfmadd", body)))
    assert len(re.findall("fmla|vfmadd", inner)) == 2 * block.rows * block.vectors
    assert "(%rsp)" not in inner and "[sp" not in inner


def test_host_is_known():
    assert host().lanes(32) in (4, 8, 16)
    assert np.log2(host().vector_bytes) % 1 == 0
