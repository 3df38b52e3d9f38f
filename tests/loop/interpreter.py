"""Run a program equation by equation, loops in Python: the compiler's passes without XLA."""

import jax
import jax.extend
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

_CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "remat2": "jaxpr"}
_LOOPS = ("scan", "loop")


def run(function, *args):
    """`function(*args)`, traced and then interpreted."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    return jax.tree.unflatten(jax.tree.structure(shape), _evaluate(closed, jax.tree.leaves(args)))


def _evaluate(closed, args):
    closed = closed if isinstance(closed, ClosedJaxpr) else ClosedJaxpr(closed, [])
    jaxpr = closed.jaxpr
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args], strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        name, params, operands = eqn.primitive.name, eqn.params, [read(a) for a in eqn.invars]
        if name in _CALLS:
            outputs = _evaluate(params[_CALLS[name]], operands)
        elif name in _LOOPS:
            outputs = _loop(operands, **params)
        else:
            outputs = eqn.primitive.bind(*operands, **params)
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _loop(args, *, jaxpr, num_consts, num_carry, length, reverse, **_):
    n = num_consts + num_carry
    carry, ys = list(args[num_consts:n]), [[]] * length
    for t in reversed(range(length)) if reverse else range(length):
        outputs = _evaluate(jaxpr, [*args[:num_consts], *carry, *(x[t] for x in args[n:])])
        carry, ys[t] = outputs[:num_carry], outputs[num_carry:]
    return [*carry, *(jnp.stack(y) for y in zip(*ys, strict=True))]
