"""Between a model's variables and a `Store`: all weights are taken over, or none."""

import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from recurrax.layers import Layer
from recurrax.saving.errors import LoadError
from recurrax.saving.store import OwnVariables, Store
from recurrax.saving.tree import Node, walk

_OPTIMIZER = "optimizer"


def collect(root: Any, with_optimizer: bool = True) -> Store:
    """Copies of everything that a file of `root` holds."""
    store = Store()
    for node in nodes_of(root, with_optimizer):
        own = OwnVariables()
        owner = node.owner
        if _of_optimizer(node.path) and not owner.built:
            # Keras expects the state of one that is built. This one stays free to be built later.
            owner = type(owner).from_config(owner.get_config())
            owner.build(root.trainable_variables)
        save = getattr(owner, "save_own_variables", None)
        if save is None:
            own.update({str(i): v.numpy() for i, v in enumerate(node.variables)})
        else:
            save(own)
        store.arrays[node.path] = dict(own)
        if node.name:
            store.names[node.path] = node.name
    return store


def nodes_of(root: Any, with_optimizer: bool = True) -> list[Node]:
    """The nodes of `root`; without those of its optimizer if so wished."""
    return [n for n in walk(root) if with_optimizer or not _of_optimizer(n.path)]


def fill(root: Any, store: Store, with_optimizer: bool = True, skip_mismatch: bool = False) -> None:
    """Give the variables of `root` the values in `store`.

    Args:
        root: the model.
        store: what was read.
        with_optimizer: whether the optimizer's state is asked for.
        skip_mismatch: leave layers alone whose weights are missing or differ, with a warning.

    Raises:
        LoadError: weights are missing or surplus, or differ in shape or kind; nothing was changed.
    """
    fill_nodes(nodes_of(root, with_optimizer), store, skip_mismatch)


def fill_nodes(nodes: list[Node], store: Store, skip_mismatch: bool = False) -> None:
    """Give the variables of `nodes` the values in `store`; see `fill`."""
    assignments: list[Callable[[], Any]] = []
    problems = _surplus(nodes, store)
    for node in nodes:
        arrays = store.at(node.path)
        if not arrays and not node.required:
            continue
        problem, assign = _planned(node, arrays)
        if problem:
            problems.append(problem)
        else:
            assignments.append(assign)
    report(problems, skip_mismatch)
    all_or_none([v for node in nodes for v in node.variables], assignments)


def all_or_none(variables: list[Any], assignments: list[Callable[[], Any]]) -> None:
    """Run `assignments`; where one fails, `variables` get their old values back."""
    before = [variable.value for variable in variables]
    try:
        for assign in assignments:
            assign()
    except Exception:
        for variable, value in zip(variables, before, strict=True):
            variable.replace(value)
        raise


def report(problems: list[str], skip_mismatch: bool) -> None:
    """Raise LoadError for `problems`, or warn of them."""
    if not problems:
        return
    text = " ".join(problems[:10]) + (f" And {len(problems) - 10} more." if problems[10:] else "")
    if not skip_mismatch:
        raise LoadError(f"The weights do not fit the model, and nothing was changed. {text}")
    warnings.warn(f"Weights that do not fit the model were left out. {text}", stacklevel=4)


def _planned(node: Node, arrays: dict[str, np.ndarray]) -> tuple[str, Callable[[], Any]]:
    """What is wrong with the arrays for a node, or what gives it them."""
    load = getattr(node.owner, "load_own_variables", None)
    if load is not None and _is_custom(node.owner, load):
        return "", lambda: _load_custom(node, load, arrays)
    variables = node.variables
    if _of_optimizer(node.path) and len(arrays) < len(variables):
        # Saved before its first step, an optimizer has only its counter and learning rate.
        variables = [v for v in variables[: len(arrays)] if v.shape == ()]
    problem = mismatch(node, variables, arrays)
    if problem:
        return problem, lambda: None
    return "", lambda: [v.assign(arrays[str(i)]) for i, v in enumerate(variables)]


def _load_custom(node: Node, load: Callable[[Any], Any], arrays: dict[str, np.ndarray]) -> None:
    try:
        load(OwnVariables(arrays))
    except Exception as error:
        raise LoadError(
            f"{type(node.owner).__name__}.load_own_variables() of {node.name!r} failed: {error}"
        ) from error


def _is_custom(owner: Any, load: Callable[[Any], Any]) -> bool:
    module = getattr(load, "__module__", "") or ""
    return not module.startswith("recurrax.")


def mismatch(node: Node, variables: list[Any], arrays: dict[str, np.ndarray]) -> str:
    """Why the arrays cannot be the values of a node's variables; empty where they can."""
    where = f"{type(node.owner).__name__} {node.name!r} ({node.path or 'the model'})"
    if set(arrays) != {str(i) for i in range(len(variables))}:
        hint = _hint(node.owner, variables)
        return (
            f"{where} has {len(variables)} weights "
            f"{[f'{v.name} {v.shape}' for v in variables[:8]]}, but the file has {len(arrays)} "
            f"for it.{hint}"
        )
    for number, variable in enumerate(variables):
        array = arrays[str(number)]
        if array.shape != variable.shape:
            return (
                f"Weight {variable.name!r} of {where} has shape {variable.shape}, but that in the "
                f"file has shape {array.shape}."
            )
        if _kind(array.dtype) != _kind(variable.dtype):
            return (
                f"Weight {variable.name!r} of {where} has dtype {variable.dtype}, but that in the "
                f"file has dtype {array.dtype}."
            )
    return ""


def _hint(owner: Any, variables: list[Any]) -> str:
    if not isinstance(owner, Layer):
        return " Load the model with compile=False to begin with a new optimizer."
    if variables or owner.built:
        return ""
    return " It has not been built: call the model on data first."


def _kind(dtype: Any) -> str:
    if jnp.issubdtype(dtype, jnp.floating):
        return "f"
    return "i" if dtype.kind == "u" else dtype.kind


def _surplus(nodes: list[Node], store: Store) -> list[str]:
    paths = {node.path for node in nodes}
    paths |= {path.replace("layers", "_layer_checkpoint_dependencies") for path in paths}
    left = [
        path
        for path, arrays in store.arrays.items()
        if arrays and path not in paths and not _ignored(path)
    ]
    if not left:
        return []
    more = " and more" if left[5:] else ""
    return [f"The file has weights for {left[:5]}{more}, which the model does not have."]


def _ignored(path: str) -> bool:
    """What a model need not have: an optimizer, and seeds, which some versions of Keras wrote."""
    return _of_optimizer(path) or "seed_generator" in path.rpartition("/")[2]


def _of_optimizer(path: str) -> bool:
    return path == _OPTIMIZER or path.startswith(f"{_OPTIMIZER}/")
