"""`from recurrax import scan` loads the loop alone; the rest comes when it is asked for."""

import subprocess
import sys

import pytest

HEAVY = ("h5py", "rich", "scipy", "optax", "matplotlib")
KERAS_HALF = ("api", "layers", "models", "training", "saving", "view", "ops", "activations")

LOOP_ALONE = f"""
import sys
import jax, jax.numpy as jnp
before = set(sys.modules)
from recurrax import scan, explain
xs = jnp.ones((40, 4, 3))
def loss(w):
    return scan(lambda h, x: (jnp.tanh(h @ w + x), h), xs[0], xs)[1].sum()
jax.grad(loss)(jnp.eye(3))
explain(lambda h, x: (h + x, h), xs[0], xs)
heavy = [m for m in set(sys.modules) - before if m.partition(".")[0] in {HEAVY}]
ours = [m for m in sys.modules if m.startswith({tuple(f"recurrax.{m}" for m in KERAS_HALF)})]
assert not heavy and not ours, (heavy, ours)
"""
PROGRAMS = {
    "loop alone": LOOP_ALONE,
    "a module": "from recurrax import layers; layers.LSTM(2)",
    "as keras": "import recurrax as keras; keras.layers.LSTM(2); keras.Sequential()",
    "a submodule first": "import recurrax.layers; recurrax.layers.LSTM(2); recurrax.Model",
    "a private submodule first": "import recurrax.training.trainer, recurrax.view.page",
    "star": "from recurrax import *; layers.LSTM(2), scan, Sequential, tune_memory, KerasTensor",
    "dir": """
import recurrax
names = dir(recurrax)
assert {"scan", "layers", "Sequential", "tune_memory"} <= set(names) and names == recurrax.__all__
assert not [name for name in names if not hasattr(recurrax, name)]
""",
    "unknown": """
import recurrax
assert not hasattr(recurrax, "Transformer") and not hasattr(recurrax, "_private")
assert "recurrax.layers" in __import__("sys").modules  # looked for there
try:
    from recurrax import Transformer
except ImportError as error:
    assert "Transformer" in str(error)
""",
    "private": """
import sys, recurrax
assert not hasattr(recurrax, "__wrapped__") and "recurrax.api" not in sys.modules
""",
    "pickle": """
import pickle, recurrax
for value in (recurrax.Sequential, recurrax.layers.LSTM, recurrax.scan, recurrax.KerasTensor):
    assert pickle.loads(pickle.dumps(value)) is value
""",
    "threads": """
import concurrent.futures, recurrax
names = ["Sequential", "Model", "layers", "Layer", "saving", "view", "Variable", "Loss"]
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda name: getattr(recurrax, name), names * 4))
assert found[:8] == found[8:16]
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_in_a_process_of_its_own(name):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAMS[name]], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
