"""Partners of a loop over one row that tests can watch, hold up and spoil."""

import ctypes
import threading

import direct

from recurrax.loop.native import paired, pairing, trial
from recurrax.loop.native.emit import declared, f32, i32, i64, integer, loop, pointer, void
from recurrax.loop.native.waiting import wait_until


def share_everything(monkeypatch):
    """However small products are, and however slow partners."""
    monkeypatch.setattr(paired, "_LARGE", 1)
    monkeypatch.setattr(paired, "_WORTH_WAKING", 1)
    monkeypatch.setattr(trial, "_SHARED", 1 << 60)


def await_one(monkeypatch):
    """Let kernels that are emitted from now on wait for a partner, and a step later for its answer.

    They wait for ever where no other thread comes.
    """
    multiply = paired.PairedTile.multiply

    def after_waiting(tile, product, ahead):
        b = tile.b
        past = b.sub(tile._step, integer(trial._ALONE))
        with b.if_then(b.icmp_unsigned("<", past, integer(2))):
            wait_until(b, tile.code.target, lambda: pairing.is_free(b, tile.buffers))
        multiply(tile, product, ahead)

    monkeypatch.setattr(paired.PairedTile, "multiply", after_waiting)


def change(monkeypatch, before=None, after=None):
    """Emit more before and after a partner's half: functions of (builder, packed, result)."""
    answer = paired.PairedCode._answer

    def changed(code, b, product, packed, copies, operand, result, step):
        if before:
            before(b, packed, result)
        answer(code, b, product, packed, copies, operand, result, step)
        if after:
            after(b, packed, result)

    monkeypatch.setattr(paired.PairedCode, "_answer", changed)


def spoil(b, _packed, result):
    """Make the first number of a partner's half no number."""
    b.store(f32(float("nan")), result)


def dawdle(b, _packed, _result):
    """Take some microseconds more, but not so many that one is late."""
    pause = declared(b.module, "llvm.x86.sse2.pause", void, [])

    def turn(_k, _):
        b.call(pause, [])

    loop(b, 0, 100, 1, [], turn)


class Pool:
    """A pool of threads, and how many halves they have `made`.

    Every tenth takes `rest` microseconds. `room` is where in shared memory the last one lies.
    """

    def __init__(self, monkeypatch, rest=0):
        self._made, self._room = ctypes.c_int64(0), ctypes.c_int64(-1)
        self._schedule = type(direct._run_at_once)(self._start)
        self._threads: list[threading.Thread] = []
        monkeypatch.setitem(direct.POOL, "schedule", self._schedule)

        def watched(b, packed, result):
            made, room = (
                integer(ctypes.addressof(place)).inttoptr(pointer)
                for place in (self._made, self._room)
            )
            before = b.atomic_rmw("add", made, integer(1), "seq_cst")
            b.store(b.sub(b.ptrtoint(result, i64), b.ptrtoint(packed, i64)), room)
            if rest:
                sleep = declared(b.module, "usleep", i32, [i32])
                is_tenth = b.icmp_signed("==", b.srem(before, integer(10)), integer(9))
                with b.if_then(is_tenth):
                    b.call(sleep, [i32(rest)])

        change(monkeypatch, before=watched)

    @property
    def made(self) -> int:
        return self._made.value

    @property
    def room(self) -> int:
        return self._room.value

    def _start(self, request):
        task, data = direct.helper(request)
        self._threads.append(threading.Thread(target=task, args=[data]))
        self._threads[-1].start()

    def call(self, code, inputs, outputs):
        """Call the handler in object code, which stays until the helpers have gone."""
        engine, begun = direct.link(code), self.made
        direct.call_linked(engine, inputs, outputs)
        while self._threads:
            self._threads.pop().join(timeout=60)
        assert self.made > begun
