"""Running `layer.call`: masks filled in, inputs cast, masks handed on, activity loss added."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax.layers.context import entered
from recurrax.layers.mask import get_mask, set_mask
from recurrax.layers.signature import first, signature_of, splat


def run(layer: Any, arguments: dict[str, Any], training: bool) -> Any:
    """The outputs of `layer.call(**arguments)`."""
    arguments = dict(arguments)
    masks = _fill_masks(layer, arguments)
    if layer.autocast:
        arguments = _cast(arguments, layer.compute_dtype)
    with entered(layer, training):
        outputs = layer.call(**splat(layer, arguments))
    regularizer = layer.activity_regularizer
    if regularizer is not None:
        for output in jax.tree.leaves(outputs):
            layer.add_loss(regularizer(output) / output.shape[0])
    _mask_outputs(layer, first(arguments), outputs, masks)
    return outputs


def overrides(layer: Any, method: str) -> bool:
    """Whether a class between `Layer` and the layer's own defines `method`."""
    return getattr(type(layer), method).__module__ != "recurrax.layers.layer"


def _fill_masks(layer: Any, arguments: dict[str, Any]) -> Any:
    """Give `mask=` and `<name>_mask=` what travels with the tensors; returns the first's."""
    signature = signature_of(type(layer))
    inputs = first(arguments)
    attached = jax.tree.map(get_mask, inputs)
    has_mask = any(get_mask(leaf) is not None for leaf in jax.tree.leaves(inputs))
    if signature.takes_mask:
        if arguments.get("mask") is None and has_mask:
            arguments["mask"] = attached
        given = arguments.get("mask")
        if given is not None:
            return given
    for name in signature.names:
        of = name.removesuffix("_mask")
        if of != name and of in signature.names and arguments.get(name) is None:
            mask = jax.tree.map(get_mask, arguments.get(of))
            if jax.tree.leaves(mask):
                arguments[name] = mask
    return attached if has_mask else None


def _mask_outputs(layer: Any, inputs: Any, outputs: Any, masks: Any) -> None:
    overridden = overrides(layer, "compute_mask")
    if not layer.hands_masks_on:
        if masks is not None and jax.tree.leaves(masks):
            warnings.warn(
                f"Layer {layer.name!r} ({type(layer).__name__}) got an input with a mask, but does "
                "not support masking: layers after it do not see the mask. Set "
                "self.supports_masking = True in it to hand the mask on.",
                stacklevel=5,
            )
        return
    if masks is None and not overridden:
        return
    computed = layer.compute_mask(inputs, masks)
    if computed is None:
        return
    tensors = jax.tree.leaves(outputs)
    flat = jax.tree.leaves(computed, is_leaf=lambda m: m is None)
    for tensor, mask in zip(tensors, flat, strict=False):
        if mask is not None and get_mask(tensor) is None:
            set_mask(tensor, mask)


def _cast(arguments: dict[str, Any], dtype: str) -> dict[str, Any]:
    def cast(x: Any) -> Any:
        if isinstance(x, Array | np.ndarray) and jnp.issubdtype(x.dtype, jnp.floating):
            if x.dtype == dtype:
                return x
            mask, y = get_mask(x), jnp.asarray(x, dtype)
            set_mask(y, mask)
            return y
        return x

    return jax.tree.map(cast, arguments)
