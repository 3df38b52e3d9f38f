"""Floating-point arrays in another precision; integers and booleans stay what they are."""

from typing import Any

import jax
import jax.numpy as jnp

from recurrax.layers.graph import SymbolicTensor, is_symbolic


def cast_floating(tree: Any, dtype: Any) -> Any:
    """The structure with its floating-point arrays, or symbolic tensors, in `dtype`."""

    def cast(x: Any) -> Any:
        if x.dtype == dtype or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return SymbolicTensor(x.shape, dtype) if is_symbolic(x) else x.astype(dtype)

    return jax.tree.map(cast, tree)
