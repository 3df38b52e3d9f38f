"""Kernels for AArch64 on any machine: linked with a small program, and run by QEMU."""

import functools
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

from recurrax.loop.native.driver import build_driver
from recurrax.loop.native.kernel import compile_module
from recurrax.loop.native.target import Target

_TRIPLE = "aarch64-unknown-linux-gnu"
NEON = Target(_TRIPLE, "neoverse-n1", "", 16, 32)
OLD = Target(_TRIPLE, "cortex-a72", "", 16, 32)  # its atomic operations are loops
_COMPILER, _EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"


@functools.cache
def _program() -> bytes:
    """The object code of the program that a kernel is linked with."""
    for tool in (_COMPILER, _EMULATOR):
        if shutil.which(tool) is None:
            raise RuntimeError(
                f"{tool} is not installed: on Debian, apt-get install "
                "qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
            )
    source = pathlib.Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "program.o"
        subprocess.run([_COMPILER, "-O1", "-Wall", "-Werror", "-c", source, "-o", made], check=True)
        return made.read_bytes()


@functools.cache
def _driver(target: Target) -> bytes:
    return compile_module(build_driver(target), target)


def call(code, inputs, outputs, target=NEON):
    """Call the handler in object code; `outputs` are filled, or are inputs themselves."""
    places = {id(a): k for k, a in enumerate(inputs)}
    told = [(a.nbytes, *(*a.shape, 1, 1)[:2], -1) for a in inputs]
    told += [(a.nbytes, *(*a.shape, 1, 1)[:2], places.get(id(a), -1)) for a in outputs]
    head = np.array([len(inputs), len(outputs), *sum(told, ())], np.int64)
    with tempfile.TemporaryDirectory() as name:
        objects = [pathlib.Path(name) / f"{part}.o" for part in ("program", "driver", "kernel")]
        for path, held in zip(objects, (_program(), _driver(target), code), strict=True):
            path.write_bytes(held)
        linked, given, got = (pathlib.Path(name) / part for part in ("linked", "given", "got"))
        link = [_COMPILER, "-static", *objects, "-o", linked, "-lm", "-lpthread"]
        subprocess.run(link, check=True)
        given.write_bytes(b"".join(a.tobytes() for a in (head, *inputs)))
        subprocess.run([_EMULATOR, linked, given, got], check=True, timeout=120)
        written = got.read_bytes()
    start = 0
    for a in outputs:
        a[...] = np.frombuffer(written, a.dtype, a.size, start).reshape(a.shape)
        start += a.nbytes
    assert start == len(written)
