"""A layer called on symbolic tensors: a node of a graph, and the shapes that come out."""

from typing import Any

import jax

from recurrax.layers.graph import Node, SymbolicTensor, is_symbolic, whole
from recurrax.layers.inference import infer
from recurrax.layers.mask import get_mask, set_mask
from recurrax.layers.running import overrides, run
from recurrax.layers.shapes import map_shapes
from recurrax.layers.signature import shape_arguments, signature_of, splat
from recurrax.variable import StatelessScope


def add_node(
    layer: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    arguments: dict[str, Any],
) -> Any:
    """The symbolic outputs of a built layer; the call is noted down as a node."""
    outputs = layer.compute_output_spec(**splat(layer, arguments))
    layer._nodes.append(Node(layer, args, kwargs, outputs))
    return outputs


def infer_outputs(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `layer(*args, **kwargs)` returns, as symbolic tensors."""
    if not overrides(layer, "compute_output_shape"):
        return trace_call(layer, args, kwargs)
    bound = dict(signature_of(type(layer)).signature.bind(*args, **kwargs).arguments)
    shapes = shape_arguments(layer.compute_output_shape, bound)
    return shapes_to_symbols(layer, layer.compute_output_shape(**shapes))


def has_own_shapes(layer: Any) -> bool:
    """Whether a class of a user's defines `compute_output_shape`."""
    return not type(layer).compute_output_shape.__module__.startswith("recurrax.")


def trace_call(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The outputs of `layer.call(*args, **kwargs)` by running it on shapes."""
    return trace_outputs(
        layer, dict(signature_of(type(layer)).signature.bind(*args, **kwargs).arguments)
    )


def trace_outputs(layer: Any, arguments: dict[str, Any]) -> Any:
    """The outputs of `layer.call` by running it on shapes."""
    leaves, treedef = jax.tree.flatten(list(arguments.values()), is_leaf=whole)
    masks = [get_mask(leaf) if is_symbolic(leaf) else None for leaf in leaves]

    def trace(leaves: list[Any], masks: list[Any]) -> Any:
        for tensor, mask in zip(leaves, masks, strict=True):
            if mask is not None:
                set_mask(tensor, mask)
        with StatelessScope():
            values = dict(zip(arguments, jax.tree.unflatten(treedef, leaves), strict=True))
            return run(layer, values, bool(arguments.get("training")))

    return infer(trace, [leaves, masks])


def shapes_to_symbols(layer: Any, shapes: Any) -> Any:
    """Symbolic tensors of these shapes, in the layer's compute dtype."""
    return map_shapes(lambda shape: SymbolicTensor(shape, layer.compute_dtype), shapes)


def symbols_to_shapes(tree: Any) -> Any:
    """The shapes of symbolic tensors."""
    return jax.tree.map(lambda tensor: tensor.shape, tree)
