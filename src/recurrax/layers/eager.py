"""A layer called on arrays, compiled as a whole."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from recurrax.layers import context
from recurrax.layers.mask import get_mask, set_mask
from recurrax.layers.running import run
from recurrax.variable import StatelessScope


def compiles(layer: Any) -> bool:
    """Whether a call of `layer` on arrays is compiled as a whole.

    The layers of this package are. A layer whose `call` is the user's runs as it is written, line
    by line, so that one can print and look at values; the layers in it are compiled.
    """
    if layer.compiles is not None:
        return layer.compiles
    ours = type(layer).call.__module__.startswith("recurrax.")
    return ours and all(compiles(child) for child in layer.sublayers)


class _Static(NamedTuple):
    """What of a call is compiled in: its structure, its plain values, the layers' settings."""

    names: tuple[str, ...]
    treedef: Any
    plain: tuple[Hashable, ...]
    training: bool
    settings: int


_TRACED = object()


def call_compiled(layer: Any, arguments: dict[str, Any], training: bool) -> Any:
    """The outputs of a built layer for these arrays."""
    leaves, treedef = jax.tree.flatten(list(arguments.values()))
    dynamic = [leaf for leaf in leaves if _is_data(leaf)]
    plain = tuple(_TRACED if _is_data(leaf) else leaf for leaf in leaves)
    static = _Static(tuple(arguments), treedef, plain, training, context.settings())
    try:
        hash(static)
    except TypeError:  # an argument that cannot be compiled in
        return run(layer, arguments, training)
    masks = [get_mask(leaf) for leaf in leaves if _is_data(leaf)]
    variables = layer.variables
    compiled = layer.__dict__.get("_compiled")
    if compiled is None:
        compiled = layer.__dict__["_compiled"] = _compile(layer)
    outputs, out_masks, updates, losses = compiled(
        static, [v._value for v in variables], dynamic, masks
    )
    for index, value in updates.items():
        variables[index].replace(value)
    layer._losses.extend(losses)
    for output, mask in zip(jax.tree.leaves(outputs), out_masks, strict=True):
        if mask is not None:
            set_mask(output, mask)
    return outputs


def _compile(layer: Any) -> Callable[..., Any]:
    def traced(static: _Static, values: list[Any], dynamic: list[Any], masks: list[Any]) -> Any:
        data = iter(dynamic)
        leaves = [next(data) if leaf is _TRACED else leaf for leaf in static.plain]
        for leaf, mask in zip(dynamic, masks, strict=True):
            set_mask(leaf, mask)
        values_by_name = jax.tree.unflatten(static.treedef, leaves)
        arguments = dict(zip(static.names, values_by_name, strict=True))
        variables = layer.variables
        with StatelessScope(zip(variables, values, strict=True)) as scope:
            outputs = run(layer, arguments, static.training)
        new = [scope.get_current_value(v) for v in variables]
        updates = {i: n for i, (n, v) in enumerate(zip(new, values, strict=True)) if n is not v}
        out_masks = [get_mask(leaf) for leaf in jax.tree.leaves(outputs)]
        return outputs, out_masks, updates, scope.losses

    return jax.jit(traced, static_argnums=0)


def _is_data(x: Any) -> bool:
    return isinstance(x, Array | np.ndarray | np.generic)
