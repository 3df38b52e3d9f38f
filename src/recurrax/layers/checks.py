"""Checks of arguments that many layers take."""

from typing import Any

import numpy as np

from recurrax.loop.plan import RUNNERS
from recurrax.registry import nearest


def positive_int(value: Any, name: str, owner: str) -> int:
    """`value`, if it is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value <= 0:
        raise ValueError(
            f"{owner} expected {name} to be a positive integer, but got {value!r}: "
            f"pass {name}=32, say."
        )
    return int(value)


def rate(value: Any, name: str, owner: str) -> float:
    """`value`, if it is a share between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(
            f"{owner} expected {name} to be a number from 0 to 1, but got {value!r}: "
            f"pass {name}=0.2, say."
        )
    return value


def shape_sizes(shape: Any, owner: str) -> tuple[int | None, ...]:
    """`shape` as a tuple, if every size is positive or None."""
    if isinstance(shape, int) or shape is None:
        raise ValueError(
            f"{owner} expected a shape, a tuple such as (None, 8), but got {shape!r}: "
            f"pass ({shape},)."
        )
    sizes = tuple(None if size is None else int(size) for size in shape)
    if any(size is not None and size <= 0 for size in sizes):
        raise ValueError(
            f"{owner} expected every size in a shape to be positive or None, but got {sizes}."
        )
    return sizes


def segments(value: Any, owner: str) -> int | str | None:
    """`value`, if a loop can be cut into so many segments."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0:
        return int(value)
    raise ValueError(
        f'{owner} expected segments to be "auto", a positive integer or None, but got {value!r}: '
        'pass segments="auto", say.'
    )


def runner(value: Any, owner: str) -> str | None:
    """`value`, if there is such a runner of loops."""
    if value is None or (isinstance(value, str) and value in RUNNERS):
        return value
    raise ValueError(
        f"{owner} expected runner to be one of {', '.join(map(repr, RUNNERS))}, or None, but got "
        f"{value!r}.{nearest(str(value), RUNNERS)} Leave it out to let the plan choose."
    )
