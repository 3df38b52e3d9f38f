"""Loops over arrays that XLA divides over several devices: each device runs rows of its own.

XLA's partitioner does not look into a kernel, and would gather its arguments on every device. It is
told which axes may be divided, and when it knows how they are, it asks here for the program of one
device: the same loop over fewer rows (`local_rows.py`). What is summed over rows is then summed
over the devices. By then a loop is differentiated and batched, so nothing here has a derivative.
"""

import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from recurrax.loop import compat, local_rows, plan
from recurrax.loop.body import Body
from recurrax.loop.compat import Primitive, Tiles
from recurrax.loop.local_rows import Axes, Layout
from recurrax.loop.machine import Machine
from recurrax.loop.native.axes import Node

_DEVICES = "recurrax_devices"
# What the parts of an operation hold on to, while they are lowered in this thread.
_now = threading.local()
_Shaped = tuple[tuple[int, ...], Tiles]


@dataclasses.dataclass(frozen=True, eq=False)
class Divided:
    """A loop that may be divided: `of(body)` is the function for a body of fewer rows."""

    layout: Layout
    of: Callable[[Body], Callable[..., list[Array]]]


def divided(
    primitive: Primitive,
    avals: Sequence[Any],
    runner: str | None,
    machine: Machine,
    params: dict[str, Any],
) -> Divided | None:
    """The loop of an equation with arguments of these types as one that may be divided.

    None if it may not, or if no kernel runs it: XLA divides operations of its own by itself.
    """
    body = plan.plain(Body(params["jaxpr"], params["num_consts"], params["num_carry"]))
    how = {"length": params["length"], "runner": runner, "machine": machine}
    if machine.in_part or plan.choose(body, **how).runner != "native":
        return None
    if len(jax.devices(machine.platform)) < machine.devices:
        return None
    feds = params.get("feds", ())
    layout = local_rows.layout(
        body,
        avals[len(body.jaxpr.in_avals) :],
        feds=[fed.x for fed in feds],
        seen=[feds[k].x for k in params.get("seen", ())],
        trailers=params.get("trailers", ()),
        hidden=params.get("hidden", ()),
    )
    if layout is None:
        return None
    # What is wrong with a smaller body should be said here: the partitioner knows no way out.
    layout.rows.local({node: _least_divisor(n) for node, n in layout.sizes.items()})

    def of(body: Body) -> Callable[..., list[Array]]:
        return functools.partial(
            primitive.bind, **{**params, "jaxpr": body.jaxpr, "runner": runner}
        )

    return Divided(layout, of)


def _least_divisor(n: int) -> int:
    return next(d for d in range(2, n + 1) if n % d == 0)


def lower(context: Any, args: Sequence[Any], loop: Divided, machine: Machine) -> Any:
    """Lower a loop as an operation that XLA's partitioner asks for its parts."""
    layout = loop.layout
    held: list[Any] = []  # as long as JAX refers to `partition`, which is as long as to the program

    def partition(arguments: Sequence[_Shaped], results: Sequence[_Shaped] | None) -> Any:
        given = [*zip(layout.arguments, arguments, strict=True)]
        if results is not None:
            given += zip(layout.results, results, strict=True)
        parts = _parts(layout, given, machine.devices)
        _now.held = held
        run = functools.partial(_one_part, loop.of(layout.rows.local(parts.counts)), layout, parts)
        return run, [parts.of(a) for a in layout.arguments], [parts.of(a) for a in layout.results]

    factors, whole = _factors(layout)
    return compat.lower_partitioned(
        context,
        args,
        lambda *args: list(loop.of(layout.rows.body)(*args)),
        devices=jax.devices(machine.platform)[: machine.devices],
        axis=_DEVICES,
        factors=factors,
        whole=whole,
        partition=partition,
    )


def is_part(context: Any) -> bool:
    """Whether what is lowered is the program of one device, asked for by the partitioner."""
    return compat.manual_axes(context) == {_DEVICES}


def keep(needed: Sequence[Any]) -> None:
    """Let the program hold on to what one of its parts needs: JAX forgets what parts do."""
    _now.held.extend(needed)


def _factors(layout: Layout) -> tuple[tuple[list[list[str]], list[list[str]]], list[str]]:
    """A name for each axis of arguments and results, and those that name one axis alone."""
    names = {node: f"d{k}" for k, node in enumerate(layout.sizes)}
    whole: list[str] = []

    def named(axes: Axes) -> list[str]:
        found = []
        for node in axes:
            if node is None:
                whole.append(f"w{len(whole)}")
            found.append(whole[-1] if node is None else names[node])
        return found

    return ([named(a) for a in layout.arguments], [named(a) for a in layout.results]), whole


@dataclasses.dataclass(frozen=True, eq=False)
class _Parts:
    """Which device has which part: `devices` has an axis for each of `nodes`, and one of those
    that have the same part."""

    nodes: tuple[Node, ...]
    devices: np.ndarray

    @property
    def counts(self) -> dict[Node, int]:
        return dict(zip(self.nodes, self.devices.shape, strict=False))

    def of(self, axes: Axes) -> Tiles:
        """How an array with these axes is divided."""
        held = [self.nodes.index(node) for node in axes if node in self.nodes]
        if not held:
            return None
        sizes = [self.counts.get(node, 1) if node else 1 for node in axes]
        return self._first(held).reshape(*sizes, -1)

    def groups(self, over: Iterable[Node]) -> list[list[int]] | None:
        """Devices whose parts of the axes `over` make the whole; None if each has all of it."""
        held = [k for k, node in enumerate(self.nodes) if node in over]
        if not held:
            return None
        count = math.prod(self.devices.shape[k] for k in held)
        return self._first(held).reshape(count, -1).T.tolist()

    def _first(self, held: Sequence[int]) -> np.ndarray:
        others = [k for k in range(self.devices.ndim) if k not in held]
        return self.devices.transpose(*held, *others)


def _parts(layout: Layout, arrays: Iterable[tuple[Axes, _Shaped]], devices: int) -> _Parts:
    """The parts that are meant by how XLA would divide `arrays`: as the one that is divided most,
    and of such the largest."""
    found, best = _Parts((), np.arange(devices)), (1, 0)
    for axes, (shape, tiles) in arrays:
        parts = None if tiles is None else _parts_of(layout, axes, tiles)
        if parts is not None:
            rank = (math.prod(parts.counts.values()), math.prod(shape))
            found, best = (parts, rank) if rank > best else (found, best)
    return found


def _parts_of(layout: Layout, axes: Axes, tiles: np.ndarray) -> _Parts:
    """The parts of one array, as far as they are equal ones of axes that may be divided."""
    held = [
        k
        for k, node in enumerate(axes)
        if node is not None and tiles.shape[k] > 1 and layout.sizes[node] % tiles.shape[k] == 0
    ]
    others = [k for k in range(tiles.ndim) if k not in held]
    counts = [tiles.shape[k] for k in held]
    ordered = tiles.transpose(*held, *others).reshape(*counts, -1)
    return _Parts(tuple(node for k in held if (node := axes[k]) is not None), ordered)


def _one_part(
    run: Callable[..., list[Array]], layout: Layout, parts: _Parts, *args: Array
) -> list[Array]:
    """What one device makes of its rows; sums are those of all rows."""
    made = list(run(*args))
    for over in dict.fromkeys(filter(None, layout.sums)):
        groups = parts.groups(over)
        if groups is None:
            continue
        summed = [k for k, nodes in enumerate(layout.sums) if nodes == over]
        totals = lax.psum([made[k] for k in summed], _DEVICES, axis_index_groups=groups)
        for k, total in zip(summed, totals, strict=True):
            made[k] = total
    return made
