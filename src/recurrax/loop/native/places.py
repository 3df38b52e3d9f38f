"""Where what a `gather` takes, or a `scatter` brings, lies in the array it is taken from or put to.

Both move **windows** of a whole. A window starts where a vector of indices says; all windows,
one for each such vector, make up the **part**: the result of a gather, the updates of a scatter.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from recurrax.loop.native.inline import Equation


@dataclasses.dataclass(frozen=True)
class Places:
    """How the axes of part, whole and indices belong together.

    `windowed` tells of axes of the part which axis of the whole they run along inside a window;
    `indexed`, of the others, which axis of the indices; `paired`, of some of these, which axis of
    the whole runs along with both. Entry k of a vector of indices is a place along axis
    `starts[k]` of the whole, and a window is `sizes[axis]` long along each.
    """

    windowed: dict[int, int]
    indexed: dict[int, int]
    paired: dict[int, int]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    def whole_axes(self, whole: Sequence[int]) -> dict[int, int]:
        """Axes of the part along which it lies as the whole of this shape does, all of it."""
        untouched = {
            axis: into
            for axis, into in self.windowed.items()
            if into not in self.starts and self.sizes[into] == whole[into]
        }
        return untouched | self.paired


def of_gather(eqn: Equation) -> Places:
    whole, _ = eqn.inputs
    numbers: Any = eqn.params["dimension_numbers"]
    dropped = numbers.collapsed_slice_dims, numbers.operand_batching_dims
    pairs = numbers.operand_batching_dims, numbers.start_indices_batching_dims
    axes = len(eqn.outputs[0].shape), len(whole.shape)
    sizes = tuple(int(n) for n in eqn.params["slice_sizes"])
    return _places(axes, numbers.offset_dims, dropped, pairs, numbers.start_index_map, sizes)


def of_scatter(eqn: Equation) -> Places:
    whole, _, part = eqn.inputs
    numbers: Any = eqn.params["dimension_numbers"]
    dropped = numbers.inserted_window_dims, numbers.operand_batching_dims
    pairs = numbers.operand_batching_dims, numbers.scatter_indices_batching_dims
    windows = sorted(numbers.update_window_dims)
    kept = [k for k in range(len(whole.shape)) if not any(k in axes for axes in dropped)]
    lengths = dict(zip(kept, (part.shape[k] for k in windows), strict=True))
    sizes = tuple(lengths.get(k, 1) for k in range(len(whole.shape)))
    axes = len(part.shape), len(whole.shape)
    return _places(axes, windows, dropped, pairs, numbers.scatter_dims_to_operand_dims, sizes)


def _places(axes, windows, dropped, pairs, starts, sizes) -> Places:
    of_part, of_whole = axes
    kept = [k for k in range(of_whole) if not any(k in axes for axes in dropped)]
    others = [k for k in range(of_part) if k not in windows]
    indexed = {axis: k for k, axis in enumerate(others)}
    into = dict(zip(pairs[1], pairs[0], strict=True))
    return Places(
        windowed=dict(zip(sorted(windows), kept, strict=True)),
        indexed=indexed,
        paired={axis: into[k] for axis, k in indexed.items() if k in into},
        starts=tuple(starts),
        sizes=sizes,
    )
