"""Explain: what became of a loop, for people."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax

from recurrax.loop import cost, gradient, jaxprs, look_ups, plan, split, step
from recurrax.loop import machine as machines
from recurrax.loop import segments as _segments
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr
from recurrax.loop.machine import Machine


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a loop does where, what it costs, and who runs it. `print` it, or read its fields.

    It tells of the loop that training runs, on the devices that the arrays are bound to, or on
    JAX's default one. Where no gradient is wanted, a layer's native kernel takes the products
    `before` the loop too, and multiplies a few steps at a time.

    Attributes:
        length: number of steps.
        once: operations on weights alone, done once: each name, and how often it occurs.
        before: operations on `x` alone, done before the loop for all steps together.
        inside: operations that stay in the loop.
        after: operations that only feed `y`, done after the loop for all steps together.
        flops_per_step: floating-point operations of one step inside the loop.
        flops: those of the whole forward pass.
        segments: number of segments, or None for a loop in one piece.
        flops_backward: those of the whole backward pass, all gradients wanted.
        kept_bytes: what the forward loop keeps for the backward loop, all steps together.
        gathered: weights whose gradient is contracted after the loop, all steps together.
        summed: biases, gains and the like, whose gradient is added up inside it, row by row.
        accumulated: those whose whole gradient is added to at every step, since no other way fits.
        runner: who runs the forward loop: "native", "xla" or "lax".
        refusals: why each other runner does not.
        backward_runner: who runs the backward loop; "none" where the step has no derivative.
        backward_refusals: why each other runner does not.
    """

    length: int
    once: dict[str, int]
    before: dict[str, int]
    inside: dict[str, int]
    after: dict[str, int]
    flops_per_step: int
    flops: int
    segments: int | None
    flops_backward: int = 0
    kept_bytes: int = 0
    gathered: int = 0
    summed: int = 0
    accumulated: int = 0
    runner: str = "lax"
    refusals: dict[str, str] = dataclasses.field(default_factory=dict)
    backward_runner: str = "lax"
    backward_refusals: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        cut = f" in {self.segments} segments" if self.segments else ""
        rows = [
            ("once, on weights alone", _listed(self.once)),
            ("before, many steps at once", _listed(self.before)),
            ("inside, step by step", _listed(self.inside)),
            ("after, all steps at once", _listed(self.after)),
            ("arithmetic inside", f"{_scaled(self.flops_per_step, 1000)}FLOP a step"),
            (
                "arithmetic in all",
                f"{_scaled(self.flops, 1000)}FLOP forward, "
                f"{_scaled(self.flops_backward, 1000)}FLOP backward",
            ),
            ("kept for backward", f"{_scaled(self.kept_bytes, 1024)}B"),
            (
                "gradients of weights",
                f"{self.gathered} gathered after the loop, "
                f"{self.summed} summed by rows and {self.accumulated} accumulated inside it",
            ),
            ("forward runner", _chosen(self.runner, self.refusals)),
            ("backward runner", _chosen(self.backward_runner, self.backward_refusals)),
        ]
        lines = [f"  {title + ':':<28}{text}" for title, text in rows]
        return "\n".join([f"A loop of {self.length} steps{cut}", *lines])


def explain(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    *,
    runner: str | None = None,
    segments: int | str | None = None,
) -> Explanation:
    """Tell what `recurrax.scan` makes of the loop of `f` over `xs`, without running it.

    Args:
        f: one step, as for `recurrax.scan`.
        init: the carry before the first step; `jax.ShapeDtypeStruct`s may stand for arrays.
        xs: what the loop runs over; `jax.ShapeDtypeStruct`s may stand for arrays.
        length: number of steps; needed only when `xs` holds no array.
        runner: as for `recurrax.scan`.
        segments: as for `recurrax.scan`.

    Raises:
        TypeError, ValueError: as `recurrax.scan` does.
    """
    runner = plan.asked_for(runner)
    traced = step.trace(f, init, xs, length)
    number = None if segments is None else _segments.count(segments, traced.length)
    if traced.must_stay_whole:
        plan.check_possible(runner, traced.must_stay_whole)
    if runner == "lax" or traced.must_stay_whole:
        reason = traced.must_stay_whole or 'runner="lax" was asked for'
        return _plain_scan(traced, number, reason)

    parts = split.split(look_ups.worked_ahead(traced.body, traced.length))
    core = parts.core
    machine = machines.of_arrays([*traced.consts, *jax.tree.leaves((init, xs))])
    where = {"runner": runner, "machine": machine}
    steps = traced.length // (number or 1)
    flops, of_gradients = _counter_of_flops(traced, parts, runner)
    counted = Explanation(
        length=traced.length,
        once=_counted(parts.once),
        before=_counted(parts.before),
        inside=_counted(core.jaxpr),
        after=_counted(parts.after),
        flops_per_step=cost.flops(core.jaxpr),
        flops=flops,
        segments=number,
    )
    try:
        d = gradient.derivative(core, tuple(jaxprs.is_float(a) for a in core.jaxpr.in_avals))
        flops_backward = of_gradients() - flops
    except (gradient.NoWayBack, NotImplementedError, TypeError, ValueError) as error:
        forward, reason = _choice(core, steps, **where), str(error).split(". ")[0].splitlines()[0]
        return dataclasses.replace(
            counted,
            runner=forward.runner,
            refusals=forward.refusals,
            backward_runner="none",
            backward_refusals=dict.fromkeys(plan.RUNNERS, reason),
        )
    back = gradient.backward_of(d, (False,) * len(d.joint.moving_ys))
    forward = _choice(d.forward, steps, **where)
    reverse = plan.choose(plan.plain(back.body), length=steps, **where)
    whole = set(d.joint.accumulated)
    gathered = {u.const for u in d.joint.uses if u.other is not None} - whole
    summed = {u.const for u in d.joint.uses} - gathered - whole
    kept = steps * jaxprs.nbytes(v.aval for v in d.stacks)
    if number is not None:
        flops_backward += flops
        kept += number * jaxprs.nbytes(a for a in traced.body.jaxpr.out_avals[: len(traced.init)])
    return dataclasses.replace(
        counted,
        flops_backward=flops_backward,
        kept_bytes=kept,
        gathered=len(gathered),
        summed=len(summed),
        accumulated=len(whole),
        runner=forward.runner,
        refusals=forward.refusals,
        backward_runner=reverse.runner,
        backward_refusals=reverse.refusals,
    )


def _choice(body: Body, steps: int, runner: str | None, machine: Machine) -> plan.Choice:
    """The runner of a forward loop.

    Raises:
        ValueError: the caller forces the native runner, which cannot take the loop.
    """
    choice = plan.choose(plan.plain(body), length=steps, runner=runner, machine=machine)
    if choice.runner != "native" and steps > 0:
        plan.check_possible(runner, choice.refusals["native"])
    return choice


def _plain_scan(traced: step.Step, number: int | None, reason: str) -> Explanation:
    """A loop that is left to `jax.lax.scan`, which keeps and accumulates as it sees fit."""
    body = traced.body.jaxpr
    per_step = cost.flops(body)
    return Explanation(
        length=traced.length,
        once={},
        before={},
        inside=_counted(body),
        after={},
        flops_per_step=per_step,
        flops=traced.length * per_step,
        runner="lax",
        refusals={"native": reason, "xla": reason},
        backward_runner="lax",
        backward_refusals={"native": reason, "xla": reason},
        segments=number,
    )


def _counter_of_flops(
    traced: step.Step, parts: split.Split, runner: str | None
) -> tuple[int, Callable[[], int]]:
    """Floating-point operations of the forward pass; and how to count them with all gradients."""
    avals = traced.body.jaxpr.in_avals
    m, n = traced.body.num_consts, traced.body.num_consts + traced.body.num_carry
    avals = [*avals[:n], *jaxprs.stacked(avals[n:], traced.length)]
    is_float = [jaxprs.is_float(a) for a in avals]

    def forward(*args):
        how = {"length": traced.length, "reverse": False, "unroll": 1, "runner": runner}
        return split.run(parts, args[:m], args[m:n], args[n:], **how)

    def both(*args):
        def of_floats(*floats):
            given = iter(floats)
            outputs = forward(
                *(next(given) if f else a for f, a in zip(is_float, args, strict=True))
            )
            return [y for y in jax.tree.leaves(outputs) if jaxprs.is_float(y)]

        outputs, vjp = jax.vjp(of_floats, *(a for f, a in zip(is_float, args, strict=True) if f))
        return vjp(outputs)

    counted = cost.flops(jax.make_jaxpr(forward)(*avals))
    return counted, lambda: cost.flops(jax.make_jaxpr(both)(*avals))


def _counted(program: ClosedJaxpr) -> dict[str, int]:
    return dict(Counter(eqn.primitive.name for eqn in program.jaxpr.eqns).most_common())


def _listed(operations: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in operations.items()) or "nothing"


def _scaled(number: float, base: int) -> str:
    for prefix in ("", "k", "M", "G", "T"):
        if number < base or prefix == "T":
            break
        number /= base
    if base == 1024 and prefix:
        prefix = f"{prefix.upper()}i"
    return f"{number:.3g} {prefix}" if number else "0 "


def _chosen(runner: str, refusals: dict[str, str]) -> str:
    if runner == "none":
        return f"none ({refusals['lax']})"
    others = "; ".join(f"not {name}: {reason}" for name, reason in refusals.items())
    return f"{runner} ({others})" if others else runner
