"""Kernels are let go with the last program that uses them, and never while one may call them."""

import concurrent.futures
import gc
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax
from recurrax.loop import compat, plan
from recurrax.loop.body import Body
from recurrax.loop.native import doors, kernel
from recurrax.loop.native.lower import lower
from recurrax.loop.native.target import host
from recurrax.loop.native.work import HANDLER


def program(units):
    """A compiled loop, whose kernel no other has."""
    w = np.linspace(-1, 1, units * units, dtype=np.float32).reshape(units, units)

    def forward(xs):
        return recurrax.scan(lambda h, x: (jnp.tanh(h @ w + x), h), xs[0], xs, runner="native")

    return jax.jit(forward), jnp.ones((6, 40, units))


def settled():
    """How many kernels are there, when all is done that is under way."""
    gc.collect()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # late helpers leave
        pool.submit(lambda: None).result()
    return len(kernel._kernels)


def test_kernels_end_with_their_program():
    jax.clear_caches()
    before, engines = settled(), len(doors._leaving)
    call, xs = program(11)
    expected = np.asarray(call(xs)[1])
    assert settled() > before
    other = jax.jit(lambda xs: call(xs)[1] * 2)
    np.testing.assert_array_equal(other(xs), 2 * expected)
    del call
    assert settled() > before  # the other program still calls it
    np.testing.assert_array_equal(other(xs), 2 * expected)
    del other
    jax.clear_caches()
    assert settled() == before
    assert len(doors._leaving) <= engines + 2  # those that a late helper is still in
    call, xs = program(11)  # the name is known to XLA, and leads to new code
    np.testing.assert_array_equal(call(xs)[1], expected)


def test_a_compiled_program_keeps_its_kernel():
    jax.clear_caches()
    call, xs = program(12)
    compiled = call.lower(xs).compile()
    expected = np.asarray(call(xs)[1])
    del call
    jax.clear_caches()
    settled()
    np.testing.assert_array_equal(compiled(xs)[1], expected)


def test_who_comes_to_a_closed_door_has_the_kernel_linked_again(monkeypatch):
    """As where XLA holds a program that JAX has forgotten."""
    monkeypatch.setattr(compat, "keep_alive", lambda context, needed: None)
    linked = []
    link = kernel._linked

    def counted(code, entry=HANDLER):
        linked.extend([1] * (entry == HANDLER))
        return link(code, entry)

    monkeypatch.setattr(kernel, "_linked", counted)
    call, xs = program(13)
    got = call(xs)[1]
    assert len(linked) == 2  # when it was lowered, and when it was called
    h = np.asarray(xs[0])
    w = np.linspace(-1, 1, 169, dtype=np.float32).reshape(13, 13)
    for x, y in zip(xs, got, strict=True):
        np.testing.assert_allclose(y, h, rtol=1e-5, atol=1e-5)
        h = np.tanh(h @ w + x)
    call(xs)
    assert len(linked) == 2  # it stays


def test_a_kernel_that_cannot_be_linked_again_is_an_error(monkeypatch):
    monkeypatch.setattr(compat, "keep_alive", lambda context, needed: None)
    call, xs = program(14)
    compiled = call.lower(xs).compile()
    monkeypatch.setattr(kernel, "_linked", lambda *_: None)
    with pytest.raises(jax.errors.JaxRuntimeError, match="cannot be linked again"):
        jax.block_until_ready(compiled(xs))
    monkeypatch.undo()
    jax.block_until_ready(compiled(xs))


def test_kernels_come_and_go_while_others_call_them(monkeypatch):
    """Doors close while calls are inside: none meets freed code."""
    monkeypatch.setattr(compat, "keep_alive", lambda context, needed: None)
    monkeypatch.setattr("recurrax.loop.holding._for_ever", kept := set())
    call, xs = program(15)
    expected = np.asarray(call(xs)[1])
    stop = threading.Event()

    def often():
        while not stop.is_set():
            np.testing.assert_array_equal(call(xs)[1], expected)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = [pool.submit(often) for _ in range(3)]
        try:
            for _ in range(300):
                kept.clear()
                gc.collect(0)
        finally:
            stop.set()
        for done in running:
            done.result(timeout=60)


def test_what_a_kernel_has_put_by_is_freed_with_it(monkeypatch):
    freed, free = [], doors._free()
    monkeypatch.setattr(doors, "_free", lambda: lambda spare: freed.append(spare) or free(spare))
    call, xs = program(19)
    xs = xs[:, :4]  # rows for one thread: no helper may be late
    before = set(kernel._kernels)
    jax.block_until_ready(call(xs))
    (name,) = set(kernel._kernels) - before
    door = doors._doors[name]
    assert door.handler
    del call
    jax.clear_caches()
    settled()
    for _ in range(400):  # a helper that XLA has not begun yet leaves when it has
        doors.free_empty()
        if door not in [each[0] for each in doors._leaving]:
            break
        time.sleep(0.05)
    assert door.handler == 0 and door not in [each[0] for each in doors._leaving]
    assert any(freed)


def test_two_kernels_are_made_at_once(monkeypatch):
    """Each waits, amid its compilation, until the other is at its own."""
    barrier = threading.Barrier(2)
    compile_module = kernel.compile_module

    def compile_together(module, target):
        if module.name == "loop":
            barrier.wait(timeout=60)
        return compile_module(module, target)

    monkeypatch.setenv("RECURRAX_CACHE_DIR", "")
    kernel._driver()
    calls = [program(units) for units in (16, 17)]
    monkeypatch.setattr(kernel, "compile_module", compile_together)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(lambda c=call, x=xs: c(x)) for call, xs in calls]:
            jax.block_until_ready(done.result(timeout=120))


def test_what_threads_compile_at_once_is_what_one_compiles():
    bodies = [_body(*program(units)) for units in range(4, 8)]

    def code(body):
        module = kernel.build_loop(lower(body), host(), False, 6, 1)
        return kernel.compile_module(module, host())

    alone = [code(body) for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(code, bodies)) == alone


def _body(call, xs):
    """The loop of a program."""
    called = compat.called_program(jax.make_jaxpr(call)(xs).eqns[0])
    (eqn,) = (eqn for eqn in called.eqns if eqn.primitive.name == "loop")
    params = eqn.params
    return plan.plain(Body(params["jaxpr"], params["num_consts"], params["num_carry"]))
