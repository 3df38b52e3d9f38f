"""Products made alongside a loop over one row, by the thread that has no tile."""

import concurrent.futures

import direct
import interpreter
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_xla import draw
from hypothesis import given
from hypothesis import strategies as st
from recurrences import assert_same, lstm

import recurrax
from recurrax.loop.native.jobs import STEPS, Company, Multiplied
from recurrax.loop.native.work import TICK
from recurrax.loop.runners import native
from recurrax.loop.runners.accompanied import accompanied

FEATURES, UNITS = 5, 7


def weights(features=FEATURES, units=UNITS):
    shapes = {
        "kernel": (features, 4 * units),
        "recurrent": (units, 4 * units),
        "bias": (4 * units,),
    }
    return {k: draw(len(k), *s, scale=0.3) for k, s in shapes.items()}


def both_ways(w):
    """Weights stored either way round, inputs multiplied twice, a product that is needed again."""

    def step(h, x):
        m = (x @ w["in"].T) * (h @ w["own"].T)
        h = jnp.tanh(x @ w["kernel"] + m @ w["mixed"])
        return h, h

    return step


def both_ways_weights():
    shapes = {"kernel": (FEATURES, UNITS), "in": (UNITS, FEATURES), "own": (UNITS, UNITS)}
    return {k: draw(len(k), *s, scale=0.3) for k, s in (shapes | {"mixed": (UNITS, UNITS)}).items()}


CASES = {
    "lstm": (lstm, weights, 2),
    "both ways": (both_ways, both_ways_weights, 1),
}


def gradient_of(cell, reverse, scan=recurrax.scan):
    def loss(w, init, xs):
        last, ys = scan(cell(w), init, xs, reverse=reverse)
        return sum(jnp.sin(y).sum() for y in jax.tree.leaves((last, ys)))

    return jax.value_and_grad(loss, argnums=(0, 1, 2))


def arguments(case, length, batch=1):
    _, made, carries = CASES[case]
    init = tuple(draw(k, batch, UNITS) for k in range(carries))
    return made(), init if carries > 1 else init[0], draw(9, length, batch, FEATURES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("length", "reverse"), [(32, False), (39, True), (50, False)])
def test_values_and_gradients_are_those_of_the_parts(case, length, reverse):
    args = arguments(case, length)
    program = interpreter.traced(gradient_of(CASES[case][0], reverse), *args)
    loops = direct.Loops(2, accompanied=True)
    assert_same(program(loops), program(), 4e-6)
    assert loops.accompanied_loops == 2


class LatePool:
    """A pool of threads whose helpers come when all is over."""

    def __init__(self):
        self.schedule = type(direct._run_at_once)(self._wait)
        self.waiting, self._engines = [], []

    def _wait(self, request):
        self.waiting.append(direct.helper(request))

    def call(self, code, inputs, outputs):
        """Call the handler in object code, which stays for the helpers."""
        self._engines.append(direct.link(code))
        direct.call_linked(self._engines[-1], inputs, outputs)


@pytest.mark.parametrize("case", CASES)
def test_a_helper_that_comes_after_the_end_finds_nothing_to_do(case, monkeypatch):
    pool = LatePool()
    monkeypatch.setitem(direct.POOL, "schedule", pool.schedule)
    args = arguments(case, 39)
    program = interpreter.traced(gradient_of(CASES[case][0], False), *args)
    ours = program(direct.Loops(2, call=pool.call, accompanied=True))
    assert len(pool.waiting) == 2
    before = jax.tree.map(np.array, ours)
    for task, data in pool.waiting:
        task(data)
    assert_same(ours, before, 0)
    assert_same(ours, program(), 4e-6)


def company_found(monkeypatch):
    """What products each loop is found to have, from now on, where there are two threads."""
    found = []

    def spy(*args, **how):
        found.append(accompanied(*args, **how))
        return found[-1]

    monkeypatch.setattr(native, "accompanied", spy)
    monkeypatch.setattr(native, "thread_count", lambda: 2)
    return found


@pytest.mark.parametrize(
    ("length", "batch", "taken"), [(100, 1, True), (31, 1, False), (100, 2, False)]
)
def test_a_loop_has_company_if_it_is_long_and_leaves_a_thread_free(
    length, batch, taken, monkeypatch
):
    found = company_found(monkeypatch)
    jax.jit(gradient_of(lstm, False)).lower(*arguments("lstm", length, batch))
    assert [bool(f and f.company) for f in found] == [taken, taken]


def test_a_product_that_is_read_again_is_made_alongside_all_the_same(monkeypatch):
    found = company_found(monkeypatch)
    lowered = jax.jit(gradient_of(both_ways, False)).lower(*arguments("both ways", 50))
    assert [len(f.company.leading) for f in found] == [2, 0]
    assert lowered.as_text().count("custom_call @recurrax") == 2


def test_the_gradients_are_those_of_lax_scan():
    args = arguments("lstm", 70)
    args64 = jax.tree.map(lambda a: np.asarray(a, np.float64), args)

    def loss(w, init, xs):
        last, ys = jax.lax.scan(lstm(w), init, xs)
        return sum(jnp.sin(y).sum() for y in jax.tree.leaves((last, ys)))

    with jax.enable_x64(True):
        exact = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*args64)
    exact = jax.tree.map(lambda a: np.asarray(a, np.float32), exact)
    assert_same(jax.jit(gradient_of(lstm, False))(*args), exact, 4e-6)


@pytest.mark.parametrize(("case", "name"), [("lstm", "bias"), ("both ways", "in")])
def test_second_derivatives_and_batches_of_gradients(case, name):
    cell, made, carries = CASES[case]
    zeros = (jnp.zeros((1, UNITS)),) * carries

    def of_weight(scan):
        def loss(weight, xs):
            init = zeros if carries > 1 else zeros[0]
            last, _ = scan(cell(made() | {name: weight}), init, xs)
            return jnp.sin(jax.tree.leaves(last)[0]).sum()

        def twice(weight, xs):
            return jax.grad(lambda b: jnp.sum(jax.grad(loss)(b, xs) ** 2))(weight)

        return jax.jit(jax.vmap(twice, in_axes=(None, 0)))

    weight, xs = made()[name], draw(4, 3, 33, 1, FEATURES)
    assert_same(of_weight(recurrax.scan)(weight, xs), of_weight(jax.lax.scan)(weight, xs), 2e-5)


def agree_from_many_threads(models, times, tolerance):
    """8 Python threads call functions on their arguments; every result is that of a lone call."""
    known = [(f, args, jax.tree.map(np.asarray, f(*args))) for f, args in models]

    def call_often(first):
        for k in range(times):
            compute, args, expected = known[(first + k) % len(known)]
            assert_same(compute(*args), expected, tolerance)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(call_often, k) for k in range(8)]:
            done.result(timeout=240)


@pytest.mark.parametrize("times", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_threads_that_share_the_pool_agree(times):
    models = [(jax.jit(gradient_of(CASES[c][0], False)), arguments(c, 100)) for c in CASES]
    agree_from_many_threads(models, times, 4e-6)


@given(length=st.integers(2 * STEPS, 2000), leads=st.booleans())
def test_windows_are_all_steps_in_order(length, leads):
    weight = native.weight_of(np.zeros((3, 4), np.float32), 1, False)
    leading = (Multiplied(weight, "f32", 0, 2),) if leads else ()
    bounds = Company(length, False, 2, leading, ()).bounds
    sizes = np.diff(bounds)
    assert bounds[0] == 0 and bounds[-1] == length
    assert all(b % TICK == 0 for b in bounds[:-1]) and 0 < sizes.min() <= sizes.max() <= STEPS
    assert sizes[0] == (TICK if leads or length <= 2 * STEPS else STEPS)
