"""The table of classes that a configuration may name, and how objects become configurations.

A configuration names a class by Keras's module and class name, or by the name under which the
caller registered it. Nothing outside this table is ever looked up: no module is imported, no
attribute is fetched by a name that a file gives.
"""

import contextlib
import difflib
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeGuard, TypeVar

import jax.numpy as jnp
import numpy as np

from recurrax.sharing import Reading, Writing

T = TypeVar("T")

_builtin: dict[tuple[str, str], type] = {}
_builtin_functions: dict[str, Any] = {}
_registered: dict[str, Any] = {}
_names: dict[Any, str] = {}


class _Scope(threading.local):
    objects: Mapping[str, Any] = {}
    saving: Writing | None = None
    loading: Reading | None = None


_scope = _Scope()


def serializable(module: str, *aliases: str) -> Callable[[type[T]], type[T]]:
    """Enter a class of ours under Keras's module, such as `keras.layers`, and its own name."""

    def enter(cls: type[T]) -> type[T]:
        for name in (cls.__name__, *aliases):
            _builtin[module, name] = cls
        cls.keras_module = module  # pyright: ignore[reportAttributeAccessIssue]
        return cls

    return enter


def enter_functions(functions: Mapping[str, Any]) -> None:
    """Let files name these functions of ours; the first of a name stays."""
    _builtin_functions.update({**functions, **_builtin_functions})


def builtin_classes(module: str) -> dict[str, type]:
    """Our classes of one of Keras's modules, by name."""
    return {name: cls for (where, name), cls in _builtin.items() if where == module}


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[Any], Any]:
    """Register a class or function of yours under `package>name`, so that files may name it.

    Raises:
        ValueError: a class without `get_config`.
    """

    def register(thing: Any) -> Any:
        registered_name = f"{package}>{name or thing.__name__}"
        if isinstance(thing, type) and not hasattr(thing, "get_config"):
            raise ValueError(
                f"Cannot register {thing.__name__}: it has no get_config(). Define get_config() "
                "to return the arguments of its __init__."
            )
        _registered[registered_name] = thing
        _names[thing] = registered_name
        return thing

    return register


def get_registered_name(thing: Any) -> str:
    """The name under which `thing` was registered, or its own."""
    return _names.get(thing) or str(thing.__name__)


def get_registered_object(name: str, custom_objects: Mapping[str, Any] | None = None) -> Any | None:
    """What the caller registered under `name`, or None."""
    for table in (custom_objects or {}, _scope.objects, _registered):
        if name in table:
            return table[name]
    return None


def get_custom_objects() -> dict[str, Any]:
    """The table of everything registered; it may be changed in place."""
    return _registered


@contextlib.contextmanager
def custom_object_scope(objects: Mapping[str, Any]) -> Iterator[None]:
    """Inside, configurations may also name the classes and functions in `objects`."""
    outer = _scope.objects
    _scope.objects = {**outer, **objects}
    try:
        yield
    finally:
        _scope.objects = outer


CustomObjectScope = custom_object_scope


def serialize_with_sharing(thing: Any, compiled: bool = True) -> Any:
    """`serialize(thing)`, where an object that stands in several places is marked as the same.

    Args:
        thing: the object.
        compiled: whether to write what models were compiled with.
    """
    outer, _scope.saving = _scope.saving, Writing(compiled)
    try:
        return _scope.saving.without_single(serialize(thing))
    finally:
        _scope.saving = outer


def count_made() -> None:
    """Count one more thing that a configuration makes, such as a call of a layer.

    Raises:
        ValueError: they are more than the enclosing `loading_scope` allows.
    """
    if _scope.loading is not None:
        _scope.loading.count()


@contextlib.contextmanager
def loading_scope(objects: int) -> Iterator[None]:
    """Inside, what `deserialize` is given comes from a file.

    Objects marked as the same are made once, a configuration that makes more than `objects`
    objects is refused, and so is code.
    """
    outer, _scope.loading = _scope.loading, Reading(objects)
    try:
        yield
    finally:
        _scope.loading = outer


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` where a known name is near, else the empty string."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not in a table."""
    known = sorted(set(known))
    return ValueError(
        f"Unknown {kind} {name!r}.{nearest(name, known)} Known: {', '.join(known)}. One of your "
        "own is passed as the object itself, or made known with `custom_object_scope`."
    )


def serialize(thing: Any) -> Any:
    """`thing` as JSON-compatible data, in Keras 3's format."""
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, np.generic):
        return thing.item()
    if isinstance(thing, list):
        return [serialize(item) for item in thing]
    if isinstance(thing, tuple):
        return tuple(serialize(item) for item in thing)
    if isinstance(thing, Mapping):
        return {key: serialize(value) for key, value in thing.items()}
    if isinstance(thing, np.dtype) or (isinstance(thing, type) and issubclass(thing, np.generic)):
        return np.dtype(thing).name
    if isinstance(thing, np.ndarray | jnp.ndarray):
        array = np.asarray(thing)
        return {
            "class_name": "__numpy__",
            "config": {"value": array.tolist(), "dtype": array.dtype.name},
        }
    if thing is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(thing, slice):
        return {
            "class_name": "__slice__",
            "config": {"start": thing.start, "stop": thing.stop, "step": thing.step},
        }
    if hasattr(thing, "serialize_config"):
        return thing.serialize_config()
    if hasattr(thing, "get_config"):
        return _serialize_object(thing)
    if callable(thing) and hasattr(thing, "__name__"):
        if thing.__name__ == "<lambda>":
            raise ValueError(
                "A lambda cannot be saved, since loading a file runs nobody's code: define a named "
                "function and register it with @register_keras_serializable()."
            )
        return {
            "module": "builtins",
            "class_name": "function",
            "config": thing.__name__,
            "registered_name": get_registered_name(thing),
        }
    raise ValueError(
        f"Cannot serialize {thing!r} of type {type(thing).__name__}: give the class get_config() "
        "and register it with @register_keras_serializable()."
    )


def _serialize_object(thing: Any) -> dict[str, Any]:
    cls = type(thing)
    builtin = _builtin.get((getattr(cls, "keras_module", ""), cls.__name__)) is cls
    record = {
        "module": cls.keras_module if builtin else None,
        "class_name": cls.__name__,
        "config": serialize(thing.get_config()),
        "registered_name": None if builtin else get_registered_name(cls),
    }
    if getattr(thing, "built", False) and hasattr(thing, "get_build_config"):
        build_config = thing.get_build_config()
        if build_config is not None:
            record["build_config"] = serialize(build_config)
    if hasattr(thing, "get_compile_config") and (_scope.saving is None or _scope.saving.compiled):
        compile_config = thing.get_compile_config()
        if compile_config is not None:
            record["compile_config"] = serialize(compile_config)
    return record if _scope.saving is None else _scope.saving.mark(thing, record)


def find_class(record: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The class or function that a serialized object names.

    Raises:
        ValueError: the name is in no table; says how to make it known.
    """
    class_name, registered_name = record.get("class_name"), record.get("registered_name")
    if class_name == "function":
        name = record.get("config")
        found = get_registered_object(str(registered_name or name), custom_objects)
        found = found or get_registered_object(str(name), custom_objects)
        if found is None and registered_name in ("function", name):
            found = _builtin_functions.get(str(name))
        if found is None:
            raise ValueError(
                f"The configuration names a function {name!r} that is not known here: pass "
                f"custom_objects={{{str(name)!r}: the_function}}."
            )
        return found
    for name in (registered_name, class_name):
        if isinstance(name, str):
            found = get_registered_object(name, custom_objects)
            if found is not None:
                return found
    module = record.get("module")
    if isinstance(module, str) and isinstance(class_name, str):
        found = _builtin.get((module, class_name))
        if found is None and (module.startswith("keras.") or module == "keras"):
            # Keras files name both public modules and, in places, deep private ones.
            family = [c for (m, n), c in _builtin.items() if n == class_name and _same(m, module)]
            found = family[0] if family else None
        if found is not None:
            return found
    raise ValueError(
        f"The configuration names a class {class_name!r} (module {module!r}, registered as "
        f"{registered_name!r}) that is not known here.{nearest(str(class_name), _all_names())} "
        f"Pass custom_objects={{{str(class_name)!r}: TheClass}}, or decorate it with "
        "@register_keras_serializable()."
    )


def _same(ours: str, theirs: str) -> bool:
    """Whether two modules of Keras are of one family, such as `keras.losses` and
    `keras.src.losses.losses`; `keras` itself is of every family.
    """
    ours, theirs = (m.removeprefix("keras.").removeprefix("src.") for m in (ours, theirs))
    return theirs == "keras" or theirs.split(".")[0] == ours.split(".")[0]


def _all_names() -> list[str]:
    return [name for _, name in _builtin] + list(_registered)


def is_record(data: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether `data` is a serialized object, not a plain dictionary."""
    return isinstance(data, Mapping) and "class_name" in data and "config" in data


def deserialize(data: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """What `serialize` turned into data, again.

    Raises:
        ValueError: a class or function that is not known here, or code.
    """
    if isinstance(data, list | tuple):
        return type(data)(deserialize(item, custom_objects) for item in data)
    if not isinstance(data, Mapping):
        return data
    name = data.get("class_name")
    if not is_record(data):
        return {key: deserialize(value, custom_objects) for key, value in data.items()}
    config = data["config"]
    if name in ("__numpy__", "__tensor__"):
        return _array(config)
    if name == "__ellipsis__":
        return Ellipsis
    if name == "__slice__":
        return slice(config["start"], config["stop"], config["step"])
    if name == "__keras_tensor__":
        raise ValueError("A symbolic tensor can stand only inside a functional model.")
    if name == "__lambda__" or (name == "Lambda" and _scope.loading is not None):
        raise ValueError(
            "The configuration holds code (a Lambda layer or a lambda), which is never run: write "
            "the function as a subclass of Layer with @register_keras_serializable(), and save the "
            "model again."
        )
    loading = _scope.loading
    if loading is None:
        return _make(data, custom_objects)
    loading.count()
    number = data.get("shared_object_id")
    if not isinstance(number, int):
        return _make(data, custom_objects)
    if number not in loading.shared:
        loading.shared[number] = (_make(data, custom_objects), name)
    thing, known_as = loading.shared[number]
    if known_as != name:
        raise ValueError(f"The configuration says that a {name!r} is the same as a {known_as!r}.")
    return thing


def _make(data: Mapping[str, Any], custom_objects: Mapping[str, Any] | None) -> Any:
    found = find_class(data, custom_objects)
    if data["class_name"] == "function" or not isinstance(found, type):
        return found
    config = data["config"]
    if not isinstance(config, Mapping):
        raise ValueError(
            f"The configuration of {data['class_name']!r} must be a dictionary, but it is "
            f"{config!r:.80}."
        )
    if found.__dict__.get("keras_module"):
        config = _without_idle_settings(found, config)
    with custom_object_scope(custom_objects or {}):
        make = getattr(found, "from_config", None)
        thing = make(dict(config)) if make else found(**config)
        build_config = data.get("build_config")
        if build_config and not getattr(thing, "built", True):
            build = getattr(thing, "build_from_config", None)
            if build:
                build(deserialize(build_config))
    return thing


def _without_idle_settings(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` without what Keras names, we do not have, and is not set (None or False)."""
    known = _arguments(cls)
    return {k: v for k, v in config.items() if k in known or not (v is None or v is False)}


@functools.cache
def _arguments(cls: type) -> frozenset[str]:
    makers = [base.__dict__["__init__"] for base in cls.__mro__ if "__init__" in base.__dict__]
    makers.append(cls)  # whose signature may say more than its __init__
    return frozenset(name for make in makers for name in inspect.signature(make).parameters)


# Others would be read as objects, as code, or as arrays of a size that the text does not show.
_ARRAY_DTYPES = frozenset(
    ["bool", "float16", "bfloat16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)


def _array(config: Any) -> Any:
    dtype = config.get("dtype") if isinstance(config, Mapping) else None
    if not isinstance(dtype, str) or dtype not in _ARRAY_DTYPES:
        raise ValueError(f"The configuration holds an array of unknown dtype {dtype!r:.80}.")
    return np.array(config["value"], dtype=jnp.dtype(dtype))
