"""recurrax: the Keras recurrent API on JAX, where the loop is a compiler.

`import recurrax` loads the loop. What else `recurrax.api` names is loaded when it is asked for.

Threads may ask at once: Python's locks, one a module, do. For that, packages import each other in
one direction, and a package whole (`from recurrax.layers import Layer`) before a module of it
(`from recurrax.layers.graph import Node`): two threads in one package would wait for each other.
"""

import importlib
from typing import TYPE_CHECKING, Any

from recurrax.loop import Explanation as Explanation
from recurrax.loop import explain as explain
from recurrax.loop import scan as scan
from recurrax.memory import tune_memory as tune_memory

if TYPE_CHECKING:
    from recurrax.api import *  # noqa: F403

__version__ = "0.1.0"

_LOOP = ["Explanation", "explain", "scan", "tune_memory"]


def __getattr__(name: str) -> Any:
    """A module, or a name of `recurrax.api`; and `__all__`, of which both are a part."""
    if name == "__all__":
        return __dir__()
    if name.startswith("_"):
        raise AttributeError(f"module 'recurrax' has no attribute {name!r}")
    try:  # modules first: they may be on their way, on behalf of `api`
        return importlib.import_module(f"recurrax.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"recurrax.{name}":
            raise
    api = importlib.import_module("recurrax.api")
    try:
        globals()[name] = value = vars(api)[name]
    except KeyError:
        raise AttributeError(f"module 'recurrax' has no attribute {name!r}") from None
    return value


def __dir__() -> list[str]:
    api = importlib.import_module("recurrax.api")
    return sorted([*_LOOP, *(name for name in vars(api) if not name.startswith("_"))])
