"""The native step called straight from Python: to go through XLA takes longer than a small step.

A `StepProgram` holds machine code and packed weights; each `StepFrame` of it holds what one
sequence of steps needs: carry, inputs, outputs and scratch memory, at addresses that never change.
"""

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recurrax.loop.body import Body
from recurrax.loop.native.effort import check_effort
from recurrax.loop.native.kernel import fingerprint, made, scheduled
from recurrax.loop.native.lower import lower
from recurrax.loop.native.stepping import build_step
from recurrax.loop.native.target import host
from recurrax.loop.native.unsupported import Unsupported

_LINE = 64
# A call that keeps Python's lock returns at once; one that gives it up may then wait milliseconds
# for it. Only a step that takes long itself (by bytes of weights × rows) gives it up.
_LONG_STEP = 4 << 20


class StepProgram:
    """One step of a loop, `(consts, carry, x_t) -> (carry', y_t)`, with the consts it has now.

    Args:
        body: the step.
        consts: NumPy arrays; copied, so that what becomes of them later does not matter.

    Raises:
        Unsupported: for a body that has no native form.
    """

    def __init__(self, body: Body, consts: Sequence[np.ndarray]) -> None:
        inputs, outputs = body.jaxpr.in_avals, body.jaxpr.out_avals
        if any(0 in a.shape for a in (*inputs, *outputs)):
            raise Unsupported("an argument or a result holds nothing")
        m, n = body.num_consts, body.num_consts + body.num_carry
        pairs = zip(inputs[m:n], outputs, strict=False)
        if any((a.shape, a.dtype) != (b.shape, b.dtype) for a, b in pairs):
            raise Unsupported("a carry changes its shape or dtype")
        target = host()
        step = lower(body)
        check_effort(scheduled(step, target))
        name = fingerprint("step", step.described(), target)
        self._engine = engine = made(name, target, lambda: build_step(step, target), "step")

        def entry(name: str, prototype: Callable[..., type] = ctypes.PYFUNCTYPE):
            return prototype(None, ctypes.c_void_p)(engine.get_function_address(name))

        sizes = np.zeros(2, np.int64)
        entry("sizes")(sizes.ctypes.data)
        packed_bytes, self.scratch_bytes = (int(size) for size in sizes)
        is_long = packed_bytes * step.rows >= _LONG_STEP
        self.run = entry("step", ctypes.CFUNCTYPE if is_long else ctypes.PYFUNCTYPE)

        self.carry, self.xs, self.ys = (
            [(a.shape, a.dtype, p.order) for a, p in zip(avals, places, strict=True)]
            for avals, places in (
                (inputs[m:n], step.inputs[m:n]),
                (inputs[n:], step.inputs[n:]),
                (outputs[body.num_carry :], step.outputs[body.num_carry :]),
            )
        )
        self.packed = _memory(packed_bytes)
        lying = zip(consts, inputs[:m], step.inputs[:m], strict=True)
        given = [_filled(x, a.shape, a.dtype, p.order) for x, a, p in lying]
        others = len(inputs) - m + len(outputs)
        table = _table([*given, *[None] * others, self.packed])
        entry("pack", ctypes.CFUNCTYPE)(table.ctypes.data)
        # What the step reads of them apart from the packed weights: numbers, and rows of tables.
        read = {v.param.index for v in step.graph.values if v.op in ("leaf", "look_up")}
        self.consts = [x if k in read else None for k, x in enumerate(given)]


class StepFrame:
    """The memory of one sequence of steps. Of one thread at a time.

    Write `xs` (and `carry`, to begin elsewhere than at zeros), call `run`, read `carry` and `ys`.
    """

    def __init__(self, program: StepProgram) -> None:
        self.program = program
        self.carry, self.xs, self.ys = (
            [_array(*each) for each in kind] for kind in (program.carry, program.xs, program.ys)
        )
        held = [*program.consts, *self.carry, *self.xs, *self.carry, *self.ys, program.packed]
        self._scratch = _memory(program.scratch_bytes)
        self._addresses = _table([*held, self._scratch])
        self.run = functools.partial(program.run, self._addresses.ctypes.data)


def _memory(size: int) -> np.ndarray:
    """`size` bytes that begin at a cache line."""
    held = np.zeros(size + _LINE, np.uint8)
    start = -held.ctypes.data % _LINE
    return held[start : start + size]


def _array(shape: tuple[int, ...], dtype: np.dtype, order: tuple[int, ...]) -> np.ndarray:
    """An array of zeros that begins at a cache line; `order` is that of its axes in memory."""
    held = _memory(math.prod(shape) * dtype.itemsize).data
    if not order:
        return np.ndarray(shape, dtype, held)
    lying = np.ndarray(tuple(shape[k] for k in order), dtype, held)
    return lying.transpose(np.argsort(order))


def _filled(value: np.ndarray, *lying: Any) -> np.ndarray:
    """`value` in memory as an `_array`, whatever dtype it has itself."""
    own = _array(*lying)
    own[...] = value
    return own


def _table(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    """The addresses of `arrays`, as a step takes them; 0 for None."""
    return np.array([0 if a is None else a.ctypes.data for a in arrays], np.uint64)
