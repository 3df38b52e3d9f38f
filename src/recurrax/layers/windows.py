"""Windows that slide over the axes of space or time: sizes and arguments."""

from collections.abc import Sequence
from typing import Any


def per_axis(value: Any, rank: int, name: str, owner: str) -> tuple[int, ...]:
    """`value` once for each axis.

    Raises:
        ValueError: another number of values, or one that is not a positive integer.
    """
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or any(not isinstance(v, int) or v <= 0 for v in values):
        raise ValueError(
            f"{owner} expected {name} to be a positive integer or {rank} of them, but got "
            f"{value!r}."
        )
    return values


def checked_padding(padding: str, allowed: Sequence[str], owner: str) -> str:
    """`padding` in lower case.

    Raises:
        ValueError: it is not allowed.
    """
    lower = str(padding).lower()
    if lower not in allowed:
        raise ValueError(
            f"{owner} expected padding to be one of {list(allowed)}, but got {padding!r}."
        )
    return lower


def checked_format(data_format: str | None, owner: str) -> str:
    """`data_format`, `"channels_last"` where None.

    Raises:
        ValueError: it is neither of the two.
    """
    data_format = data_format or "channels_last"
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f"{owner} expected data_format to be 'channels_last' or 'channels_first', but got "
            f"{data_format!r}."
        )
    return data_format


def output_sizes(
    sizes: Sequence[int | None],
    window: Sequence[int],
    strides: Sequence[int],
    padding: str,
    dilation: Sequence[int] | None = None,
) -> tuple[int | None, ...]:
    """How many positions a window has along each axis.

    Raises:
        ValueError: none at all.
    """
    found: list[int | None] = []
    for axis, size in enumerate(sizes):
        if size is None:
            found.append(None)
            continue
        reach = (dilation[axis] if dilation else 1) * (window[axis] - 1) + 1
        left = size - reach if padding == "valid" else size - 1
        if left < 0:
            raise ValueError(
                f"A window of {tuple(window)} does not fit into an input of {tuple(sizes)}: pass a "
                "longer input, or padding='same'."
            )
        found.append(left // strides[axis] + 1)
    return tuple(found)


def split_shape(
    shape: Sequence[int | None], data_format: str
) -> tuple[int | None, tuple[int | None, ...], int | None]:
    """Batch, sizes of space, and channels."""
    if data_format == "channels_last":
        return shape[0], tuple(shape[1:-1]), shape[-1]
    return shape[0], tuple(shape[2:]), shape[1]


def join_shape(batch: Any, sizes: Sequence[Any], channels: Any, data_format: str) -> tuple:
    """The inverse of `split_shape`."""
    if data_format == "channels_last":
        return (batch, *sizes, channels)
    return (batch, channels, *sizes)
