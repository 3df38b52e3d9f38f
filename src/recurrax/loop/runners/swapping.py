"""Stacks that lie as (batch, time, ...) where they come from or go to, as layers hold them.

A loop and the products around it go over (time, batch, ...). Turning a stack in between reads and
writes all of it. Kernels that take stacks where they lie spare that, if all that meet at one do: so
whether a stack is taken so depends on its rows alone.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from recurrax.loop.body import Body
from recurrax.loop.native.lower import Step
from recurrax.loop.native.stacks import Stack
from recurrax.loop.native.windows import Source, Windows

# Rows of a product's blocks, and the most of a step that are multiplied together.
_BLOCK, _MOST_ROWS = 8, 512
# Steps of a window that nothing is multiplied in; 1 to 8 are as fast.
_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Swapping:
    """The `arguments` and `results` of a kernel, by number, that begin with (batch, time).

    Outside they are swapped back: XLA sees that one transpose undoes the other.
    """

    arguments: tuple[int, ...] = ()
    results: tuple[int, ...] = ()

    def given(self, arrays: Sequence[Any]) -> list[Any]:
        """What the kernel takes."""
        return [jnp.swapaxes(a, 0, 1) if k in self.arguments else a for k, a in enumerate(arrays)]

    def shapes(self, shapes: Sequence[jax.ShapeDtypeStruct]) -> list[jax.ShapeDtypeStruct]:
        """What it makes, of the `shapes` of what is wanted."""

        def turned(s: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return s.update(shape=(s.shape[1], s.shape[0], *s.shape[2:]))

        return [turned(s) if k in self.results else s for k, s in enumerate(shapes)]

    def made(self, arrays: Sequence[Any]) -> list[Any]:
        """What is wanted, of what it made."""
        return [jnp.swapaxes(a, 0, 1) if k in self.results else a for k, a in enumerate(arrays)]


def rows_of(a: Any, swapped: bool) -> Stack:
    """The rows of a stack (time, batch, features), or of any array."""
    if a.ndim == 3 and _suits(a.shape[1]):
        return Stack(a.shape[0], a.shape[1], swapped)
    return Stack(a.size // a.shape[-1], 1, False)


def _suits(batch: int) -> bool:
    """Whether stacks of `batch` rows a step are taken where they lie."""
    return batch % _BLOCK == 0 and batch <= _MOST_ROWS


def of_loop(
    step: Step, body: Body, swapped: Iterable[int], length: int
) -> tuple[Windows | None, Swapping]:
    """How a loop takes the `swapped` xs and ys, counted after the xs: they pass through windows."""
    num_xs, m = body.num_xs, body.num_carry
    first_x, num_arguments = body.first_x, len(step.inputs)
    avals = [*body.jaxpr.in_avals[first_x:], *body.jaxpr.out_avals[m:]]
    places = [*step.inputs[first_x:], *step.outputs[m:]]
    if not _suits(step.rows) or any(p.order for p in (*step.inputs, *step.outputs)):
        return None, Swapping()
    taken = [k for k in swapped if places[k].by_row and avals[k].shape[:1] == (step.rows,)]
    swapping = Swapping(
        arguments=tuple(first_x + k for k in taken if k < num_xs),
        results=tuple(m + k - num_xs for k in taken if k >= num_xs),
    )
    if not taken:
        return None, swapping
    sources = (
        Source(k, step.inputs[k], None) if k in swapping.arguments else None
        for k in range(first_x, num_arguments)
    )
    windows = Windows(
        steps=min(_STEPS, length),
        sources=tuple(sources),
        num_arguments=num_arguments,
        batch_major=False,
        swapped=(*swapping.arguments, *(num_arguments + k for k in swapping.results)),
    )
    return windows, swapping
