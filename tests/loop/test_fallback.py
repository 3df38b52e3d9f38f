"""The net under the compiler: a loop that a pass fails on is `lax.scan`'s, with a warning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax
from recurrax.loop import fallback


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
