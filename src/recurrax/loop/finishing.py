"""What of a gradient is finished after the backward loop, and what of that may trail it."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.loop import convolutions, jaxprs, look_ups, products
from recurrax.loop.backward import Argument, Backward, Joint, Piece, Use
from recurrax.loop.body import Body
from recurrax.loop.compat import Var
from recurrax.loop.fed import Fed
from recurrax.loop.products import Columns
from recurrax.loop.trailing import Trail


@dataclasses.dataclass(frozen=True)
class Feeding:
    """How tangents reach an x of the body through a product: that of what is multiplied, that of
    its weight, or both."""

    fed: Fed
    of_x: bool
    of_weight: bool


def held_swapped(
    both: Joint,
    b: Backward,
    feedings: Sequence[Feeding],
    stacks: dict[Var, Array],
    y_cts: Sequence[Any],
    swapped: tuple[int, ...],
) -> list[Array | int]:
    """The stacks of the backward loop that are, or belong to, swapped ones of the loop."""
    body, through = both.step, {f.fed.x for f in feedings}
    jaxpr = body.jaxpr.jaxpr
    xs = {k for k in swapped if k < body.num_xs} - through
    ys = {k - body.num_xs for k in swapped}
    held = [jaxpr.invars[body.first_x + k] for k in xs]
    held += [y for k, y in enumerate(jaxpr.outvars[body.num_carry :]) if k in ys]
    found = [stacks[v] for v in jaxprs.variables(held) if v in stacks]
    found += [ct for k, ct in zip(both.moving_ys, y_cts, strict=True) if k in ys]
    results = zip(both.wanted_xs, b.results, strict=False)
    return found + [r for k, r in results if k in xs and isinstance(r, int)]


def read_after(
    both: Joint, b: Backward, feedings: Sequence[Feeding], trailed: Sequence[int | None]
) -> set[int]:
    """The ys of the backward loop that are read after it, and not only by what trails it."""
    through = {f.fed.x for f in feedings}
    read = [r for i, r in zip(both.wanted_xs, b.results, strict=False) if i not in through]
    first_tap = len(both.wanted_xs)
    first_other = first_tap + both.num_taps
    for use, product in zip(both.uses, trailed, strict=True):
        if product is None and use.other is not None:
            read.append(b.results[first_tap + use.tap])
            if use.other in both.others:
                read.append(b.results[first_other + both.others.index(use.other)])
    return {r.index if isinstance(r, Piece) else r for r in read if isinstance(r, (int, Piece))}


def trail_feeding(
    trail: Trail,
    feeding: Feeding,
    both: Joint,
    b: Backward,
    xs: dict[int, Array],
    beside: Iterator[Array],
    is_swapped: bool,
) -> tuple[int | None, int | None]:
    """Let the gradients of what is multiplied, and of its weight, trail the loop.

    Returns which of the products they are.
    """
    feed = feeding.fed
    dz = b.results[both.wanted_xs.index(feed.x)]
    x = next(beside) if feeding.of_weight else None
    weight = next(beside) if feeding.of_x else None
    if dz is None:
        return None, None
    assert not isinstance(dz, Piece)
    dz = xs[dz.index] if isinstance(dz, Argument) else dz
    of_x = of_weight = None
    if weight is not None:
        turned = not feed.transposed
        how = {"transposed": turned, "precision": feed.precision, "swapped": is_swapped}
        of_x = trail.product(dz, weight, **how)
    if x is not None:
        if is_swapped:
            trail.hold_swapped([x])
        sides = (dz, x) if feed.transposed else (x, dz)
        right = x if feed.transposed else both.step.jaxpr.in_avals[both.step.first_x + feed.x]
        of_weight = trail.gather(*sides, 0, right.shape[-1], precision=feed.precision)
    return of_x, of_weight


def feeding_after(
    feeding: Feeding, dz: Array | Columns | None, beside: Iterator[Array], runner: str | None
) -> list[Array | None]:
    """The wanted ones of the gradients of what is multiplied, and of its weight."""
    feed = feeding.fed
    x = next(beside) if feeding.of_weight else None
    weight = next(beside) if feeding.of_x else None
    if dz is None:
        return [None] * (feeding.of_x + feeding.of_weight)
    dz, found = products.whole(dz), []
    how = {"precision": feed.precision, "runner": runner}
    if weight is not None:
        found.append(products.product(dz, weight if feed.transposed else weight.T, **how))
    if x is not None:
        sides = (dz, x) if feed.transposed else (x, dz)
        found.append(products.gather(*sides, **how))
    return found


def trail_use(
    trail: Trail,
    use: Use,
    both: Joint,
    b: Backward,
    xs: dict[int, Array],
    stacks: dict[Var, Array],
) -> int | None:
    """Let one use's part of a gradient trail the loop, if it is a product of two whole stacks.

    Returns which of the products it is.
    """
    first_tap = len(both.wanted_xs)
    if use.other is None or use.position != 1 or not products.is_plain(use.eqn):
        return None
    tap = b.results[first_tap + use.tap]
    if use.other in both.others:
        other = b.results[first_tap + both.num_taps + both.others.index(use.other)]
    else:
        other = stacks[use.other]
    if tap is None or other is None:
        return None
    left, right = (xs[r.index] if isinstance(r, Argument) else r for r in (other, tap))
    if products.weight_is_transposed(use.eqn):
        left, right = right, left
    if isinstance(left, Piece):
        return None
    start, width = 0, jaxprs.aval(use.eqn.invars[1]).shape[1]
    if isinstance(right, Piece):
        right, start = right.index, right.start
    return trail.gather(left, right, start, width, precision=use.eqn.params["precision"])


def result_of(
    result: int | Piece | Argument | None, xs: dict[int, Array], ys: Sequence[Array | None]
) -> Array | Columns | None:
    match result:
        case Argument():
            return xs[result.index]
        case Piece():
            y = ys[result.index]
            return None if y is None else Columns(y, result.start, result.width)
    return None if result is None else ys[result]


def after_the_loop(
    body: Body, use: Use, tap: Array | Columns, stacks: dict[Var, Array], runner: str | None
) -> Array:
    """One use's part of the gradient of a const: a contraction over rows, and steps if it is a
    product's or a look-up's."""
    jaxpr, eqn = body.jaxpr.jaxpr, use.eqn
    if use.other is not None and look_ups.look_up(eqn) is not None:
        index, count = stacks[use.other][..., 0], body.jaxpr.in_avals[use.const].shape[0]
        last = min(count - 1, jnp.iinfo(index.dtype).max)
        index = jnp.clip(index, 0, last)
        return products.add_up(index, products.whole(tap), count=count, runner=runner)
    if use.other is not None and use.position == 1 and products.is_plain(eqn):
        how = {"precision": eqn.params["precision"], "runner": runner}
        if products.weight_is_transposed(eqn):
            return products.gather(products.whole(tap), stacks[use.other], **how)
        return products.gather(stacks[use.other], tap, **how)
    tap = products.whole(tap)

    def linear(const):
        if use.other is not None:

            def one_step(other):
                operands = [other] * 2
                operands[use.position] = const
                if convolutions.is_one(eqn):
                    return convolutions.convolved(eqn, *operands)
                return jaxprs.bind(jaxpr, eqn, operands)[0]

            return jax.vmap(one_step)(stacks[use.other])
        if eqn.primitive.name == "broadcast_in_dim":
            (const,) = jaxprs.bind(jaxpr, eqn, [const])
        return jnp.broadcast_to(const, tap.shape)

    (gradient,) = jax.linear_transpose(linear, jaxprs.zeros(body.jaxpr.in_avals[use.const]))(tap)
    return gradient
