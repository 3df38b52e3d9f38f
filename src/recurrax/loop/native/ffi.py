"""XLA's foreign function interface, as seen from generated code.

The offsets are those of the structures in jaxlib's `xla/ffi/api/c_api.h`; a new minor version only
adds fields at their ends, a new major version is not served.
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
    i32,
    i64,
    integer,
    load_field,
    pointer,
    store_field,
)
from recurrax.loop.native.unsupported import Unsupported

_MAJOR = 0
_MINORS = range(1, 4)

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
_RESOURCE_EXHAUSTED = 8


@functools.cache
def api_version() -> tuple[int, int]:
    """Major and minor version of the interface of the jaxlib that is installed.

    Raises:
        Unsupported: if it is not one that the offsets here hold for.
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
    if major != _MAJOR or minor not in _MINORS:
        raise Unsupported(f"jaxlib's foreign function interface has version {major}.{minor}")
    return major, minor


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
            major, minor = api_version()
            store_field(b, answer, _METADATA_MAJOR, i32(major))
            store_field(b, answer, _METADATA_MINOR, i32(minor))
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
        self.args = load_field(b, frame, FRAME_ARGS, pointer)
        self.rets = load_field(b, frame, FRAME_RETS, pointer)

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
        b = self.b
        fields = (integer(28), ir.Constant(pointer, None), message, i32(_RESOURCE_EXHAUSTED))
        for k, value in enumerate(fields):
            store_field(b, request, 8 * k, value)
        return b.call(self._function(_API_ERROR_CREATE), [request])

    def _function(self, offset: int) -> Register:
        type_ = ir.FunctionType(pointer, [pointer]).as_pointer()
        return load_field(self.b, self.api, offset, type_)
