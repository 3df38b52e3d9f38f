"""Compiled code on disk: found again, and never trusted."""

import concurrent.futures
import logging

import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import body_of, draw, run_native

from recurrax.loop.native import cache, kernel


@pytest.fixture
def folder(tmp_path, monkeypatch):
    kernel._driver()  # what these tests count are kernels
    monkeypatch.setenv("RECURRAX_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def run(monkeypatch):
    """Run one loop as a process does that has not seen it: registered names are forgotten."""
    names = {}
    monkeypatch.setattr(kernel, "_engines", names)
    arguments = (draw(1, 5, 5),), (draw(2, 3, 5),), (draw(3, 4, 3, 5),)
    body = body_of(lambda c, s, x: ((jnp.tanh(s[0] @ c[0] + x[0]),), (s[0],)), *arguments)
    # XLA keeps the first handler of a name: a name of its own for each run tells them apart
    run.count += 1
    monkeypatch.setattr(kernel, "_compiler_version", lambda: f"test {run.name}")
    registered = []
    monkeypatch.setattr(kernel.ffi, "register", lambda name, address: registered.append(address))
    monkeypatch.setattr("jax.ffi.ffi_call", lambda name, shapes, **_: lambda *a: [a[1], a[2]])
    run_native(body, *arguments)
    assert registered == [kernel._engines[n].get_function_address("handler") for n in names]
    return registered


run.count = 0
run.name = "cache"


def compilations(monkeypatch):
    """Counts how often code is compiled."""
    made = []
    compile_module = kernel.compile_module
    monkeypatch.setattr(kernel, "compile_module", lambda *a: made.append(1) or compile_module(*a))
    return made


def test_a_second_process_compiles_nothing(folder, monkeypatch):
    made = compilations(monkeypatch)
    run(monkeypatch)
    assert len(made) == 1 and len(list(folder.iterdir())) == 1
    run(monkeypatch)
    assert len(made) == 1


DAMAGE = {
    "empty": lambda held: b"",
    "truncated": lambda held: held[: len(held) // 2],
    "one bit": lambda held: held[:-9] + bytes([held[-9] ^ 4]) + held[-8:],
    "foreign": lambda held: b"#!/bin/sh\nexit 1\n",
    "another format": lambda held: held.replace(b"kernel 1", b"kernel 0"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_compiled_anew(name, folder, monkeypatch, caplog):
    made = compilations(monkeypatch)
    run(monkeypatch)
    (path,) = folder.iterdir()
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        run(monkeypatch)
    assert len(made) == 2 and "damaged" in caplog.text
    run(monkeypatch)
    assert len(made) == 2


def test_code_that_is_no_code_is_compiled_anew(folder, monkeypatch):
    """A file whose checksum holds, but which no linker takes."""
    made = compilations(monkeypatch)
    run(monkeypatch)
    (path,) = folder.iterdir()
    cache.store(path.name, b"not an object file at all")
    run(monkeypatch)
    assert len(made) == 2


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECURRAX_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    made = compilations(monkeypatch)
    run(monkeypatch)
    assert len(made) == 1


def test_nothing_is_kept_when_switched_off(monkeypatch):
    monkeypatch.setenv("RECURRAX_CACHE_DIR", "")
    assert cache.directory() is None
    cache.store("name", b"code")
    assert cache.load("name") is None


def test_writers_at_once_leave_a_whole_file(folder):
    codes = [bytes([k]) * 100_000 for k in range(16)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda code: cache.store("kernel", code), codes))
    assert cache.load("kernel") in codes
    assert [p.name for p in folder.iterdir()] == ["kernel"]


def test_the_name_tells_the_processor_and_the_body():
    names = {kernel.fingerprint(*parts) for parts in (("a", 1), ("a", 2), ("b", 1))}
    assert len(names) == 3
    assert np.all([n.isidentifier() for n in names])
