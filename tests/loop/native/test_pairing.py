"""Products of one row that two threads share."""

import direct
import interpreter
import jax
import jax.numpy as jnp
import numpy as np
import partners
import pytest
from against_xla import draw
from recurrences import assert_same, lstm
from test_alongside import LatePool, agree_from_many_threads, company_found, gradient_of

import recurrax
from recurrax.layers import LSTM
from recurrax.loop.native import paired, pairing, trial
from recurrax.loop.native.target import host
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


def gradients(case, units=33, length=2000, reverse=False):
    """A program over one row, to be run with loops of one's choice."""
    args = arguments(case, units, length)
    return interpreter.traced(gradient_of(CASES[case][0], reverse), *args)


def forward(length):
    """The same without gradients, of two products a step."""
    args = arguments("highway", 33, length)
    return interpreter.traced(lambda *a: recurrax.scan(highway(a[0]), *a[1:]), *args)


def together(program, pool):
    """What two threads make of it, the tile waiting at first for its partner."""
    with pytest.MonkeyPatch.context() as patch:
        partners.await_one(patch)
        return program(direct.Loops(2, call=pool.call, accompanied=True))


def alone(program, monkeypatch):
    """What one thread makes of it, whose helpers come when all is over."""
    late = LatePool()
    monkeypatch.setitem(direct.POOL, "schedule", late.schedule)
    results = program(direct.Loops(2, call=late.call, accompanied=True))
    before = jax.tree.map(np.array, results)
    assert late.waiting
    for task, data in late.waiting:
        task(data)
    assert_same(results, before, 0)
    return results


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("units", "reverse"), [(33, False), (20, True)])
def test_whoever_makes_a_half_makes_it_the_same(case, units, reverse, monkeypatch):
    partners.share_everything(monkeypatch)
    pool, program = partners.Pool(monkeypatch), gradients(case, units, reverse=reverse)
    assert_same(together(program, pool), alone(program, monkeypatch), 0)


def test_what_a_partner_makes_is_taken(monkeypatch):
    partners.share_everything(monkeypatch)
    partners.change(monkeypatch, after=partners.spoil)
    monkeypatch.setattr(pairing, "_PATIENCE", 1 << 40)
    value, _ = together(gradients("lstm", length=64), partners.Pool(monkeypatch))
    assert np.isnan(value)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients_are_those_of_the_steps(case, dtype, monkeypatch):
    partners.share_everything(monkeypatch)
    with jax.enable_x64(dtype == np.float64):
        pool = partners.Pool(monkeypatch)
        args = jax.tree.map(lambda a: a.astype(dtype), arguments(case, 37, 1000))
        program = interpreter.traced(gradient_of(CASES[case][0], False), *args)
        assert_same(together(program, pool), program(), 2e-5 if dtype == np.float32 else 1e-13)


def test_nobody_waits_for_a_partner_that_lost_its_processor(monkeypatch):
    """One half in ten comes late: the tile goes on alone meanwhile, and invites it again later."""
    partners.share_everything(monkeypatch)
    pool = partners.Pool(monkeypatch, rest=1000)
    program = forward(length=20_000)
    shared = together(program, pool)
    assert pool.made < 20_000  # of 40,000
    assert_same(shared, alone(program, monkeypatch), 0)


def test_a_call_does_not_end_while_a_partner_is_at_it(monkeypatch):
    """It reads what the call was given."""
    partners.share_everything(monkeypatch)
    pool = partners.Pool(monkeypatch, rest=100_000)  # the steps take a hundredth of that
    together(forward(length=1000), pool)
    assert 0 < pool.made < 200  # of 2,000
    assert pool.left_over == 0


@pytest.mark.skipif(not host().is_x86, reason="a pause of x86")
@pytest.mark.parametrize("who", ["tile", "partner"])
def test_who_looks_late_misses_nothing(who, monkeypatch):
    """The other has said the next thing meanwhile, or has left."""
    partners.share_everything(monkeypatch)
    partners.look_late(monkeypatch, who=who)
    monkeypatch.setattr(pairing, "_PATIENCE", 1 << 14)
    pool = partners.Pool(monkeypatch)
    program = gradients("highway")
    shared = together(program, pool)
    assert pool.parted < 100  # in 4,000 steps, where others take the processor
    assert_same(shared, alone(program, monkeypatch), 0)


@pytest.mark.skipif(not host().is_x86, reason="a pause of x86")
def test_a_partner_that_is_of_no_use_is_let_go(monkeypatch):
    partners.share_everything(monkeypatch)
    monkeypatch.setattr(trial, "_SHARED", 4)
    partners.change(monkeypatch, after=partners.dawdle)
    pool = partners.Pool(monkeypatch)
    program = forward(length=5000)
    shared = together(program, pool)
    assert pool.made < 1000  # of 10,000
    assert_same(shared, alone(program, monkeypatch), 0)


def test_a_partner_that_is_always_late_is_let_go(monkeypatch):
    partners.share_everything(monkeypatch)
    pool = partners.Pool(monkeypatch, rest=200, every=1)
    program = forward(length=20_000)  # time enough to be late fifty times
    shared = together(program, pool)
    assert 0 < pool.parted < 5 * trial._LATE  # it may be in time where the tile has no processor
    assert_same(shared, alone(program, monkeypatch), 0)


def spied_on(monkeypatch):
    """The paired kernels that are emitted from now on."""
    codes, begin = [], paired.PairedCode.__init__

    def spy(code, *args):
        codes.append(code)
        begin(code, *args)

    monkeypatch.setattr(paired.PairedCode, "__init__", spy)
    return codes


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
        (256, 1, 20, 2, False),  # 5 MiB in all steps
        (2048, 1, 2, 2, False),  # fewer steps than it takes to copy a weight
    ],
)
def test_what_is_worth_a_partner(units, batch, length, threads, taken, monkeypatch):
    codes = spied_on(monkeypatch)
    monkeypatch.setattr(native, "thread_count", lambda: threads)
    monkeypatch.setattr(native, "ensure", lambda _name, _target, build: build())
    monkeypatch.setattr(native.jax.ffi, "ffi_call", _no_call)
    w, init, xs = arguments("plain", units, length)
    init = jnp.repeat(init, batch, 0)
    xs = jnp.repeat(xs, batch, 1)
    with pytest.raises(NotImplementedError):
        jax.jit(lambda *a: recurrax.scan(plain(a[0]), *a[1:])).lower(w, init, xs)
    assert bool(codes) == taken


def _no_call(*_, **__):
    raise NotImplementedError


def test_a_layer_of_one_row_leaves_its_products_to_other_threads(monkeypatch):
    layer, x = LSTM(8, return_sequences=True), draw(0, 1, 64, 4)
    expected = layer(x)
    found = company_found(monkeypatch)
    lowered = jax.jit(layer).lower(x)
    assert [len(f.company.leading) for f in found] == [1]
    assert "transpose" not in lowered.compile().as_text()
    assert_same(jax.jit(layer)(x), expected, 2e-6)


@pytest.mark.parametrize("times", [20, pytest.param(500, marks=pytest.mark.long)])
def test_threads_that_share_the_pool_agree(times):
    models = [(jax.jit(gradient_of(CASES[c][0], False)), arguments(c, 128, 100)) for c in CASES]
    agree_from_many_threads(models, times, 0)
