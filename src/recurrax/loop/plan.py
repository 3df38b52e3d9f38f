"""Plan: which runner runs a body, and why.

The native runner runs what it can on the CPU; `lax.scan` runs the rest, so a plan never fails. It
is made when the loop is lowered, for the machine that the program is for. `RECURRAX_RUNNER`
(`native`, `xla` or `lax`) chooses for the whole process, `scan(..., runner=...)` for one loop.
"""

import dataclasses
import functools
import importlib
import os
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.loop import jaxprs, local_rows
from recurrax.loop import machine as machines
from recurrax.loop.body import Body, Feed, Products
from recurrax.loop.fallback import stated
from recurrax.loop.machine import Machine
from recurrax.loop.runners import unfolded, xla

RUNNERS = ("native", "xla", "lax")
VARIABLE = "RECURRAX_RUNNER"
_NOT_LAX = {"lax": "it runs only where it is asked for"}


@dataclasses.dataclass(frozen=True)
class Choice:
    """The runner of a loop, and why each other one was not taken."""

    runner: str
    refusals: dict[str, str]


def asked_for(runner: str | None) -> str | None:
    """The runner that the caller or the environment names, or None for the plan's own choice.

    Raises:
        ValueError: there is no runner of that name.
    """
    name, source = runner, "runner="
    if runner is None:
        name, source = os.environ.get(VARIABLE) or None, f"{VARIABLE}="
    if name is not None and name not in RUNNERS:
        raise ValueError(
            f"scan knows the runners {', '.join(RUNNERS)}, got {source}{name!r}; "
            "leave it out to let the plan choose."
        )
    return name


def choose(
    body: Body, *, length: int, runner: str | None, machine: Machine | None = None
) -> Choice:
    """Choose a runner for `length` steps of `body`, which is `plain`, on the default machine if
    no other is given."""
    if runner == "xla":
        return Choice("xla", {"native": 'runner="xla" was asked for', **_NOT_LAX})
    missing, module, machine = native_unavailable(), _native(), machine or machines.default()
    if module is None or missing is not None:
        refusal = missing
    elif machine.platform != "cpu":
        device = machine.platform or "one of several platforms"
        refusal = f"it runs on the CPU, and the device is {device}"
    elif length == 0:
        refusal = "there is no step to run"
    elif body.jaxpr.effects:
        refusal = "the step has effects"
    elif any(jnp.issubdtype(a.dtype, jax.dtypes.extended) for a in body.jaxpr.in_avals):
        refusal = "it takes numbers, and the loop runs over random keys"
    else:
        avals, m, n = body.jaxpr.in_avals, body.num_consts, body.num_consts + body.num_carry
        xs = jaxprs.stacked(avals[n:], length)
        refusal = module.refusal(body, avals[:m], avals[m:n], xs, length)
    if refusal is None and machine.is_divided and runner is None:
        refusal = _refusal_to_divide(body, machine)
    if refusal is None:
        return Choice("native", {"xla": "the native runner takes the loop", **_NOT_LAX})
    return Choice("xla", {"native": refusal, **_NOT_LAX})


def _refusal_to_divide(body: Body, machine: Machine) -> str | None:
    """Why `body` cannot be run natively by each of several devices for rows of its own."""
    if machine.in_part:
        return "inside jax.shard_map, XLA still divides the arrays over other axes of the mesh"
    if local_rows.layout(body) is None:
        return f"rows meet in this step, and {machine.devices} devices may hold some each"
    return None


def run(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    xs: Sequence[Array],
    *,
    length: int,
    reverse: bool,
    unroll: int | bool,
    runner: str | None,
    machine: Machine,
    swapped: tuple[int, ...] = (),
) -> tuple[list[Array], list[Array]]:
    """Run `body` with the runner that the plan chooses.

    The xs and ys (counted after the xs) `swapped` lie as (batch, time, ...) where they come from or
    go to, which changes nothing but what XLA is left to copy.

    Raises:
        ValueError: the caller forces the native runner, which cannot take the loop.
    """
    body = plain(body)
    choice = choose(body, length=length, runner=runner, machine=machine)
    if choice.runner != "native" and length > 0:
        check_possible(runner, choice.refusals["native"])
    if choice.runner == "native":
        native: Any = _native()
        how = {"length": length, "reverse": reverse, "swapped": swapped}
        return native.run(body, consts, carry, xs, **how)
    how = {"length": length, "reverse": reverse, "unroll": unroll}
    return xla.run(body, consts, carry, xs, **how, on_cpu=machine.platform == "cpu")


def run_batch_major(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    feeds: Sequence[Feed],
    *,
    length: int,
    reverse: bool,
    runner: str | None,
    machine: Machine,
) -> tuple[list[Array], list[Array]] | None:
    """Run `body` over arrays that begin with (batch, time), and return such; None if none can.

    Nor can one where XLA divides the arrays: what it consists of is divided part by part.
    """
    body = plain(body)
    choice = choose(body, length=length, runner=runner, machine=machine)
    if choice.runner != "native" or machine.is_divided:
        return None
    native: Any = _native()
    return native.run_batch_major(body, consts, carry, feeds, length=length, reverse=reverse)


def run_accompanied(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    xs: Sequence[Array],
    products: Products,
    *,
    length: int,
    reverse: bool,
    runner: str | None,
    machine: Machine,
) -> list[Array] | None:
    """Run `body`, and make products of what it reads and writes.

    Returns the last carry, the ys that are not hidden, the leaders that are seen and what trails
    the loop; None if no runner does all at once, as none does where XLA divides the arrays.
    """
    body = plain(body)
    choice = choose(body, length=length, runner=runner, machine=machine)
    if choice.runner != "native" or machine.is_divided:
        return None
    native: Any = _native()
    how = {"length": length, "reverse": reverse}
    return native.run_accompanied(body, consts, carry, xs, products, **how)


def check_possible(runner: str | None, refusal: str) -> None:
    """Raise ValueError if the caller forces the native runner, which refuses the loop."""
    if runner == "native":
        raise stated(
            ValueError(
                'runner="native" was asked for, but the native runner cannot take this loop: '
                f"{refusal}. Leave the choice to the plan (runner=None, and {VARIABLE} unset), "
                "which takes another runner where native cannot."
            )
        )


def product(
    a: Array, w: Array, *, precision: Any, runner: str | None, machine: Machine, **how: Any
) -> Array:
    """`(..., k)` times `(k, n)`, by the runner that is best at it.

    `how`: whether the weight is `transposed`, (n, k); whether `a` or the result is `swapped` or
    `result_swapped`, as for `run`; and arrays `after` which it is made, lest two such products
    take the same processors' caches from each other.
    """
    return _multiplier(runner, machine).product(a, w, precision=precision, **how)


def gather(
    a: Array,
    dz: Array,
    start: int,
    width: int,
    *,
    precision: Any,
    runner: str | None,
    machine: Machine,
    **how: Any,
) -> Array:
    """`(..., k)` and `width` columns of dz from `start` on to `(k, width)`, by the runner that is
    best at it. `how`: whether `a` is `swapped`, and arrays `after`, as for `product`.
    """
    multiplier = _multiplier(runner, machine)
    return multiplier.gather(a, dz, start, width, precision=precision, **how)


def add_up(index: Array, dz: Array, *, count: int, runner: str | None, machine: Machine) -> Array:
    """Integers `(...)` and `(..., n)` to `(count, n)`, by the runner that is best at it."""
    return _multiplier(runner, machine).add_up(index, dz, count=count)


def _multiplier(runner: str | None, machine: Machine) -> Any:
    """The runner that is best at products and sums of all steps together."""
    if machine.is_divided:
        return unfolded
    if runner != "xla" and machine.platform == "cpu":
        return _native() or xla
    return xla


@functools.lru_cache(maxsize=256)
def plain(body: Body) -> Body:
    """`body` as a runner takes it: plain equations, with no calls left."""
    return dataclasses.replace(body, jaxpr=jaxprs.inlined(body.jaxpr, derivatives=True))


@functools.cache
def _native() -> ModuleType | None:
    """The native runner, or None where llvmlite is missing or broken."""
    try:
        return importlib.import_module("recurrax.loop.runners.native")
    except (ImportError, OSError):
        return None


@functools.cache
def native_unavailable() -> str | None:
    """Why no loop at all can run natively here, or None. A warning says it, once."""
    module: Any = _native()
    if module is None:
        reason = "it cannot be imported (is llvmlite installed?)"
    else:
        reason = module.platform_refusal()
    if reason is not None:
        warnings.warn(
            f"recurrax runs all loops with XLA, which is slower than its native runner: {reason}.",
            RuntimeWarning,
            stacklevel=2,
        )
    return reason
