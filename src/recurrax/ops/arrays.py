"""Making, shaping, cutting, joining and reducing arrays."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recurrax.ops.dispatch import binary, in_order, op


def _shape(x: Any) -> tuple[int | None, ...]:
    """The shape, a tuple of integers."""
    return tuple(jnp.shape(x))


def _cast(x: Any, dtype: Any) -> Array:
    """`x` in another dtype."""
    return jnp.asarray(x).astype(jnp.bool_ if dtype == "bool" else dtype)


def _convert_to_tensor(x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> Array:
    """`x` as a JAX array; Python floats become float32."""
    del sparse, ragged
    return jnp.asarray(x, dtype=dtype)


def convert_to_numpy(x: Any) -> np.ndarray:
    """`x` as a NumPy array on the host; waits for the device."""
    return np.asarray(x)


def is_tensor(x: Any) -> bool:
    """Whether `x` is a JAX array (also while it is traced)."""
    return isinstance(x, Array)


def _slice(inputs: Any, start_indices: Any, shape: Sequence[int]) -> Array:
    """The block of `inputs` of shape `shape` that begins at `start_indices`."""
    return lax.dynamic_slice(inputs, tuple(jnp.asarray(start_indices)), shape)


def _slice_update(inputs: Any, start_indices: Any, updates: Any) -> Array:
    """`inputs` with the block that begins at `start_indices` replaced by `updates`."""
    return lax.dynamic_update_slice(inputs, updates, tuple(jnp.asarray(start_indices)))


def _index(indices: Any) -> tuple[Array, ...]:
    indices = jnp.asarray(indices)
    return tuple(indices[..., i] for i in range(indices.shape[-1]))


def _scatter(indices: Any, values: Any, shape: Sequence[int]) -> Array:
    """Zeros of shape `shape` with `values` added at `indices` (..., rank)."""
    values = jnp.asarray(values)
    return jnp.zeros(tuple(shape), values.dtype).at[_index(indices)].add(values)


def _scatter_update(inputs: Any, indices: Any, updates: Any) -> Array:
    """`inputs` with `updates` written at `indices` (..., rank)."""
    return jnp.asarray(inputs).at[_index(indices)].set(updates)


def _unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Array]:
    """The arrays along `axis`, as a list."""
    x = jnp.asarray(x)
    if num is not None and num != x.shape[axis]:
        raise ValueError(f"num={num}, but axis {axis} of shape {x.shape} holds {x.shape[axis]}.")
    return [jnp.squeeze(part, axis) for part in jnp.split(x, x.shape[axis], axis)]


def _split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Parts of `x` along `axis`: so many of equal size, or cut at the given indices."""
    return list(jnp.split(x, indices_or_sections, axis))


def _broadcast_to(x: Any, shape: Sequence[int]) -> Array:
    """`x` repeated to `shape`."""
    return jnp.broadcast_to(x, tuple(shape))


def _reshape(x: Any, newshape: int | Sequence[int]) -> Array:
    """`x` in another shape; -1 stands for what is left."""
    return jnp.reshape(x, newshape)


def _pad(
    x: Any, pad_width: Any, mode: str = "constant", constant_values: float | None = None
) -> Array:
    """`x` padded; `pad_width` gives (before, after) for each axis."""
    if constant_values is None:
        return jnp.pad(x, pad_width, mode=mode)
    return jnp.pad(x, pad_width, mode=mode, constant_values=constant_values)


def _top_k(x: Any, k: int, sorted: bool = True) -> tuple[Array, Array]:
    """The `k` largest along the last axis, and their indices."""
    del sorted
    return tuple(lax.top_k(x, k))  # pyright: ignore[reportReturnType]


def _in_top_k(targets: Any, predictions: Any, k: int) -> Array:
    """Whether the target class (batch,) is among the `k` best predictions (batch, classes)."""
    predictions = jnp.asarray(predictions)
    score = jnp.take_along_axis(predictions, jnp.asarray(targets)[..., None], axis=-1)
    better = jnp.sum(predictions > score, axis=-1)
    return (better < k) & jnp.isfinite(score[..., 0])


def _segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None, **_: Any) -> Array:
    """Sums of the rows of `data` that have the same segment id."""
    return jax.ops.segment_sum(data, segment_ids, num_segments)


def _segment_max(data: Any, segment_ids: Any, num_segments: int | None = None, **_: Any) -> Array:
    """Maxima of the rows of `data` that have the same segment id."""
    return jax.ops.segment_max(data, segment_ids, num_segments)


def _take(x: Any, indices: Any, axis: int | None = None) -> Array:
    """The entries of `x` at `indices` along `axis`."""
    return jnp.take(x, jnp.asarray(indices), axis=axis)


def _take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Array:
    """The entry of `x` along `axis` that `indices` names at each place."""
    return jnp.take_along_axis(x, indices, axis=axis)


def _full(shape: Any, fill_value: Any, dtype: Any = None) -> Array:
    """An array of `fill_value`, float32 where no dtype is given."""
    return jnp.full(shape, fill_value, dtype or "float32")


def _reduction(function: Any, *further: str) -> Any:
    return in_order(function, "axis", "keepdims", *further)


def _size(x: Any) -> int:
    """How many elements `x` has."""
    return jnp.size(x)


def _ndim(x: Any) -> int:
    """How many axes `x` has."""
    return jnp.ndim(x)


all = op(_reduction(jnp.all))
amax = op(_reduction(jnp.max))
amin = op(_reduction(jnp.min))
any = op(_reduction(jnp.any))
append = binary(jnp.append)
arange = op(jnp.arange, tensors=0)
argmax = op(_reduction(jnp.argmax))
argmin = op(_reduction(jnp.argmin))
argsort = op(jnp.argsort)
array = convert_to_tensor = op(_convert_to_tensor)
average = op(jnp.average)
bincount = op(jnp.bincount)
broadcast_to = op(_broadcast_to)
cast = op(_cast)
concatenate = op(jnp.concatenate, tensors=0)
copy = op(jnp.copy)
count_nonzero = op(jnp.count_nonzero)
cumprod = op(jnp.cumprod)
cumsum = op(jnp.cumsum)
diag = op(jnp.diag)
diagonal = op(jnp.diagonal)
diff = op(jnp.diff)
digitize = binary(jnp.digitize)
empty = op(jnp.empty, tensors=0)
expand_dims = op(jnp.expand_dims)
eye = op(jnp.eye, tensors=0)
flip = op(jnp.flip)
full = op(_full, tensors=0)
full_like = op(jnp.full_like)
get_item = op(lambda x, key: x[key])
hstack = op(jnp.hstack, tensors=0)
identity = op(jnp.identity, tensors=0)
in_top_k = binary(_in_top_k)
isin = binary(jnp.isin)
linspace = op(jnp.linspace, tensors=2)
logspace = op(jnp.logspace, tensors=2)
max = op(_reduction(jnp.max, "initial"))
mean = op(_reduction(jnp.mean))
median = op(_reduction(jnp.median))
meshgrid = op(jnp.meshgrid, tensors=0)
min = op(_reduction(jnp.min, "initial"))
moveaxis = op(jnp.moveaxis)
ndim = op(_ndim)
nonzero = op(jnp.nonzero)
ones = op(jnp.ones, tensors=0)
ones_like = op(jnp.ones_like)
pad = op(_pad)
prod = op(_reduction(jnp.prod, "dtype"))
quantile = binary(in_order(jnp.quantile, "q", "axis", "method", "keepdims"))
ravel = op(jnp.ravel)
repeat = op(jnp.repeat)
reshape = op(_reshape)
roll = op(jnp.roll)
scatter = binary(_scatter)
scatter_update = op(_scatter_update, tensors=3)
searchsorted = binary(jnp.searchsorted)
segment_max = binary(_segment_max)
segment_sum = binary(_segment_sum)
shape = op(_shape)
size = op(_size)
slice = op(_slice)
slice_update = op(_slice_update, tensors=3)
sort = op(jnp.sort)
split = op(_split)
squeeze = op(jnp.squeeze)
stack = op(jnp.stack, tensors=0)
std = op(_reduction(jnp.std))
sum = op(_reduction(jnp.sum))
swapaxes = op(jnp.swapaxes)
take = op(_take)
take_along_axis = binary(_take_along_axis)
tile = op(jnp.tile)
top_k = op(_top_k)
transpose = op(jnp.transpose)
tri = op(jnp.tri, tensors=0)
tril = op(jnp.tril)
triu = op(jnp.triu)
unstack = op(_unstack)
var = op(_reduction(jnp.var))
vstack = op(jnp.vstack, tensors=0)
zeros = op(jnp.zeros, tensors=0)
zeros_like = op(jnp.zeros_like)
