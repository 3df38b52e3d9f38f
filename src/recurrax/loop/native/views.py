"""A block of numbers seen in another order: a shape, a stride for each axis, an offset.

Slicing, broadcasting, transposing and splitting are all the same thing seen this way, and so is
taking a matrix out of a constant. `runs` brings a view back to pieces of the flat block.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence


@dataclasses.dataclass(frozen=True)
class View:
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @classmethod
    def whole(cls, shape: Sequence[int]) -> "View":
        """All of a block, in row-major order."""
        strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
        return cls(tuple(shape), tuple(strides))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def sliced(self, starts, stops, steps) -> "View":
        offset = self.offset + sum(s * a for s, a in zip(self.strides, starts, strict=True))
        shape = [-(-(z - a) // n) for a, z, n in zip(starts, stops, steps, strict=True)]
        strides = [s * n for s, n in zip(self.strides, steps, strict=True)]
        return View(tuple(shape), tuple(strides), offset)

    def picked(self, axis: int, index: int) -> "View":
        """One entry along `axis`, which goes away."""
        rest = [k for k in range(len(self.shape)) if k != axis]
        return dataclasses.replace(
            self.permuted(rest), offset=self.offset + index * self.strides[axis]
        )

    def permuted(self, axes: Sequence[int]) -> "View":
        """The axes in another order; those not named must have one entry or be picked."""
        return View(
            tuple(self.shape[k] for k in axes), tuple(self.strides[k] for k in axes), self.offset
        )

    def broadcast(self, shape: Sequence[int], places: Sequence[int]) -> "View":
        """Axis `k` goes to `places[k]` of `shape`; the others repeat."""
        strides = [0] * len(shape)
        for axis, place in enumerate(places):
            if self.shape[axis] == shape[place]:
                strides[place] = self.strides[axis]
        return View(tuple(shape), tuple(strides), self.offset)

    def reversed(self, axes: Sequence[int]) -> "View":
        offset, strides = self.offset, list(self.strides)
        for k in axes:
            offset += (self.shape[k] - 1) * strides[k]
            strides[k] = -strides[k]
        return View(self.shape, tuple(strides), offset)

    def merged(self) -> "View":
        """The same numbers in the same order, over as few axes as will do."""
        shape: list[int] = []
        strides: list[int] = []
        for n, s in zip(self.shape, self.strides, strict=True):
            if n == 1:
                continue
            if shape and strides[-1] == n * s:
                shape[-1] *= n
                strides[-1] = s
            else:
                shape.append(n)
                strides.append(s)
        return View(tuple(shape), tuple(strides), self.offset)

    def reshaped(self, shape: Sequence[int]) -> "View | None":
        """In another shape, if one stride serves all of it (else None: it must be laid flat)."""
        flat = self.merged()
        if len(flat.shape) > 1:
            return None
        stride = flat.strides[0] if flat.strides else 1
        whole = View.whole(shape)
        return View(whole.shape, tuple(s * stride for s in whole.strides), self.offset)

    def offsets(self) -> Iterator[int]:
        """Where each entry lies, in order."""
        ranges = (range(n) for n in self.shape)
        for index in itertools.product(*ranges):
            yield self.offset + sum(i * s for i, s in zip(index, self.strides, strict=True))

    def runs(self) -> list[tuple[int, int, int]]:
        """`(offset, length, step)` in order; step 1: neighbours, step 0: one number repeated."""
        flat = self.merged()
        inner, step = (flat.shape[-1], flat.strides[-1]) if flat.shape else (1, 1)
        if step in (0, 1):
            outer = View(flat.shape[:-1], flat.strides[:-1], self.offset)
        else:
            outer, inner, step = flat, 1, 1
        return [(offset, inner, step) for offset in outer.offsets()]
