"""Where no kernel can be made, XLA runs the loops, and one warning says why."""

import os
import pathlib
import platform
import subprocess
import sys
import textwrap

import pytest

import recurrax
from recurrax.loop.native import ffi, target
from recurrax.loop.native.unsupported import Unsupported

WITHOUT_LLVMLITE = """
    import sys, warnings
    sys.modules["llvmlite"] = None  # importing it fails
    lines = []
    warnings.showwarning = lambda message, category, *_: lines.append((category, str(message)))
    import jax, jax.numpy as jnp, numpy as np
    import recurrax

    w, xs = jnp.eye(3) * 0.5, jnp.ones((4, 2, 3))
    step = lambda h, x: (jnp.tanh(h @ w + x),) * 2
    loss = lambda scan, xs: scan(step, xs[0], xs)[1].sum()
    ours, theirs = (jax.grad(lambda xs: loss(s, xs))(xs) for s in (recurrax.scan, jax.lax.scan))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    told = recurrax.explain(step, xs[0], xs)
    assert told.runner == told.backward_runner == "xla"
    assert "llvmlite" in told.refusals["native"]
    try:
        recurrax.scan(step, xs[0], xs, runner="native")
    except ValueError as error:
        assert "llvmlite" in str(error)
    else:
        raise AssertionError("the impossible was not refused")
    assert recurrax.layers.LSTM(2)(xs).shape == (4, 2)
    ((category, line),) = [pair for pair in lines if "recurrax" in pair[1]]
    assert category is RuntimeWarning and "llvmlite" in line, lines
"""


def test_without_llvmlite():
    program = [sys.executable, "-c", textwrap.dedent(WITHOUT_LLVMLITE)]
    source = str(pathlib.Path(recurrax.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr


HEADERS = {
    "older": ("#define XLA_FFI_API_MAJOR 0\n#define XLA_FFI_API_MINOR 2\n", "0.2"),
    "another": ("#define XLA_FFI_API_MAJOR 1\n#define XLA_FFI_API_MINOR 1\n", "1.1"),
    "empty": ("", "-1.-1"),
    "missing": (None, "cannot be read"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_an_interface_of_another_version(name, tmp_path, monkeypatch):
    text, told = HEADERS[name]
    if text is not None:
        (tmp_path / "xla/ffi/api").mkdir(parents=True)
        (tmp_path / "xla/ffi/api/c_api.h").write_text(text)
    monkeypatch.setattr("jax.ffi.include_dir", lambda: str(tmp_path))
    with pytest.raises(Unsupported, match=told):
        ffi.check_version.__wrapped__()


def test_an_unknown_processor_or_system(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(Unsupported, match="riscv64"):
        target.host.__wrapped__()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(Unsupported, match="win32"):
        target.host.__wrapped__()


@pytest.mark.parametrize(
    ("features", "size"),
    [
        ({}, 16),
        ({"avx2": True}, 16),
        ({"avx2": True, "fma": True}, 32),
        ({"avx2": True, "fma": True, "avx512f": True}, 32),
    ],
)
def test_vectors_are_as_wide_as_the_processor_has_them(features, size, monkeypatch):
    known = target.llvm.FeatureMap(features)
    monkeypatch.setattr(target.llvm, "get_host_cpu_features", lambda: known)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert target.host.__wrapped__().vector_bytes == size
