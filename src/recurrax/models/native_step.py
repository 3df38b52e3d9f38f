"""A step as machine code, for few rows; what it has no form for but is of `x_t` alone, by NumPy."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import numpy as np

from recurrax.loop import compat, jaxprs
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, jaxpr_as_fun
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.runners.straight import StepFrame, StepProgram
from recurrax.models import host_step

_CONST, _X, _CARRY = range(3)
_LOOK_UPS = frozenset({"gather"})
# They only lay a const out over more elements.
_SPREADS = {"broadcast_in_dim", "iota"}

Ahead = Callable[..., list[np.ndarray]]


class NativeFrame:
    """A place in a sequence: states that a step changes. Of one thread at a time."""

    def __init__(self, program: StepProgram, ahead: Ahead | None, states: Sequence[Any]) -> None:
        self._ahead = ahead
        self._frame = frame = StepFrame(program)
        self._run, self._xs, self._ys = frame.run, frame.xs, frame.ys
        self.states = states

    def step(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Go forward one step; the outputs are arrays of their own."""
        if self._ahead is not None:
            inputs = [*inputs, *self._ahead(*inputs)]
        for own, x in zip(self._xs, inputs):  # noqa: B905 (an argument more takes its time)
            own[...] = x
        self._run()
        return list(map(np.ndarray.copy, self._ys))

    @property
    def states(self) -> Sequence[np.ndarray]:
        """What the step reads and writes, not copies of it."""
        return self._frame.carry

    @states.setter
    def states(self, states: Sequence[Any]) -> None:
        for own, state in zip(self._frame.carry, states, strict=True):
            own[...] = state

    def copy(self) -> Self:
        return type(self)(self._frame.program, self._ahead, self.states)


def compile_step(
    closed: ClosedJaxpr, consts: Sequence[np.ndarray], states: Sequence[np.ndarray]
) -> NativeFrame:
    """The program `closed` of consts, states and inputs, to new states and outputs.

    Args:
        closed: the program.
        consts: values of its first inputs, as they are now.
        states: values of the next ones, to begin with.

    Raises:
        Unsupported: an operation or a dtype that has no native form.
    """
    flat = jaxprs.inlined(closed, derivatives=True)

    def compiled(early: frozenset[str]) -> NativeFrame:
        body, values, ahead = _parted(flat, consts, len(states), early)
        return NativeFrame(StepProgram(body, values), ahead, states)

    try:
        return compiled(_LOOK_UPS)
    except Unsupported:
        if not any(eqn.primitive.name in _LOOK_UPS for eqn in flat.jaxpr.eqns):
            raise
    return compiled(frozenset())


def _parted(
    closed: ClosedJaxpr, consts: Sequence[np.ndarray], num_carry: int, early: frozenset[str]
) -> tuple[Body, list[np.ndarray], Ahead | None]:
    """The step itself, the consts that it takes, and what NumPy does ahead of it.

    What depends on consts alone is computed here, once. Operations `early` of x_t are done ahead;
    their results are further inputs of the step.
    """
    jaxpr = closed.jaxpr
    if jaxpr.effects:
        raise Unsupported("it has effects")
    given = [*closed.consts, *consts]
    m, n = len(consts), len(consts) + num_carry
    const_vars = [*jaxpr.constvars, *jaxpr.invars[:m]]
    carry_vars, x_vars = jaxpr.invars[m:n], jaxpr.invars[n:]
    kinds: dict[Any, int] = dict.fromkeys(const_vars, _CONST)
    kinds |= dict.fromkeys(carry_vars, _CARRY) | dict.fromkeys(x_vars, _X)
    once, ahead, inside = [], [], []
    for eqn in jaxpr.eqns:
        kind = max((kinds[v] for v in jaxprs.variables(eqn.invars)), default=_CONST)
        kinds.update(dict.fromkeys(eqn.outvars, kind))
        if kind == _CONST and eqn.primitive.name not in _SPREADS:
            once += eqn.outvars
        elif kind == _X and eqn.primitive.name in early:
            ahead += eqn.outvars
        else:
            inside.append(eqn)
    fixed, moving = [*const_vars, *once], [*carry_vars, *x_vars, *ahead]
    core, used = compat.dce(
        jaxprs.subjaxpr(jaxpr, [*fixed, *moving], jaxpr.outvars, inside).jaxpr,
        [True] * len(jaxpr.outvars),
        [False] * len(fixed) + [True] * len(moving),
    )

    def part(invars: Sequence[Any], outvars: Sequence[Any], most: int) -> ClosedJaxpr:
        """What gives `outvars`, out of equations of a kind up to `most`."""
        eqns = [e for e in jaxpr.eqns if all(kinds[v] <= most for v in e.outvars)]
        return jaxprs.without_dead_code(jaxprs.subjaxpr(jaxpr, invars, outvars, eqns))

    wanted = [v for v, is_used in zip(fixed, used, strict=False) if is_used]
    known = dict(zip(const_vars, given, strict=True))
    derived = [v for v in wanted if v not in known]
    if derived:
        results = _evaluated(part(const_vars, derived, _CONST), given)
        known.update(zip(derived, results, strict=True))
    values = [np.asarray(known[v]) for v in wanted]
    body = Body(ClosedJaxpr(core, []), len(wanted), num_carry)
    if not ahead:
        return body, values, None
    looking_up = part([*const_vars, *x_vars], ahead, _X)
    return body, values, host_step.compile_step(looking_up, given)


def _evaluated(program: ClosedJaxpr, inputs: Sequence[np.ndarray]) -> Sequence[Any]:
    """The outputs of `program`, by NumPy where that will do: XLA has to compile it first."""
    try:
        return host_step.compile_step(program, inputs)()
    except Unsupported:
        return jax.jit(jaxpr_as_fun(program))(*inputs)
