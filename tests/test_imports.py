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


# What follows runs each case in a fork, after `import jax`: that takes most of a start's time.
FORKS = """
import importlib, os, pathlib, sys, threading, traceback
import jax

def in_fork(function, *arguments):
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, arguments
        return
    code = 1
    try:
        function(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
"""
RACES = """
LAST = {  # the name that each of these modules defines last
    "layers": "Wrapper", "losses": "tversky", "metrics": "top_k_categorical_accuracy",
    "models": "save_model", "saving": "serialize_keras_object",
}

class Gate:  # holds the first thread that looks for the module `name`, as a slow disk may
    def __init__(self, name):
        self.name, self.reached, self.opened = name, threading.Event(), threading.Event()

    def find_spec(self, name, path=None, target=None):
        if name == self.name and not self.reached.is_set():
            self.reached.set()
            self.opened.wait(10)

def race(held_at, *statements):
    gate, errors = Gate(held_at), []
    sys.meta_path.insert(0, gate)

    def run(statement):
        scope = {}
        try:
            exec(statement, scope)
            if module := scope.get("x"):
                getattr(module, LAST[module.__name__[9:]])
        except BaseException as error:
            errors.append((statement, repr(error)))

    first, *others = [threading.Thread(target=run, args=(s,), daemon=True) for s in statements]
    first.start()
    assert gate.reached.wait(20)
    for thread in others:
        thread.start()
    for thread in others:
        thread.join(0.2)
    gate.opened.set()
    for thread in (first, *others):
        thread.join(8)
        assert not thread.is_alive(), errors
    assert not errors, errors

for case in CASES:
    in_fork(race, *case)
"""
ROOT = "import recurrax; "
CASES = [  # the module at which the first thread is held, what that runs, what others run meanwhile
    ("recurrax.models.model", "import recurrax.models as x", ROOT + "x = recurrax.models"),
    ("recurrax.layers.layer", ROOT + "recurrax.Layer", "import recurrax.models as x"),
    ("recurrax.layers.attention", "import recurrax.saving as x", "import recurrax.models as x"),
    ("recurrax.training.trainer", "import recurrax.models as x", ROOT + "recurrax.Model"),
    ("recurrax.loop.scan", "import recurrax", "import recurrax.models as x"),
    (
        "recurrax.training.losses.margin",
        "import recurrax.losses as x",
        "import recurrax.metrics as x",
        "from recurrax import optimizers, layers as x",
        "from recurrax import *",
    ),
]
# `recurrax.training` itself loads none of its modules, so nobody waits in the midst of it.
WHOLE_FIRST = """
import recurrax

class Finder:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe() if name.startswith("recurrax.") else None
        while frame:
            if frame.f_code.co_name == "_find_and_load" and name != "recurrax.training":
                asked = frame.f_locals["name"]
                assert not asked.startswith(name + "."), f"{asked} before {name}"
            frame = frame.f_back

sys.meta_path.insert(0, Finder())
for path in sorted(pathlib.Path(recurrax.__file__).parent.iterdir()):
    if path.suffix in ("", ".py") and not path.name.startswith("_"):
        in_fork(importlib.import_module, f"recurrax.{path.stem}")
"""


def _run_forks(program):
    command = [sys.executable, "-c", FORKS + program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert run.returncode == 0, run.stderr


def test_threads_that_import_at_once_do_not_wait_in_vain_nor_see_unfinished_modules():
    _run_forks(f"CASES = {CASES}\n{RACES}")


def test_a_package_is_imported_whole_before_a_module_of_it():
    """So one thread loads it and others wait: two in one package would wait for each other."""
    _run_forks(WHOLE_FIRST)
