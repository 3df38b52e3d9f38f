"""Shapes without values: what a function returns for inputs some of whose sizes are unknown."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from recurrax.layers.graph import SymbolicTensor, is_symbolic
from recurrax.variable import Variable

# Two primes that no real size is likely to be: where the outputs of two runs differ, the size
# follows the unknown ones.
_STAND_INS = (83, 89)


def infer(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Run `function(*arguments)` on shapes alone.

    Args:
        function: traceable by JAX.
        arguments: any structures; symbolic tensors are replaced by shapes.

    Returns:
        The structure that `function` returns, of symbolic tensors.
    """
    leaves, treedef = jax.tree.flatten(list(arguments), is_leaf=lambda x: isinstance(x, Variable))
    symbolic = [leaf for leaf in leaves if is_symbolic(leaf)]
    unknown = any(None in tensor.shape for tensor in symbolic)

    def run(size: int) -> Any:
        def call(traced: list[Any]) -> Any:
            values = iter(traced)
            filled = [next(values) if is_symbolic(leaf) else leaf for leaf in leaves]
            return function(*jax.tree.unflatten(treedef, filled))

        return jax.eval_shape(call, [_struct(tensor, size) for tensor in symbolic])

    first = run(_STAND_INS[0])
    if not unknown:
        return jax.tree.map(lambda x: SymbolicTensor(x.shape, x.dtype), first)
    second = run(_STAND_INS[1])

    def merge(a: Any, b: Any) -> SymbolicTensor:
        shape = [m if m == n else None for m, n in zip(a.shape, b.shape, strict=True)]
        return SymbolicTensor(shape, a.dtype)

    return jax.tree.map(merge, first, second)


def _struct(tensor: SymbolicTensor, size: int) -> jax.ShapeDtypeStruct:
    shape = tuple(size if axis is None else axis for axis in tensor.shape)
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(tensor.dtype))
