"""Who waits for long sleeps, and notices soon enough what it has waited for."""

import ctypes
import threading
import time

import pytest

from recurrax.loop.native import kernel
from recurrax.loop.native.emit import Module, function, i64, integer, pointer, void
from recurrax.loop.native.pairing import _FOR_EVER, emit_meeting
from recurrax.loop.native.target import host
from recurrax.loop.native.waiting import wait_until
from recurrax.loop.native.work import MEETING


def build():
    """`void wait(int64*)`: until the number is 1; `void met(int64*)`: until half 1 is there."""
    module = Module("waiting", host())
    emit_meeting(module, host())
    wait, b = function(module, "wait", void, [pointer])

    def is_one():
        return b.icmp_signed("==", b.load_atomic(wait.args[0], "acquire", 8, typ=i64), integer(1))

    wait_until(b, host(), is_one)
    b.ret_void()
    met, b = function(module, "met", void, [pointer])
    b.call(module.globals[MEETING], [met.args[0], integer(1), integer(_FOR_EVER)])
    b.ret_void()
    wait.linkage = met.linkage = "external"
    return module


@pytest.fixture(scope="module")
def engine():
    return kernel._linked(kernel.compile_module(build(), host()), "wait")


@pytest.mark.parametrize(("name", "said"), [("wait", 1), ("met", 2)])
def test_a_long_wait_takes_little_of_a_processor(engine, name, said):
    wait = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(name))
    place = ctypes.c_int64(0)
    used, ended = [], []

    def waiter():
        wait(ctypes.addressof(place))
        ended.append(time.perf_counter())
        used.append(time.thread_time())

    thread = threading.Thread(target=waiter)
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    place.value = said
    told = time.perf_counter()
    thread.join(30)
    assert used[0] < 0.15
    assert ended[0] - told < 0.1
