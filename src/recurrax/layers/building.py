"""Making a layer's weights when it is first called."""

from typing import Any

import jax

from recurrax.layers.graph import SymbolicTensor
from recurrax.layers.mask import get_mask, set_mask
from recurrax.layers.running import overrides
from recurrax.layers.signature import first, shape_arguments
from recurrax.layers.symbolic import trace_outputs


def ensure_built(layer: Any, arguments: dict[str, Any], by_tracing: bool = True) -> None:
    """Make the weights of `layer`, and of the layers in it, for these arguments."""
    if layer.built:
        return
    if overrides(layer, "build") and not getattr(layer.build, "by_call", False):
        layer.build(**shape_arguments(layer.build, arguments))
    elif layer.sublayers and by_tracing:
        # Nothing says how the layers inside are fed: a call on shapes alone builds them.
        layer.built = True
        try:
            trace_outputs(layer, {k: _symbols(value) for k, value in arguments.items()})
        except BaseException:
            layer.built = False
            raise
    layer.built = True
    if getattr(layer.build, "by_call", False):
        # A file says by this how the model is to be built again.
        inputs, every = jax.tree.leaves(first(arguments)), jax.tree.leaves(arguments)
        if inputs and len(inputs) == sum(hasattr(leaf, "shape") for leaf in every):
            shapes = jax.tree.map(lambda leaf: tuple(leaf.shape), first(arguments))
            layer._build_shapes = {"input_shape": shapes}


def _symbols(tree: Any) -> Any:
    def symbol(x: Any) -> Any:
        if not hasattr(x, "shape"):
            return x
        tensor, mask = SymbolicTensor(x.shape, x.dtype), get_mask(x)
        if mask is not None:
            set_mask(tensor, SymbolicTensor(mask.shape, mask.dtype))
        return tensor

    return jax.tree.map(symbol, tree)
