"""The loop as one JAX primitive: lowered by the plan, batched by batching its body."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.loop import compat, fallback, jaxprs, linear, lowering, plan
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr, Jaxpr, Literal, Primitive, jaxpr_as_fun
from recurrax.loop.runners import xla
from recurrax.loop.turned import turned

loop_p = Primitive("loop")
loop_p.multiple_results = True


def loop(
    body: Body,
    consts: Sequence[Array],
    carry: Sequence[Array],
    xs: Sequence[Array],
    *,
    length: int,
    reverse: bool,
    unroll: int | bool,
    runner: str | None,
    swapped: tuple[int, ...] = (),
) -> tuple[list[Array], list[Array]]:
    """Run `body` over the leading axis of `xs`; differentiable (`gradient.py`) and batchable.

    The xs and ys (counted after the xs) `swapped` are held as (batch, time, ...) outside the loop.
    """
    outputs = loop_p.bind(
        *consts,
        *carry,
        *xs,
        jaxpr=body.jaxpr,
        num_consts=body.num_consts,
        num_carry=body.num_carry,
        length=length,
        reverse=reverse,
        unroll=unroll,
        runner=runner,
        swapped=swapped,
    )
    return outputs[: body.num_carry], outputs[body.num_carry :]


def _run(*args, jaxpr, num_consts, num_carry, length, reverse, unroll, runner, machine, swapped):
    body = Body(jaxpr, num_consts, num_carry)
    n = num_consts + num_carry
    carry, ys = plan.run(
        body,
        args[:num_consts],
        args[num_consts:n],
        args[n:],
        length=length,
        reverse=reverse,
        unroll=unroll,
        runner=runner,
        machine=machine,
        swapped=swapped,
    )
    return [*carry, *ys]


def by_lax(*args, jaxpr, num_consts, num_carry, length, reverse, unroll, runner, swapped):
    """The same by JAX alone, with none of the passes."""
    del runner, swapped
    body = Body(jaxpr, num_consts, num_carry)
    consts, carry, xs, _ = body.shared_out(args)
    how = {"length": length, "reverse": reverse, "unroll": unroll}
    last, ys = xla.run(body, consts, carry, xs, **how, on_cpu=False)
    return [*last, *ys]


def _abstract_eval(*_, jaxpr, num_carry, length, **params):
    del params
    carry, ys = jaxpr.out_avals[:num_carry], jaxpr.out_avals[num_carry:]
    return [*carry, *jaxprs.stacked(ys, length)], jaxpr.effects


def _batch(axis, args, dims, **params):
    def instead():
        outputs = jaxprs.vmapped(functools.partial(by_lax, **params), axis, dims)(*args)
        return outputs, [0] * len(outputs)

    return fallback.guarded(
        lambda: _batch_by_loops(axis, args, dims, **params),
        instead,
        "batching a loop",
        fallback.BY_LAX,
    )


def _batch_by_loops(axis, args, dims, *, jaxpr, num_consts, num_carry, **params):
    """Batch the body, and run the batched body as any other loop."""
    n = num_consts + num_carry
    given = [d is not None for d in dims]
    batched, out_batched = depends(jaxpr.jaxpr, given, num_consts, num_carry)

    def moved(i, x):
        if dims[i] is not None:
            return jnp.moveaxis(x, dims[i], 1 if i >= n else 0)
        return jnp.broadcast_to(x, (axis.size, *x.shape)) if batched[i] else x

    body = _batched_body(jaxpr, tuple(batched), tuple(out_batched), axis)
    outputs = loop_p.bind(
        *(moved(i, x) for i, x in enumerate(args)),
        jaxpr=body,
        num_consts=num_consts,
        num_carry=num_carry,
        **params,
    )
    out_dims = [None if not b else 0 if i < num_carry else 1 for i, b in enumerate(out_batched)]
    return outputs, out_dims


def depends(
    jaxpr: Jaxpr, inputs: Sequence[bool], num_consts: int, num_carry: int
) -> tuple[list[bool], list[bool]]:
    """Which inputs and outputs of a loop over `jaxpr` depend on the marked inputs."""
    inputs, carried = list(inputs), slice(num_consts, num_consts + num_carry)
    # A carry does as soon as a step makes it.
    while True:
        outputs = _depends(jaxpr, inputs)
        carry = [a or b for a, b in zip(inputs[carried], outputs, strict=False)]
        if carry == inputs[carried]:
            return inputs, [*carry, *outputs[num_carry:]]
        inputs[carried] = carry


def _depends(jaxpr: Jaxpr, inputs: Sequence[bool]) -> list[bool]:
    """Which outputs of `jaxpr` depend on the marked inputs."""
    marked = {v for v, m in zip(jaxpr.invars, inputs, strict=True) if m}
    for eqn in jaxpr.eqns:
        if any(v in marked for v in jaxprs.variables(eqn.invars)):
            marked.update(eqn.outvars)
    return [not isinstance(a, Literal) and a in marked for a in jaxpr.outvars]


@functools.lru_cache(maxsize=256)
def _batched_body(jaxpr: ClosedJaxpr, inputs: tuple, outputs: tuple, axis: Any) -> ClosedJaxpr:
    step = jaxprs.vmapped(
        lambda *args: tuple(jaxpr_as_fun(jaxpr)(*args)),
        axis,
        [0 if b else None for b in inputs],
        tuple(0 if b else None for b in outputs),
    )
    avals = [
        a.update(shape=(axis.size, *a.shape)) if b else a
        for a, b in zip(jaxpr.in_avals, inputs, strict=True)
    ]
    return turned(jaxprs.inlined(jax.make_jaxpr(step)(*avals)))


loop_p.def_effectful_abstract_eval(_abstract_eval)
loop_p.def_impl(compat.apply(loop_p))
lowering.register(loop_p, _run, of_loop=True, instead=by_lax)
compat.define_batching(loop_p, _batch)
linear.define_transpose(loop_p)
