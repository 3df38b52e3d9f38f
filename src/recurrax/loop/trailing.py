"""A loop and the products made of its stacks afterwards, held together until lowering.

Weight gradients, and the gradients of inputs that went through a weight, are products of what the
backward loop reads and writes. A runner may make them while the loop still runs, with threads to
spare or while what they read is in the cache; it need not write ys that nobody else reads.
Differentiated, batched or run by another, it is the loop and then the products.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from recurrax.loop import jaxprs, plan, products, together
from recurrax.loop.body import Body, Gathered, Multiplied, Products
from recurrax.loop.machine import Machine
from recurrax.loop.primitive import loop
from recurrax.loop.products import Columns


class Trail:
    """The products to be made after a loop over `xs`; a stack is an array, or the number of a y."""

    def __init__(self, body: Body, xs: Sequence[Array]):
        self._body = body
        self._xs = list(xs)
        self._others: list[Array] = []
        self._trailers: list[Gathered | Multiplied] = []
        self._swapped: list[Array] = []
        self._swapped_ys: set[int] = set()
        self._swapped_products: set[int] = set()

    def hold_swapped(self, stacks: Iterable[Array | int]) -> None:
        """Note that stacks lie as (batch, time, ...) where they come from or go to."""
        for stack in stacks:
            if isinstance(stack, int):
                self._swapped_ys.add(stack)
            else:
                self._swapped.append(stack)

    def gather(
        self, left: Array | int, right: Array | int, start: int, width: int, *, precision: Any
    ) -> int:
        """Returns which product it is."""
        numbers = self._number(left), self._number(right)
        return self._add(Gathered(*numbers, start, width, precision))

    def product(
        self, left: Array | int, weight: Array, *, transposed: bool, precision: Any, swapped: bool
    ) -> int:
        """Returns which product it is; `swapped` if it goes where it lies as (batch, time, ...)."""
        numbers = self._number(left), self._number(weight)
        made = self._add(Multiplied(*numbers, transposed, precision))
        if swapped:
            self._swapped_products.add(made)
        return made

    def _add(self, trailer: Gathered | Multiplied) -> int:
        self._trailers.append(trailer)
        return len(self._trailers) - 1

    def _number(self, stack: Array | int) -> int:
        if isinstance(stack, int):
            return len(self._xs) + stack
        for k, x in enumerate(self._xs):
            if x is stack:
                return k
        self._others.append(stack)
        return len(self._xs) + self._body.num_ys + len(self._others) - 1

    def _swapped_stacks(self) -> tuple[int, ...]:
        """The numbers of swapped stacks, those of products after all others."""
        num_ys, num_products = self._body.num_ys, len(self._trailers)

        def held(arrays: Sequence[Array]) -> list[bool]:
            return [any(a is s for s in self._swapped) for a in arrays]

        marks = [*held(self._xs), *(k in self._swapped_ys for k in range(num_ys))]
        marks += [*held(self._others), *(k in self._swapped_products for k in range(num_products))]
        return tuple(k for k, mark in enumerate(marks) if mark)

    def run(
        self, consts: Sequence[Any], carry: Sequence[Any], wanted: Container[int], **how: Any
    ) -> tuple[list[Array], list[Array | None], list[Array]]:
        """Run the loop; returns its last carry, those of its ys that are `wanted`, the products."""
        body = self._body
        if not self._trailers or body.jaxpr.effects:
            last, ys = loop(body, consts, carry, self._xs, **how)
            made = _products(self._trailers, [*self._xs, *ys, *self._others], how)
            return last, list(ys), made
        hidden = tuple(k for k in range(body.num_ys) if k not in wanted)
        outputs = loop_and_products_p.bind(
            *consts,
            *carry,
            *self._xs,
            *self._others,
            jaxpr=body.jaxpr,
            num_consts=body.num_consts,
            num_carry=body.num_carry,
            trailers=tuple(self._trailers),
            hidden=hidden,
            swapped=self._swapped_stacks(),
            **how,
        )
        m, n = body.num_carry, body.num_carry + body.num_ys - len(hidden)
        seen = iter(outputs[m:n])
        ys = [None if k in hidden else next(seen) for k in range(body.num_ys)]
        return outputs[:m], ys, outputs[n:]


def _products(
    trailers: Sequence[Gathered | Multiplied], stacks: Sequence[Array], how: dict[str, Any]
) -> list[Array]:
    made = []
    for t in trailers:
        by = {"precision": t.precision, "runner": how["runner"]}
        match t:
            case Gathered():
                columns = Columns(stacks[t.right], t.start, t.width)
                made.append(products.gather(stacks[t.left], columns, **by))
            case Multiplied():
                weight = stacks[t.weight]
                weight = weight.T if t.transposed else weight
                made.append(products.product(stacks[t.left], weight, **by))
    return made


def _lowered_products(
    trailers: Sequence[Gathered | Multiplied],
    stacks: Sequence[Array],
    how: dict[str, Any],
    swapped: Container[int],
    machine: Machine,
) -> list[Array]:
    """The same where nobody differentiates them any more: of stacks as they lie, one by one."""
    made, before = [], []
    for number, t in enumerate(trailers, len(stacks)):
        left = stacks[t.left]
        by = {"precision": t.precision, "runner": how["runner"], "machine": machine}
        by |= {"swapped": t.left in swapped, "after": before}
        match t:
            case Gathered():
                made.append(plan.gather(left, stacks[t.right], t.start, t.width, **by))
            case Multiplied():
                by |= {"transposed": t.transposed, "result_swapped": number in swapped}
                made.append(plan.product(left, stacks[t.weight], **by))
        # As it lies: to wait for it should not make XLA turn it.
        before = [jnp.swapaxes(made[-1], 0, 1) if number in swapped else made[-1]]
    return made


def _in_parts(
    *args, jaxpr, num_consts, num_carry, trailers, hidden, swapped, machine=None, **how
) -> list[Array]:
    body = Body(jaxpr, num_consts, num_carry)
    consts, carry, xs, others = body.shared_out(args)
    how["swapped"] = tuple(k for k in swapped if k < body.num_xs + body.num_ys)
    last, ys = loop(body, consts, carry, xs, **how)
    given = trailers, [*xs, *ys, *others], how
    lowered = machine is not None
    made = _lowered_products(*given, swapped, machine) if lowered else _products(*given)
    return [*last, *(y for k, y in enumerate(ys) if k not in hidden), *made]


def _at_once(
    *args,
    jaxpr,
    num_consts,
    num_carry,
    trailers,
    hidden,
    length,
    reverse,
    unroll,
    runner,
    machine,
    swapped,
) -> list[Array] | None:
    del unroll
    body = Body(jaxpr, num_consts, num_carry)
    consts, carry, xs, others = body.shared_out(args)
    where = {"length": length, "reverse": reverse, "runner": runner, "machine": machine}
    products = Products(others, trailers=trailers, hidden=hidden, swapped=swapped)
    return plan.run_accompanied(body, consts, carry, xs, products, **where)


def _abstract_eval(*avals, jaxpr, num_consts, num_carry, trailers, hidden, length, **params):
    del params
    outputs = [jaxprs.strong(a) for a in jaxpr.out_avals]
    ys = jaxprs.stacked(outputs[num_carry:], length)
    *_, xs, others = Body(jaxpr, num_consts, num_carry).shared_out(avals)
    stacks = [*xs, *ys, *others]
    made = []
    for t in trailers:
        left = stacks[t.left]
        if isinstance(t, Gathered):
            shape = (left.shape[-1], t.width)
        else:
            shape = (*left.shape[:-1], stacks[t.weight].shape[0 if t.transposed else 1])
        made.append(left.update(shape=shape, weak_type=False))
    seen = [y for k, y in enumerate(ys) if k not in hidden]
    return [*outputs[:num_carry], *seen, *made]


def _batched(given, *, jaxpr, trailers, hidden, **params):
    del given, params
    return [True] * (len(jaxpr.out_avals) - len(hidden) + len(trailers))


loop_and_products_p = together.primitive(
    "loop_and_products", _in_parts, _at_once, _abstract_eval, _batched, of_loop=True
)
