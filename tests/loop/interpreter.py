"""Run a program equation by equation with NumPy: the compiler's passes without XLA.

Loops run in Python, or as `loops(operands, **params)` runs them, unless that gives None. A
primitive without a line here is left to JAX, which compiles it.
"""

import string

import jax
import jax.extend
import numpy as np
import scipy.special
from jax.extend.core import ClosedJaxpr, Literal

from recurrax.loop import compat, jaxprs, together

_LOOPS = ("scan", "loop")
_KNOWN = ("bool", "int32", "int64", "uint32", "float32", "float64")


def traced(function, *args):
    """`function(*args)` as a program: called, it is interpreted, with `loops` if given."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)

    def program(loops=lambda operands, **params: None):
        with np.errstate(all="ignore"):
            outputs = _evaluate(closed, jax.tree.leaves(args), loops)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return program


def run(function, *args, **options):
    """`function(*args)`, traced and then interpreted."""
    return traced(function, *args)(**options)


def opened(closed):
    """A program with its parts in the place of all that is held together until lowering."""

    def rule(eqn, operands):
        parts = together.parts(eqn)
        return None if parts is None else jaxprs.called(parts, operands, rule)

    return jax.make_jaxpr(lambda *args: jaxprs.called(closed, args, rule))(*closed.in_avals)


def _evaluate(closed, args, loops):
    closed = closed if isinstance(closed, ClosedJaxpr) else ClosedJaxpr(closed, [])
    jaxpr = closed.jaxpr
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args], strict=True))

    def read(atom):
        return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        name, params, operands = eqn.primitive.name, eqn.params, [read(a) for a in eqn.invars]
        parts = together.parts(eqn)
        called = compat.called_program(eqn)
        if called is not None:
            outputs = _evaluate(called, operands, loops)
        elif parts is not None:
            outputs = loops.at_once(eqn, operands) if hasattr(loops, "at_once") else None
            outputs = _evaluate(parts, operands, loops) if outputs is None else outputs
        elif name in _LOOPS:
            outputs = loops(operands, **params) if name == "loop" else None
            outputs = _loop(operands, loops, **params) if outputs is None else outputs
        elif name in _PRIMITIVES and not any(_is_strange(a) for a in operands):
            outputs = _PRIMITIVES[name](*map(np.asarray, operands), **params)
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
        else:
            outputs = eqn.primitive.bind(*operands, **params)
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _gather(a, dz, *, start, width, **_):
    return np.tensordot(a, dz[..., start : start + width], 2 * [list(range(a.ndim - 1))])


def _is_strange(x):
    """Whether NumPy does not know what `x` is made of (random keys), or not as XLA does."""
    return x.dtype not in _KNOWN


def _loop(args, loops, *, jaxpr, length, reverse, **params):
    num_consts, num_carry = compat.scan_counts(params)
    n = num_consts + num_carry
    carry, ys = list(args[num_consts:n]), [[]] * length
    for t in reversed(range(length)) if reverse else range(length):
        outputs = _evaluate(jaxpr, [*args[:num_consts], *carry, *(x[t] for x in args[n:])], loops)
        carry, ys[t] = outputs[:num_carry], outputs[num_carry:]
    return [*carry, *(np.stack(y) for y in zip(*ys, strict=True))]


def _broadcast(x, *, shape, broadcast_dimensions, **_):
    into = [1] * len(shape)
    for axis, place in enumerate(broadcast_dimensions):
        into[place] = x.shape[axis]
    return np.broadcast_to(x.reshape(into), shape)


def _product(a, b, *, dimension_numbers, **_):
    (sum_a, sum_b), (batch_a, batch_b) = dimension_numbers
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in a.shape]
    right = [next(letters) for _ in b.shape]
    for i, j in (*zip(sum_a, sum_b, strict=True), *zip(batch_a, batch_b, strict=True)):
        right[j] = left[i]
    batch = [left[i] for i in batch_a]
    free = [c for c in (*left, *right) if (c in left) != (c in right)]
    return np.einsum(f"{''.join(left)},{''.join(right)}->{''.join([*batch, *free])}", a, b)


def _reshape(x, *, new_sizes, dimensions, **_):
    return x.transpose(range(x.ndim) if dimensions is None else dimensions).reshape(new_sizes)


def _slice(x, *, start_indices, limit_indices, strides):
    strides = strides or [1] * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, strides))]


def _split(x, *, sizes, axis):
    return np.split(x, np.cumsum(sizes)[:-1], axis)


_ONE = {
    **{n: getattr(np, n) for n in ("sin", "cos", "tanh", "exp", "log1p", "abs", "square")},
    "neg": np.negative,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "logistic": scipy.special.expit,
    "stop_gradient": lambda x: x,
}
_TWO = {
    **dict.fromkeys(("add", "add_any"), np.add),
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "eq": np.equal,
    "ne": np.not_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
}
_PRIMITIVES = {
    **{name: lambda x, f=f, **_: f(x) for name, f in _ONE.items()},
    **{name: lambda x, y, f=f, **_: f(x, y) for name, f in _TWO.items()},
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension),
    "convert_element_type": lambda x, *, new_dtype, **_: x.astype(new_dtype),
    "dot_general": _product,
    "integer_pow": lambda x, *, y: x**y,
    "loop_gather": _gather,
    "loop_product": lambda a, w, **_: a @ w,
    "reduce_max": lambda x, *, axes, **_: x.max(axes),
    "reduce_sum": lambda x, *, axes, **_: x.sum(axes, dtype=x.dtype),
    "reshape": _reshape,
    "rev": lambda x, *, dimensions: np.flip(x, dimensions),
    "slice": _slice,
    "split": _split,
    "squeeze": lambda x, *, dimensions: x.squeeze(dimensions),
    "tile": lambda x, *, reps: np.tile(x, reps),
    "transpose": lambda x, *, permutation: x.transpose(permutation),
}
_PRIMITIVES["div"] = lambda x, y: x / y if x.dtype.kind == "f" else jax.lax.div(x, y)
_PRIMITIVES["select_n"] = lambda which, *cases: (
    np.where(which, *cases[::-1]) if which.dtype == bool else jax.lax.select_n(which, *cases)
)
