"""Partners of a loop over one row that tests can watch, hold up and spoil."""

import ctypes
import functools
import threading

import direct

from recurrax.loop.native import paired, pairing, trial
from recurrax.loop.native.emit import declared, f32, i1, i32, i64, integer, loop, pointer, void
from recurrax.loop.native.waiting import wait_until


def share_everything(monkeypatch):
    """However small products are, and however slow partners."""
    monkeypatch.setattr(paired, "_LARGE", 1)
    monkeypatch.setattr(paired, "_WORTH_WAKING", 1)
    monkeypatch.setattr(trial, "_SHARED", 1 << 60)


def await_one(monkeypatch):
    """Let kernels that are emitted from now on wait for a partner, twice if it leaves at once.

    They wait for ever where no other thread comes.
    """
    one_step = paired.PairedTile.one_step

    def after_waiting(tile, i, carried):
        b = tile.b
        past = b.sub(i, integer(trial._ALONE))
        is_alone = b.and_(tile._role.is_tile, b.not_(b.load(tile._are_two, typ=i1)))
        with b.if_then(b.and_(is_alone, b.icmp_unsigned("<", past, integer(2)))):
            invited = b.load(tile._invited, typ=i64)
            waited = functools.partial(pairing.times_waited, b, tile.buffers)
            wait_until(b, tile.code.target, lambda: b.icmp_signed("!=", waited(), invited))
        return one_step(tile, i, carried)

    monkeypatch.setattr(paired.PairedTile, "one_step", after_waiting)


def change(monkeypatch, before=None, after=None):
    """Emit more before and after a partner's half: functions of (builder, result)."""
    partners_half = paired.PairedTile.partners_half

    def changed(tile, product):
        column = tile._code.halves[product][0].outputs
        result = tile.address(product.result, column)
        if before:
            before(tile.b, result)
        partners_half(tile, product)
        if after:
            after(tile.b, result)

    monkeypatch.setattr(paired.PairedTile, "partners_half", changed)


def look_late(monkeypatch, *, who):
    """Let the "tile" or the "partner" dawdle when it has said that its half is there."""
    meet = pairing.meet

    def late(b, buffers, role, number, size):
        is_late = role.is_tile if who == "tile" else b.not_(role.is_tile)
        with b.if_then(is_late):
            dawdle(b, None)
        return meet(b, buffers, role, number, size)

    monkeypatch.setattr(pairing, "meet", late)


def spoil(b, result):
    """Make the first number of a partner's half no number."""
    b.store(f32(float("nan")), result)


def dawdle(b, _result):
    """Take some microseconds more, but not so many that one is late."""
    pause = declared(b.module, "llvm.x86.sse2.pause", void, [])

    def turn(_k, _):
        b.call(pause, [])

    loop(b, 0, 100, 1, [], turn)


class Pool:
    """A pool of threads, how many halves they have `made`, and how often the tile has `parted`.

    One half in `every` takes `rest` microseconds. Those `left_over` were not done when calls ended.
    """

    def __init__(self, monkeypatch, rest=0, every=10):
        self._begun, self._done, self._parted = (ctypes.c_int64(0) for _ in range(3))
        self.left_over = 0
        self._schedule = type(direct._run_at_once)(self._start)
        self._threads: list[threading.Thread] = []
        monkeypatch.setitem(direct.POOL, "schedule", self._schedule)

        def count(b, place):
            address = integer(ctypes.addressof(place)).inttoptr(pointer)
            return b.atomic_rmw("add", address, integer(1), "seq_cst")

        def begin(b, _result):
            before = count(b, self._begun)
            if rest:
                sleep = declared(b.module, "usleep", i32, [i32])
                turn = b.srem(before, integer(every))
                with b.if_then(b.icmp_signed("==", turn, integer(every - 1))):
                    b.call(sleep, [i32(rest)])

        def part(b, buffers, part=pairing.part):
            count(b, self._parted)
            part(b, buffers)

        change(monkeypatch, before=begin, after=lambda b, _result: count(b, self._done))
        monkeypatch.setattr(pairing, "part", part)

    @property
    def made(self) -> int:
        return self._begun.value

    @property
    def parted(self) -> int:
        return self._parted.value

    def _start(self, request):
        task, data = direct.helper(request)
        self._threads.append(threading.Thread(target=task, args=[data]))
        self._threads[-1].start()

    def call(self, code, inputs, outputs):
        """Call the handler in object code, which stays until the helpers have gone."""
        engine, begun = direct.link(code), self.made
        direct.call_linked(engine, inputs, outputs)
        self.left_over += self.made - self._done.value
        while self._threads:
            self._threads.pop().join(timeout=60)
        assert self.made > begun
