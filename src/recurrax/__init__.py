"""recurrax: the Keras recurrent API on JAX, where the loop is a compiler.

`import recurrax` loads the loop. What else `recurrax.api` names is loaded when it is asked for.
"""

import importlib
import threading
from typing import TYPE_CHECKING, Any

from recurrax.loop import Explanation as Explanation
from recurrax.loop import explain as explain
from recurrax.loop import scan as scan
from recurrax.memory import tune_memory as tune_memory

if TYPE_CHECKING:
    from recurrax.api import *  # noqa: F403

__version__ = "0.1.0"

_LOOP = ["Explanation", "explain", "scan", "tune_memory"]
# One thread at a time: two that import modules which need each other would see unfinished ones.
_loading = threading.RLock()
_PATIENCE = 10  # seconds: a thread that imports such a module itself may hold what the other needs


def __getattr__(name: str) -> Any:
    """A module, or a name of `recurrax.api`; and `__all__`, of which both are a part."""
    if name == "__all__":
        return __dir__()
    if name.startswith("_"):
        raise AttributeError(f"module 'recurrax' has no attribute {name!r}")
    is_alone = _loading.acquire(timeout=_PATIENCE)
    try:
        return _loaded(name)
    finally:
        if is_alone:
            _loading.release()


def _loaded(name: str) -> Any:
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
