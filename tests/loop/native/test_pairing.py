"""Products of one row that two threads share."""

import concurrent.futures
import ctypes
import threading

import direct
import interpreter
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import draw
from recurrences import assert_same, lstm
from test_alongside import LatePool, gradient_of

import recurrax
from recurrax.layers import LSTM
from recurrax.loop.native import emit, paired
from recurrax.loop.runners import native

FEATURES = 5


def highway(w):
    """Two large products in a step, one of them of what the other made."""

    def step(h, x):
        for name in ("recurrent", "second"):
            z = h @ w[name] + w["bias"]
            z = z + x @ w["kernel"] if name == "recurrent" else z
            candidate, gate = jnp.split(z, 2, -1)
            h = h + jax.nn.sigmoid(gate) * (jnp.tanh(candidate) - h)
        return h, h

    return step


def plain(w):
    """No product besides that of the state, from a sum of arguments."""

    def step(h, x):
        h = jnp.tanh(x[..., :1] + h @ w["recurrent"] + w["bias"])
        return h, h

    return step


CASES = {"lstm": (lstm, 4, 2), "highway": (highway, 2, 1), "plain": (plain, 1, 1)}


def arguments(case, units, length):
    _, gates, carries = CASES[case]
    shapes = {
        "kernel": (FEATURES, gates * units),
        "recurrent": (units, gates * units),
        "second": (units, gates * units),
        "bias": (gates * units,),
    }
    w = {k: draw(len(k), *s, scale=0.3) for k, s in shapes.items()}
    init = tuple(draw(k, 1, units) for k in range(carries))
    return w, init if carries > 1 else init[0], draw(9, length, 1, FEATURES)


class Pool:
    """A pool of threads, and how many posts have been answered by them: some at each call."""

    def __init__(self, monkeypatch, rest=0.0):
        self.schedule = type(direct._run_at_once)(self._start)
        self.answered = ctypes.c_int64(0)
        self._threads: list[threading.Thread] = []
        monkeypatch.setitem(direct.POOL, "schedule", self.schedule)
        monkeypatch.setattr(paired, "_LARGE", 1)
        monkeypatch.setattr(paired, "_WORTH_WAKING", 1)
        counted, answer = self.answered, paired.PairedCode._answer

        def answer_and_count(code, b, *args):
            place = emit.integer(ctypes.addressof(counted)).inttoptr(emit.pointer)
            before = b.atomic_rmw("add", place, emit.integer(1), "seq_cst")
            if rest:
                sleep = emit.declared(b.module, "usleep", emit.i32, [emit.i32])
                is_tenth = b.icmp_signed("==", b.srem(before, emit.integer(10)), emit.integer(9))
                with b.if_then(is_tenth):
                    b.call(sleep, [emit.i32(int(rest * 1e6))])
            answer(code, b, *args)

        monkeypatch.setattr(paired.PairedCode, "_answer", answer_and_count)

    def _start(self, request):
        task = request.contents.task  # lies on the caller's stack
        task = type(task)(ctypes.cast(task, ctypes.c_void_p).value)
        self._threads.append(threading.Thread(target=task, args=[request.contents.data]))
        self._threads[-1].start()

    def call(self, code, inputs, outputs):
        """Call the handler in object code, again if the helper came too late for some posts."""
        engine, given, begun = direct.link(code), [a.copy() for a in inputs], self.answered.value
        while self.answered.value < begun + 50:
            for a, start in zip(inputs, given, strict=True):
                a[...] = start
            direct.call(engine, *([(a.ctypes.data, a.shape) for a in g] for g in (inputs, outputs)))
            while self._threads:
                self._threads.pop().join(timeout=60)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("units", "reverse"), [(33, False), (20, True)])
def test_whoever_makes_a_half_makes_it_the_same(case, units, reverse, monkeypatch):
    pool = Pool(monkeypatch)
    args = arguments(case, units, 2000)
    program = interpreter.traced(gradient_of(CASES[case][0], reverse), *args)
    shared = program(direct.Loops(2, call=pool.call, accompanied=True))
    late = LatePool()
    monkeypatch.setitem(direct.POOL, "schedule", late.schedule)
    lone = program(direct.Loops(2, call=late.call, accompanied=True))
    assert late.waiting
    assert_same(shared, lone, 0)
    for task, data in late.waiting:
        task(data)
    assert_same(shared, lone, 0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients_are_those_of_the_steps(case, dtype, monkeypatch):
    with jax.enable_x64(dtype == np.float64):
        pool = Pool(monkeypatch)
        args = jax.tree.map(lambda a: a.astype(dtype), arguments(case, 37, 1000))
        program = interpreter.traced(gradient_of(CASES[case][0], False), *args)
        loops = direct.Loops(2, call=pool.call, accompanied=True)
        ours = program(loops)
        assert loops.accompanied_loops + loops.taken == 2
        assert_same(ours, program(), 2e-5 if dtype == np.float32 else 1e-13)


def test_nobody_waits_for_a_partner_that_lost_its_processor(monkeypatch):
    """One answer in ten comes late: the tile goes on alone meanwhile, and posts again later."""
    pool = Pool(monkeypatch, rest=0.001)
    args = arguments("highway", 33, 20_000)
    program = interpreter.traced(lambda *a: recurrax.scan(highway(a[0]), *a[1:]), *args)
    shared = program(direct.Loops(2, call=pool.call, accompanied=True))
    assert pool.answered.value < 20_000  # of 40,000
    late = LatePool()
    monkeypatch.setitem(direct.POOL, "schedule", late.schedule)
    assert_same(shared, program(direct.Loops(2, call=late.call, accompanied=True)), 0)


def test_halves_are_whole_vectors_and_all_outputs():
    for outputs in (17, 32, 100, 128, 500, 2048):
        weight = native.weight_of(np.zeros((128, outputs), np.float32), 0, False)
        own, other = paired.halves(weight, 16)
        assert own.outputs % 16 == 0 and own.outputs + other.outputs == outputs
        assert own.outputs >= other.outputs - 15 and other.outputs > 0
        assert other.offset == own.outputs


@pytest.mark.parametrize(
    ("units", "batch", "length", "threads", "taken"),
    [
        (256, 1, 100, 2, True),
        (256, 1, 100, 1, False),
        (256, 2, 100, 2, False),
        (64, 1, 1000, 2, False),  # 16 KiB of weights
        (256, 1, 8, 2, False),  # 2 MiB in all steps
    ],
)
def test_what_is_worth_a_partner(units, batch, length, threads, taken, monkeypatch):
    made = []
    spied = paired.PairedCode.__init__

    def spy(code, *args):
        made.append(code)
        spied(code, *args)

    monkeypatch.setattr(paired.PairedCode, "__init__", spy)
    monkeypatch.setattr(native, "thread_count", lambda: threads)
    monkeypatch.setattr(native, "ensure", lambda _name, _target, build: build())
    monkeypatch.setattr(native.jax.ffi, "ffi_call", _no_call)
    w, init, xs = arguments("plain", units, length)
    init = jnp.repeat(init, batch, 0)
    xs = jnp.repeat(xs, batch, 1)
    with pytest.raises(NotImplementedError):
        jax.jit(lambda *a: recurrax.scan(plain(a[0]), *a[1:])).lower(w, init, xs)
    assert bool(made) == taken


def _no_call(*_, **__):
    raise NotImplementedError


def test_a_layer_of_one_row_leaves_its_products_to_other_threads(monkeypatch):
    monkeypatch.setattr(native, "thread_count", lambda: 2)
    layer = LSTM(8, return_sequences=True)
    x = draw(0, 1, 64, 4)
    expected = layer(x)
    lowered = jax.jit(layer).lower(x)
    assert "transpose" not in lowered.compile().as_text()
    assert_same(jax.jit(layer)(x), expected, 2e-6)


@pytest.mark.parametrize("times", [20, pytest.param(500, marks=pytest.mark.long)])
def test_threads_that_share_the_pool_agree(times):
    """8 Python threads call 3 models of one row; every result is that of a lone call."""
    models = []
    for case in CASES:
        compute, args = jax.jit(gradient_of(CASES[case][0], False)), arguments(case, 128, 100)
        models.append((compute, args, jax.tree.map(np.asarray, compute(*args))))

    def call_often(first):
        for k in range(times):
            compute, args, expected = models[(first + k) % len(models)]
            assert_same(compute(*args), expected, 0)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(call_often, k) for k in range(8)]:
            done.result(timeout=240)
