"""A good file, and a watch over whoever loads another one."""

import builtins
import importlib
import os
import pickle

import pytest

from .hostile import model_bytes


@pytest.fixture(scope="module")
def good():
    return model_bytes()


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """Fail where loading runs, imports, opens or unpickles anything."""

    def forbidden(*args, **kwargs):
        raise AssertionError(f"the loader called something: {args} {kwargs}")

    monkeypatch.chdir(tmp_path)
    for owner, name in [
        *((os, name) for name in ("system", "popen", "remove", "symlink")),
        *((pickle, "loads"), (pickle, "load"), (builtins, "eval")),
    ]:
        monkeypatch.setattr(owner, name, forbidden)
    real = importlib.import_module

    def imported(name, *rest):
        # Parts of the packages that are at work, which they fetch when first needed.
        return (real if name.split(".")[0] in ("jax", "jaxlib", "recurrax") else forbidden)(
            name, *rest
        )

    monkeypatch.setattr(importlib, "import_module", imported)
    yield
    assert os.listdir(tmp_path) == []
