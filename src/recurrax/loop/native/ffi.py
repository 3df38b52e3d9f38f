"""XLA's foreign function interface, as seen from generated code.

The offsets are those of the structures in `xla/ffi/api/c_api.h` of version 0.3, and that is the
version that handlers claim. A newer minor version only adds fields at the ends of structures: each
call is checked for structures that are large enough, and for embedded ones of the size known, since
others would move what follows them.
"""

import ctypes
import functools
import pathlib
import re

import jax
import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Register,
    at,
    i8,
    i32,
    i64,
    integer,
    load_field,
    pointer,
    store_field,
)
from recurrax.loop.native.unsupported import Unsupported

_VERSION = (0, 3)

FRAME_EXTENSION, FRAME_API, FRAME_CONTEXT, FRAME_ARGS, FRAME_RETS = 8, 16, 24, 72, 112
_EXTENSION_TYPE, _EXTENSION_METADATA, _IS_METADATA = 8, 24, 1
_METADATA_SIZE, _METADATA_MAJOR, _METADATA_MINOR, _METADATA_TRAITS, _METADATA_STATE = (
    0,
    24,
    28,
    32,
    40,
)
_BUFFER_DATA, _BUFFER_DIMS = 24, 40
_API_ERROR_CREATE, _API_ERROR_DESTROY, _API_SCHEDULE = 48, 64, 136
_RESOURCE_EXHAUSTED, _UNIMPLEMENTED = 8, 12
# Arguments and results stand inside the call frame, each 40 bytes long.
_EMBEDDED, _EMBEDDED_SIZE = (40, 80), 40


@functools.cache
def check_version() -> None:
    """Find out whether jaxlib's interface is one that the offsets here hold for.

    Raises:
        Unsupported: if it is not, or if its version cannot be read.
    """
    header = pathlib.Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
    try:
        text = header.read_text()
    except OSError as error:
        raise Unsupported(f"jaxlib's header of foreign functions cannot be read: {error}") from None
    found = {
        part: re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")
    }
    major, minor = (int(m.group(1)) if (m := found[p]) else -1 for p in ("MAJOR", "MINOR"))
    if major != _VERSION[0] or minor < _VERSION[1]:
        raise Unsupported(
            f"jaxlib's foreign function interface has version {major}.{minor}, and kernels are "
            f"made for {_VERSION[0]}.{_VERSION[1]} and newer minor versions"
        )


def register(name: str, address: int) -> None:
    """Make the handler at `address` known to XLA under `name`, on the CPU."""
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(name, new_capsule(address, None, None), platform="cpu")


def emit_metadata_answer(b: Builder, frame: Register) -> None:
    """Answer XLA's question, at registration, which version this was built for; else go on."""
    extension = load_field(b, frame, FRAME_EXTENSION, pointer)
    with b.if_then(b.icmp_unsigned("!=", extension, ir.Constant(pointer, None)), likely=False):
        kind = load_field(b, extension, _EXTENSION_TYPE, i32)
        with b.if_then(b.icmp_signed("==", kind, i32(_IS_METADATA))):
            answer = load_field(b, extension, _EXTENSION_METADATA, pointer)
            store_field(b, answer, _METADATA_MAJOR, i32(_VERSION[0]))
            store_field(b, answer, _METADATA_MINOR, i32(_VERSION[1]))
            store_field(b, answer, _METADATA_TRAITS, i32(0))
            size = load_field(b, answer, _METADATA_SIZE, i64)
            with b.if_then(b.icmp_unsigned(">", size, integer(_METADATA_STATE))):
                store_field(b, answer, _METADATA_STATE, integer(0))
            b.ret(ir.Constant(pointer, None))
            # `if_then` ends the block it is given with a branch: hand it one nobody reaches
            b.position_at_end(b.function.append_basic_block("after"))


class Frame:
    """The call frame inside a handler: buffers, the thread pool, errors."""

    def __init__(self, b: Builder, frame: Register):
        self.b = b
        self.api = load_field(b, frame, FRAME_API, pointer)
        self.context = load_field(b, frame, FRAME_CONTEXT, pointer)
        self._refuse_other_structures(frame)
        self.args = load_field(b, frame, FRAME_ARGS, pointer)
        self.rets = load_field(b, frame, FRAME_RETS, pointer)

    def _refuse_other_structures(self, frame: Register) -> None:
        """Return an error from the handler where a structure is not as the offsets say."""
        b = self.b

        def size(structure: Register) -> Register:
            return load_field(b, structure, 0, i64)

        fits = b.and_(
            b.icmp_unsigned(">=", size(frame), integer(FRAME_RETS + 8)),
            b.icmp_unsigned(">=", size(self.api), integer(_API_SCHEDULE + 8)),
        )
        for offset in _EMBEDDED:
            embedded = size(at(b, frame, i8, offset))
            fits = b.and_(fits, b.icmp_unsigned("==", embedded, integer(_EMBEDDED_SIZE)))
        with b.if_then(b.not_(fits), likely=False):
            said = b"recurrax: the structures of XLA's calls are none that kernels know\0"
            text = ir.Constant(ir.ArrayType(i8, len(said)), bytearray(said))
            message: Register = ir.GlobalVariable(b.module, text.type, "other_structures")
            message.initializer, message.global_constant = text, True
            message.linkage = "private"
            request = b.alloca(pointer, 4)
            b.ret(self._error(request, message, _UNIMPLEMENTED))
            b.position_at_end(b.function.append_basic_block("after"))

    def _buffer(self, table: Register, k: Register) -> Register:
        return self.b.load(at(self.b, table, pointer, k), typ=pointer)

    def data(self, table: Register, k: Register) -> Register:
        """The memory of the argument or the result `k`; `table` is `args` or `rets`."""
        return load_field(self.b, self._buffer(table, k), _BUFFER_DATA, pointer)

    def axis_size(self, table: Register, k: Register, axis: Register) -> Register:
        """The size of an axis of argument or result `k`."""
        dims = load_field(self.b, self._buffer(table, k), _BUFFER_DIMS, pointer)
        return self.b.load(at(self.b, dims, i64, axis), typ=i64)

    def schedule(self, request: Register, task: Register, data: Register) -> Register:
        """Hand `task(data)` to XLA's pool; the result is null, or an error to be destroyed."""
        b = self.b
        fields = (integer(40), ir.Constant(pointer, None), self.context, task, data)
        for k, value in enumerate(fields):
            store_field(b, request, 8 * k, value)
        return b.call(self._function(_API_SCHEDULE), [request])

    def destroy_error(self, request: Register, error: Register) -> None:
        b = self.b
        for k, value in enumerate((integer(24), ir.Constant(pointer, None), error)):
            store_field(b, request, 8 * k, value)
        b.call(self._function(_API_ERROR_DESTROY), [request])

    def out_of_memory(self, request: Register, message: Register) -> Register:
        """A new error that says `message`."""
        return self._error(request, message, _RESOURCE_EXHAUSTED)

    def _error(self, request: Register, message: Register, code: int) -> Register:
        b = self.b
        fields = (integer(28), ir.Constant(pointer, None), message, i32(code))
        for k, value in enumerate(fields):
            store_field(b, request, 8 * k, value)
        return b.call(self._function(_API_ERROR_CREATE), [request])

    def _function(self, offset: int) -> Register:
        type_ = ir.FunctionType(pointer, [pointer]).as_pointer()
        return load_field(self.b, self.api, offset, type_)
