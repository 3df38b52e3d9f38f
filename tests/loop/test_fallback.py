"""The net under the compiler: a loop that a pass fails on is `lax.scan`'s, with a warning."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax
from recurrax.loop import fallback
from recurrax.loop import gradient as gradient_module


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch):
    monkeypatch.delenv(fallback.STRICT, raising=False)
    monkeypatch.setattr(fallback, "_said", set())


def cell(w, h, x):
    h = jnp.tanh(h @ w + x)
    return h, h * 2


def program(scan, w, h, xs):
    return scan(lambda h, x: cell(w, h, x), h, xs)


ARGUMENTS = jnp.eye(3) * 0.3, jnp.ones((2, 3)), jnp.linspace(-1, 1, 24).reshape(4, 2, 3)

# Where a pass begins, as (module, name): each is made to fail.
PASSES = {
    "the step": "recurrax.loop.step.turned",
    "the split": "recurrax.loop.split.split",
    "what runs ahead": "recurrax.loop.look_ups.worked_ahead",
    "hash-consing": "recurrax.loop.split.interned",
}


def fails(*_, **__):
    raise KeyError("a pass that fails")


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_that_fails_leaves_the_loop_to_lax_scan(name, monkeypatch):
    expected = program(jax.lax.scan, *ARGUMENTS)
    monkeypatch.setattr(PASSES[name], fails)
    with pytest.warns(RuntimeWarning, match="a pass that fails.*report it") as said:
        for _ in range(2):
            made = program(recurrax.scan, *ARGUMENTS)
    assert len(said) == 1 and fallback.STRICT in str(said[0].message)
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setenv(fallback.STRICT, "1")
    with pytest.raises(KeyError, match="a pass that fails"):
        program(recurrax.scan, *ARGUMENTS)


DERIVED = {
    "the derivative": "recurrax.loop.gradient.derivative",
    "the joint step": "recurrax.loop.backward.joint",
    "the backward step": "recurrax.loop.gradient.backward_of",
    "products after the backward loop": "recurrax.loop.gradient.trail_use",
    "gradients of what is multiplied": "recurrax.loop.gradient.trail_feeding",
    "batching": "recurrax.loop.primitive._batched_body",
}


def gradient(scan, v, w, h, xs):
    def loss(v, w, h, xs):
        return jnp.sin(scan(lambda h, x: cell(w, h, x @ v), h, xs)[0]).sum()

    return jax.grad(loss, argnums=(0, 1, 2, 3))(v, w, h, xs)


def several(function):
    return jax.vmap(function, in_axes=(None, None, 0, None))


HOW = {
    "grad": lambda g: lambda v, w, h, xs: g(v, w, h[0], xs),
    "jit": lambda g: lambda v, w, h, xs: jax.jit(g)(v, w, h[0], xs),
    "vmap": several,
    "jit vmap": lambda g: jax.jit(several(g)),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", DERIVED)
def test_so_does_one_that_fails_on_a_derivative(name, how, monkeypatch):
    w, h, xs = ARGUMENTS
    arrays = jnp.eye(3) * 0.9, w, jnp.stack([h, h / 2]), xs

    def results(scan):
        return HOW[how](lambda *args: gradient(scan, *args))(*arrays)

    expected = results(jax.lax.scan)
    gradient_module.derivative.cache_clear()
    before, called = gradient_module.backward_of, []

    def passes(*args, **_):
        if name == "the backward step" and not any(args[1]):  # of cotangents that are not zero
            return before(*args)
        called.append(name)
        return fails()

    monkeypatch.setattr(DERIVED[name], passes)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = results(recurrax.scan)
    assert len(said) == bool(called)
    assert called or (name == "batching" and "vmap" not in how)
    for a, b in zip(made, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


LOWERED = {
    "the plan": "recurrax.loop.plan.choose",
    "the native runner": "recurrax.loop.runners.native.run",
    "its products": "recurrax.loop.runners.native.gather",
    "the loop with its products": "recurrax.loop.runners.native.run_accompanied",
    "the xla runner": "recurrax.loop.runners.xla._run_on_cpu",
    "how stacks lie": "recurrax.loop.lowering.stacks_of",
    "LLVM": "recurrax.loop.native.kernel.compile_module",
}


@pytest.mark.parametrize("name", LOWERED)
def test_so_does_one_that_fails_while_lowering(name, monkeypatch):
    size = 5 + list(LOWERED).index(name)  # kernels of other tests are there already
    arrays = jnp.ones((3, size)) / 9, jnp.eye(size) / 3, jnp.ones((2, size)), ARGUMENTS[2]
    runner = {"the xla runner": "xla"}.get(name)
    ours = functools.partial(recurrax.scan, runner=runner)
    expected = gradient(jax.lax.scan, *arrays)
    called = []
    monkeypatch.setattr(LOWERED[name], lambda *a, **k: called.append(name) or fails())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = jax.jit(lambda *args: gradient(ours, *args))(*arrays)
        eager = gradient(ours, *arrays)
    assert called and len(said) == 1
    for a, b, c in zip(made, eager, expected, strict=True):
        np.testing.assert_allclose(a, c, atol=1e-5)
        np.testing.assert_allclose(b, c, atol=1e-5)


def test_a_layer_keeps_running(monkeypatch):
    layer = recurrax.layers.GRU(4, return_sequences=True)
    x = jnp.ones((2, 5, 3))
    expected = layer(x)
    monkeypatch.setattr(PASSES["the split"], fails)
    again = recurrax.layers.GRU.from_config(layer.get_config())
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    with pytest.warns(RuntimeWarning, match="a pass that fails"):
        np.testing.assert_allclose(again(x), expected, atol=1e-6)


def raises(h, x):
    raise IndexError("the caller's own")


WRONG = {
    "of its own": (raises, IndexError, "the caller's own"),
    "no pair": (lambda h, x: h, TypeError, "return a pair"),
    "another carry": (lambda h, x: (h[:1], None), TypeError, "shapes and dtypes of `init`"),
    "no function": (3, TypeError, "expects a function"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_the_caller_stay_as_they_are(name):
    f, kind, text = WRONG[name]
    with pytest.raises(kind, match=text):
        recurrax.scan(f, *ARGUMENTS[1:])


def test_a_runner_that_cannot_be_forced_is_still_refused():
    def step(h, x):
        return jnp.sort(h @ jnp.ones((3, 3)), axis=0) + x, None

    with pytest.raises(ValueError, match="cannot take this loop"):
        recurrax.scan(step, *ARGUMENTS[1:], runner="native")
