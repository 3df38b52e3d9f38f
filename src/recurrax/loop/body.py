"""The contract in the middle: what a loop runs, and what a runner is."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from jax import Array

from recurrax.loop.compat import ClosedJaxpr


@dataclasses.dataclass(frozen=True)
class Body:
    """One step of a loop, `(consts, carry, x_t) -> (carry', y_t)`, as a jaxpr with flat arguments.

    The forward pass and the backward pass are both bodies, so a runner never hears of
    differentiation.
    """

    jaxpr: ClosedJaxpr
    num_consts: int
    num_carry: int

    @property
    def first_x(self) -> int:
        return self.num_consts + self.num_carry

    @property
    def num_xs(self) -> int:
        return len(self.jaxpr.in_avals) - self.first_x

    @property
    def num_ys(self) -> int:
        return len(self.jaxpr.out_avals) - self.num_carry

    def shared_out(self, arguments: Sequence[Any]) -> tuple[Sequence[Any], ...]:
        """The consts, the carry, the xs, and what follows them."""
        m, n, end = self.num_consts, self.first_x, len(self.jaxpr.in_avals)
        return arguments[:m], arguments[m:n], arguments[n:end], arguments[end:]


class Run(Protocol):
    """A runner: runs `body` over the leading axis of `xs` and returns the last carry and all ys."""

    def __call__(
        self,
        body: Body,
        consts: Sequence[Array],
        carry: Sequence[Array],
        xs: Sequence[Array],
        *,
        length: int,
        reverse: bool,
    ) -> tuple[list[Array], list[Array]]: ...


@dataclasses.dataclass(frozen=True)
class Feed:
    """An x of a loop over arrays that begin with (batch, time).

    It is `array`, or the product of its last axis with `weight`: (k, n), or (n, k) where
    `transposed`.
    """

    array: Array
    weight: Array | None = None
    transposed: bool = False


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A product that trails a loop: the sum, over all steps and rows, of outer products.

    Of stack `left`, and of `width` features of stack `right` from `start` on. Stacks are numbered:
    the xs of the loop, its ys, then other arrays.
    """

    left: int
    right: int
    start: int
    width: int
    precision: Any


@dataclasses.dataclass(frozen=True)
class Multiplied:
    """A product of stack `left` and a weight, which is one of the other arrays.

    It is (k, n), or (n, k) where `transposed`. Stacks are numbered as for `Gathered`. The product
    trails a loop, or leads it: then `left` is an x, and the loop reads the product in its place.
    """

    left: int
    weight: int
    transposed: bool
    precision: Any


@dataclasses.dataclass(frozen=True)
class Products:
    """The products before a loop and after it, and the other arrays that they read.

    Of the loop's ys, nobody but those products reads the `hidden`; of what leads it, others read
    the leaders `seen`. The stacks `swapped`, trailers counted after the others, lie as
    (batch, time, ...) where they come from or go to.
    """

    others: Sequence[Array]
    leaders: Sequence[Multiplied] = ()
    trailers: Sequence[Gathered | Multiplied] = ()
    hidden: tuple[int, ...] = ()
    seen: tuple[int, ...] = ()
    swapped: tuple[int, ...] = ()
