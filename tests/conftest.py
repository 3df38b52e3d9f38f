"""Set before anything imports Keras or JAX: the backend, and how hard XLA and Python try."""

import gc
import os
import subprocess
import sys

import pytest
from hypothesis import settings

gc.disable()  # until all is imported: what imports make stays

# More than half of the suite's time was XLA optimising programs that run once. It works out the
# same program with less effort; what a test asks of XLA's own work is compiled as users have it
# (`recurrences.AS_USERS_HAVE_IT`). The caller's flags come last, and win.
_LITTLE_EFFORT = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
_LITTLE_EFFORT_OF_OLDER_ONES = f"{_LITTLE_EFFORT} --xla_cpu_use_fusion_emitters=false"


def _are_known(flags):
    """Whether XLA has these flags; at one that it does not have it ends the process."""
    asked = "import jaxlib.xla_client as x; x.CompileOptions().executable_build_options"
    return not subprocess.run(
        [sys.executable, "-c", f"{asked}.debug_options"],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
    ).returncode


os.environ["KERAS_BACKEND"] = "jax"
# A pass that fails is a failure, not a reason to run the loop some other way.
os.environ["RECURRAX_STRICT"] = "1"
_flags = os.environ.get("XLA_FLAGS", "")
if _LITTLE_EFFORT not in _flags:
    known = filter(_are_known, (_LITTLE_EFFORT_OF_OLDER_ONES, _LITTLE_EFFORT))
    os.environ["XLA_FLAGS"] = f"{next(known, '')} {_flags}"

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25, database=None)
settings.load_profile("suite")


def pytest_report_header():
    return f"XLA_FLAGS: {os.environ.get('XLA_FLAGS')}"


def pytest_collection_finish():
    """Python's collector need not look again and again through what the imports made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_end_with_their_module():
    """JAX keeps them all: 4 GB in each worker by the end."""
    yield
    import jax

    jax.clear_caches()
