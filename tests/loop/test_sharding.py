"""Arrays that XLA divides over several devices: each runs the loop over rows of its own.

The cases (`divided_*.py`) run in processes that have eight devices.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import recurrax


@pytest.mark.parametrize("group", ["loops", "meshes", "layers"])
def test_each_device_runs_rows_of_its_own(group):
    folder = pathlib.Path(__file__).parent
    folders = [pathlib.Path(recurrax.__file__).parents[1], folder]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "XLA_FLAGS": flags,
    }
    code = f"import divided; divided.run('divided_{group}')"
    program = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(program, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout.splitlines()[-1])
    assert not failed, "\n".join(f"{name}:\n{why}" for name, why in failed.items())
