"""What a layer expects of its input, checked before anything is compiled."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp


class InputSpec:
    """Rank, shape and dtype that a layer expects of one input.

    Args:
        dtype: expected dtype.
        shape: expected shape, None where anything goes.
        ndim, min_ndim, max_ndim: expected number of axes.
        axes: expected size of some axes, by index.
        allow_last_axis_squeeze: a missing or superfluous last axis of size 1 is fine.
        axis_names: names of the axes, for messages.
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
        axis_names: Sequence[str] | None = None,
    ) -> None:
        self.dtype = None if dtype is None else jnp.dtype(dtype).name
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(shape) if shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.name, self.optional = name, optional
        self.axis_names = axis_names

    def _expected(self) -> str:
        names = f" ({', '.join(self.axis_names)})" if self.axis_names else ""
        return f"{self.ndim} axes{names}"

    def check(self, shape: tuple[int | None, ...], dtype: Any, layer_name: str) -> None:
        """Raise ValueError where an input of this shape and dtype does not fit."""
        head = f"Layer {layer_name!r} expected an input of "
        came = f", but got shape {shape}."
        rank = len(shape)
        if self.ndim is not None and rank != self.ndim and not self._squeezes(shape):
            raise ValueError(head + self._expected() + came + _mend(rank, self.ndim))
        if self.min_ndim is not None and rank < self.min_ndim:
            raise ValueError(f"{head}at least {self.min_ndim} axes{came}" + _mend(rank, rank + 1))
        if self.max_ndim is not None and rank > self.max_ndim:
            raise ValueError(f"{head}at most {self.max_ndim} axes{came}" + _mend(rank, rank - 1))
        if self.dtype is not None and jnp.dtype(dtype).name != self.dtype:
            raise ValueError(
                f"{head}dtype {self.dtype}, but got {jnp.dtype(dtype).name}: "
                f"pass x.astype({self.dtype!r})."
            )
        for axis, size in self.axes.items():
            if size is not None and shape[axis] not in (size, None):
                raise ValueError(
                    f"{head}size {size} along axis {axis}{came} The layer's weights were made for "
                    f"{size}: pass data of that size, or make a new layer."
                )
        for want, have in zip(self.shape or (), shape, strict=False):
            if want is not None and have is not None and want != have:
                raise ValueError(f"{head}shape {self.shape}{came} Pass data of that shape.")

    def _squeezes(self, shape: tuple[int | None, ...]) -> bool:
        if not self.allow_last_axis_squeeze or self.ndim is None:
            return False
        return (len(shape) == self.ndim + 1 and shape[-1] == 1) or len(shape) == self.ndim - 1


def _mend(have: int, want: int) -> str:
    if have == want - 1:
        return (
            " Add the missing axis: x[None] for a batch of one sample, or x[..., None] for a "
            "single feature."
        )
    if have == want + 1:
        return " Reshape the input, for instance with x.reshape(x.shape[0], x.shape[1], -1)."
    return " Reshape the input."
