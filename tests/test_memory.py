"""Freed memory is kept where that is asked for, and nothing is asked of the process otherwise."""

import os
import subprocess
import sys

import pytest

LOOP = """
import resource, sys, jax, jax.numpy as jnp, recurrax
tune = {tune!r}
if tune != "never":
    assert recurrax.tune_memory(tune == "on") == (tune == "on")
f = jax.jit(lambda x: recurrax.scan(lambda c, x: (c + x, c * 2 + x), x[0], x)[1].sum())
x = jnp.ones((1200, 16, 1024))  # 75 MiB: more than the arena of a thread can hold
for _ in range(20):  # the heap grows at some of the first
    f(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    f(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 10 * 1200 * 16 * 1024 * 4 / 4096  # of ten results

ASKED = """
import ctypes, gc, sys
import numpy as np

asked = []

class Library(ctypes.CDLL):
    def __getattr__(self, name):
        found = super().__getattr__(name)
        if name != "mallopt":
            return found
        return lambda *option: asked.append(option) or found(*option)

ctypes.CDLL = Library
for name in ("enable", "disable", "freeze", "set_threshold"):
    setattr(gc, name, lambda *_, name=name: asked.append(name))
{program}
print(len(asked))
"""
UNASKED = """
import recurrax
xs = np.ones((5, 4, 3), "float32")
recurrax.scan(lambda c, x: (c + x, c), xs[0], xs)
recurrax.layers.LSTM(3)(xs)
"""
MODEL = """
import recurrax
{before}
x, y = np.ones((8, 4, 3), "float32"), np.ones((8, 2), "float32")
layers = recurrax.layers
model = recurrax.Sequential([layers.Input((4, 3)), layers.LSTM(3), layers.Dense(2)])
model.compile("sgd", "mse")
{call}
"""
CALLS = {
    "fit": "model.fit(x, y, verbose=0)",
    "evaluate": "model.evaluate(x, y, verbose=0)",
    "predict": "model.predict(x, verbose=0)",
    "train_on_batch": "model.train_on_batch(x, y)",
}


def said(program: str, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_large_results_are_not_faulted_in_at_every_call():
    assert int(said(LOOP.format(tune="on"))) < 0.3 * PAGES


@pytest.mark.parametrize("tune", ["never", "off"])
def test_a_loop_alone_leaves_the_allocator_as_it_is(tune):
    assert int(said(LOOP.format(tune=tune))) > 0.7 * PAGES


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "")]
)
def test_whoever_tunes_the_allocator_is_left_alone(name, value):
    program = "import recurrax; print(recurrax.tune_memory(), recurrax.tune_memory())"
    assert said(program, **{name: value}) == "False False"


def test_imports_loops_and_layers_ask_for_nothing():
    assert said(ASKED.format(program=UNASKED)) == "0"


@pytest.mark.parametrize("call", CALLS)
def test_training_asks_once_for_its_user(call):
    assert said(ASKED.format(program=MODEL.format(before="", call=CALLS[call]))) == "4"
    twice = f"{CALLS[call]}; {CALLS[call]}"
    assert said(ASKED.format(program=MODEL.format(before="", call=twice))) == "4"


def test_training_asks_for_nothing_where_it_was_told_not_to():
    before = "assert recurrax.tune_memory(False) is False"
    program = MODEL.format(before=before, call="; ".join(CALLS.values()))
    assert said(ASKED.format(program=program)) == "0"
