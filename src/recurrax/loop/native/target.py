"""The machine that code is compiled for, and what its vector registers hold."""

import dataclasses
import functools
import platform
import sys

import llvmlite.binding as llvm

from recurrax.loop.native.unsupported import Unsupported


@dataclasses.dataclass(frozen=True)
class Target:
    """A processor as LLVM names it, with the size and the number of its vector registers."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int

    @property
    def is_x86(self) -> bool:
        return self.triple.startswith(("x86_64", "amd64"))

    @property
    def has_avx512(self) -> bool:
        return self.is_x86 and self.vector_bytes == 64

    def lanes(self, bits: int) -> int:
        """Numbers of `bits` bits in one vector register."""
        return self.vector_bytes * 8 // bits

    def machine(self) -> llvm.TargetMachine:
        initialise()
        target = llvm.Target.from_triple(self.triple)
        return target.create_target_machine(
            cpu=self.cpu, features=self.features, opt=3, codemodel="jitdefault", jit=True
        )


@functools.cache
def initialise() -> None:
    """Make LLVM's code generators known: every architecture it was built with, host first."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@functools.cache
def host() -> Target:
    """The processor this program runs on.

    Raises:
        Unsupported: on a system or a processor that no code is generated for.
    """
    if sys.platform not in ("linux", "darwin"):
        raise Unsupported(f"no kernels are generated for the platform {sys.platform!r}")
    features = llvm.get_host_cpu_features()
    triple, cpu = llvm.get_process_triple(), llvm.get_host_cpu_name()
    match platform.machine().lower():
        case "x86_64" | "amd64":
            if all(features.get(f) for f in ("avx512f", "avx512vl", "avx512dq", "avx512bw")):
                size, registers = 64, 32
            elif features.get("avx2") and features.get("fma"):
                size, registers = 32, 16
            else:
                size, registers = 16, 16
        case "aarch64" | "arm64":
            size, registers = 16, 32
        case other:
            raise Unsupported(f"no kernels are generated for the processor {other!r}")
    return Target(triple, cpu, features.flatten(), size, registers)
