"""Compiled code on disk: found again, and never trusted."""

import concurrent.futures
import errno
import logging
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import body_of, draw, run_native

import recurrax
from recurrax.loop.native import cache, doors, kernel


@pytest.fixture
def folder(tmp_path, monkeypatch):
    kernel._driver()  # what these tests count are kernels
    doors_at_hand = iter([next(kernel._closed_doors()) for _ in range(4)])
    monkeypatch.setattr(kernel, "_closed_doors", lambda: doors_at_hand)
    monkeypatch.setenv("RECURRAX_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def run(monkeypatch):
    """Run one loop as a process does that has not seen it: registered names are forgotten."""
    names = {}
    monkeypatch.setattr(kernel, "_kernels", names)
    monkeypatch.setattr(doors, "_doors", names_known := {})
    arguments = (draw(1, 5, 5),), (draw(2, 3, 5),), (draw(3, 4, 3, 5),)
    body = body_of(lambda c, s, x: ((jnp.tanh(s[0] @ c[0] + x[0]),), (s[0],)), *arguments)
    # XLA keeps the first handler of a name: a name of its own for each run tells them apart
    run.count += 1
    monkeypatch.setattr(kernel, "_compiler_version", lambda: f"test {run.name}")
    registered = []
    monkeypatch.setattr(doors.ffi, "register", lambda name, address: registered.append(address))
    monkeypatch.setattr("jax.ffi.ffi_call", lambda name, shapes, **_: lambda *a: [a[1], a[2]])
    run_native(body, *arguments)
    assert registered == [names_known[n].address for n in names]
    return registered


run.count = 0
run.name = "cache"


def compilations(monkeypatch):
    """Counts how often a kernel is compiled."""
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
    "random": lambda held: np.random.default_rng(0).bytes(len(held)),
    "truncated": lambda held: held[: len(held) // 2],
    "one bit": lambda held: held[:-9] + bytes([held[-9] ^ 4]) + held[-8:],
    "foreign": lambda held: b"#!/bin/sh\nexit 1\n",
    "another format": lambda held: held.replace(b"kernel 2", b"kernel 1"),
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


def test_code_of_another_name_is_compiled_anew(folder, monkeypatch):
    """As for another body or another processor: it is whole, but not what is asked for."""
    made = compilations(monkeypatch)
    run(monkeypatch)
    (path,) = folder.iterdir()
    held = cache.load(path.name)
    assert held is not None
    cache.store("another", held)
    shutil.copy(folder / "another", path)
    run(monkeypatch)
    assert len(made) == 2


def test_a_folder_that_cannot_be_written(folder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECURRAX_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    cache._not_kept.cache_clear()
    made = compilations(monkeypatch)
    with caplog.at_level(logging.INFO):
        run(monkeypatch)
        run(monkeypatch)
    assert len(made) == 2
    assert [r.levelname for r in caplog.records if "not kept" in r.message] == ["INFO"]


def test_a_folder_in_the_place_of_a_file(folder, monkeypatch):
    made = compilations(monkeypatch)
    run(monkeypatch)
    (path,) = folder.iterdir()
    path.unlink()
    path.mkdir()
    run(monkeypatch)
    assert len(made) == 2 and [p.name for p in folder.iterdir()] == [path.name]


def test_a_disk_that_is_full(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    made = compilations(monkeypatch)
    monkeypatch.setattr("os.replace", full)
    run(monkeypatch)
    assert len(made) == 1 and list(folder.iterdir()) == []


def test_the_folder_is_made_for_its_user_alone(folder):
    before = os.umask(0o002)
    try:
        cache.store("name", b"code")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert cache.load("name") == b"code"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(folder, mode):
    cache.store("name", b"code")
    folder.chmod(mode)
    with pytest.warns(UserWarning, match=r"may be written to by others.*chmod go-w") as said:
        assert cache.load("name") is None
        cache.store("other", b"code")
        assert cache.load("name") is None
    assert len(said) == 1
    assert [path.name for path in folder.iterdir()] == ["name"]
    folder.chmod(0o755)
    assert cache.load("name") == b"code"


def test_a_folder_of_somebody_else_is_not_used(folder, monkeypatch):
    cache.store("name", b"code")
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.warns(UserWarning, match=r"another user.*RECURRAX_CACHE_DIR") as said:
        assert cache.load("name") is None
        cache.store("other", b"code")
    assert len(said) == 1
    assert [path.name for path in folder.iterdir()] == ["name"]


def test_a_kernel_runs_where_the_folder_is_not_used(folder, monkeypatch):
    folder.mkdir()
    folder.chmod(0o777)
    made = compilations(monkeypatch)
    with pytest.warns(UserWarning, match="compiles its own"):
        run(monkeypatch)
    run(monkeypatch)
    assert len(made) == 2 and list(folder.iterdir()) == []


def test_without_a_home_nothing_is_kept(monkeypatch):
    """As for a user that the system does not know, in a container."""
    for name in ("RECURRAX_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert cache.directory() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "here")  # must be absolute to count
    assert cache.directory() is None
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache.directory() == pathlib.Path(
        "/home/somebody", "Library/Caches" if sys.platform == "darwin" else ".cache", "recurrax"
    )


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


def test_what_was_unused_for_longest_goes(folder, monkeypatch):
    """And what a killed writer has begun, but not what one may still be writing."""
    names = [f"recurrax_{k}" for k in range(5)]
    begun, stale = ".recurrax_a.begun", ".recurrax_b.begun"
    for name in names:
        cache.store(name, bytes(100))
    for name in (begun, stale, "diary.txt"):
        (folder / name).write_bytes(bytes(1000))
    hours = {names[0]: 300, names[1]: 200, names[2]: 100, names[3]: 50, stale: 2, "diary.txt": 9999}
    for name, age in hours.items():
        when = time.time() - 3600 * age
        os.utime(folder / name, (when, when))
    assert cache.load(names[0]) == bytes(100)  # so it is used now
    one = (folder / names[0]).stat().st_size
    monkeypatch.setattr(cache, "LIMIT", 3 * one)
    cache.sweep(folder)
    left = {path.name for path in folder.iterdir()}
    assert left == {names[0], names[3], names[4], begun, "diary.txt"}


def test_the_folder_does_not_grow_for_ever(folder, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 10_000)
    for k in range(1000):
        cache.store(f"recurrax_{k}", b"code")
    held = sum(path.stat().st_size for path in folder.iterdir())
    assert held < 10_000 + 60 * 500  # the limit, and what is stored between two sweeps
    assert cache.load("recurrax_999") == b"code"


def test_the_name_tells_the_processor_and_the_body():
    names = {kernel.fingerprint(*parts) for parts in (("a", 1), ("a", 2), ("b", 1))}
    assert len(names) == 3
    assert np.all([n.isidentifier() for n in names])


PROCESS = """
import logging, resource, sys
import numpy as np
import jax.numpy as jnp
import recurrax
from recurrax.loop.native import kernel

lines, made = [], []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("recurrax").addHandler(handler)
compile_module = kernel.compile_module
kernel.compile_module = lambda *a: made.append(1) or compile_module(*a)
if sys.argv[1] == "no room":  # the system refuses to write to any file
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
xs = np.linspace(-1, 1, 60, dtype=np.float32).reshape(5, 4, 3)
for units in range(3, 3 + int(sys.argv[2])):
    w = np.eye(3, units, dtype=np.float32)
    last, _ = recurrax.scan(lambda h, x: (jnp.tanh(h + x @ w), None), jnp.zeros((4, units)), xs)
    h = np.zeros((4, units), np.float32)
    for x in xs:
        h = np.tanh(h + x @ w)
    np.testing.assert_allclose(last, h, rtol=1e-5, atol=1e-6)
print(len(made), len(lines))
"""


def processes(folder, *arguments):
    """What several processes at once print: how much they compiled, and how much they logged."""
    source = str(pathlib.Path(recurrax.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "RECURRAX_CACHE_DIR": str(folder)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *map(str, each)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for each in arguments
    ]
    done = [(p.communicate(timeout=120), p.returncode) for p in running]
    assert [code for _, code in done] == [0] * len(done), done
    return [tuple(map(int, out.split())) for (out, _), _ in done]


def test_processes_share_a_folder_that_somebody_spoils(tmp_path):
    first = processes(tmp_path, ("room", 2), ("room", 2), ("no room", 1))
    assert [lines for _, lines in first] == [0, 0, 0]
    kept = sorted(tmp_path.iterdir())
    assert len(kept) >= 2 and all(path.name.startswith("recurrax_") for path in kept)
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    kept[1].write_bytes(b"")
    ((made, lines),) = processes(tmp_path, ("room", 2))
    assert (made, lines) == (2, 2)
