"""Large products and sums over time and rows, which may come from the runner.

`product(a, w)` folds every leading axis of `a` into rows; its transpose with respect to `w` is
`gather(a, dz)`, the contraction over those rows, and the transposes of `gather` are products
again. Gradients of any order stay within the pair. `add_up` is the transpose of a look-up.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.loop import compat, jaxprs, lowering, plan
from recurrax.loop.compat import JaxprEqn, Literal, Primitive
from recurrax.loop.flat import flat
from recurrax.loop.runners import xla
from recurrax.loop.runners.xla import rows

product_p = Primitive("loop_product")
gather_p = Primitive("loop_gather")
add_up_p = Primitive("loop_add_up")


def product(a: Array, w: Array, *, precision=None, runner: str | None = None) -> Array:
    """`(..., k)` times `(k, n)`: one product with all leading axes of `a` as its rows."""
    return product_p.bind(a, w, precision=precision, runner=runner)


@dataclasses.dataclass(frozen=True)
class Columns:
    """`width` features of `array` from `start` on, without a copy of them."""

    array: Array
    start: int
    width: int


def whole(x: Array | Columns) -> Array:
    """`x` as an array of its own."""
    return x.array[..., x.start : x.start + x.width] if isinstance(x, Columns) else x


def gather(a: Array, dz: Array | Columns, *, precision=None, runner: str | None = None) -> Array:
    """`(..., k)` and `(..., n)` to `(k, n)`: the sum over all leading axes of outer products."""
    columns = dz if isinstance(dz, Columns) else Columns(dz, 0, dz.shape[-1])
    return gather_p.bind(
        a,
        columns.array,
        start=columns.start,
        width=columns.width,
        precision=precision,
        runner=runner,
    )


def add_up(index: Array, dz: Array, *, count: int, runner: str | None = None) -> Array:
    """Integers `(...)` and `(..., n)` to `(count, n)`: row k is the sum of `dz` where `index` is k.

    Indices are from 0 to `count - 1`.
    """
    return add_up_p.bind(index, dz, count=count, runner=runner)


def is_plain(eqn: JaxprEqn) -> bool:
    """Whether `eqn` is data `(..., k)` times a weight `(k, n)` or `(n, k)`, all of one dtype."""
    if eqn.primitive.name != "dot_general" or any(isinstance(v, Literal) for v in eqn.invars):
        return False
    a, w = (jaxprs.aval(v) for v in eqn.invars)
    (contract_a, contract_w), batch = eqn.params["dimension_numbers"]
    return (
        batch == ((), ())
        and tuple(contract_a) == (a.ndim - 1,)
        and len(contract_w) == 1
        and w.ndim == 2
        and a.dtype == w.dtype == jaxprs.aval(eqn.outvars[0]).dtype
    )


def weight_is_transposed(eqn: JaxprEqn) -> bool:
    """Whether the weight of a plain product is stored as `(n, k)`."""
    return eqn.params["dimension_numbers"][0][1][0] == 1


def _product(a, w, *, precision, runner, machine):
    return plan.product(a, w, precision=precision, runner=runner, machine=machine)


def _gather(a, dz, *, start, width, precision, runner, machine):
    how = {"precision": precision, "runner": runner, "machine": machine}
    return plan.gather(a, dz, start, width, **how)


def _product_batch(_, args, dims, *, precision, runner):
    a, w = args
    if dims[1] is None:
        return product(jnp.moveaxis(a, dims[0], 0), w, precision=precision, runner=runner), 0
    return jax.vmap(lambda a, w: jnp.matmul(a, w, precision=precision), in_axes=dims)(a, w), 0


def _gather_batch(_, args, dims, *, start, width, precision, runner):
    del runner

    def contract(a, dz):
        dz = whole(Columns(dz, start, width))
        a, dz = (flat(x) if x.ndim == 3 else rows(x) for x in (a, dz))
        return jnp.einsum("rk,rn->kn", a, dz, precision=precision)

    return jax.vmap(contract, in_axes=dims)(*args), 0


def _gather_of_a(dw, a, dz, *, start, width, precision, runner):
    """The cotangent of `a`, from the one of what was gathered."""
    del a
    return product(whole(Columns(dz, start, width)), dw.T, precision=precision, runner=runner)


def _gather_of_dz(dw, a, dz, *, start, width, precision, runner):
    features = dz.aval.shape[-1]
    around = jnp.pad(dw, ((0, 0), (start, features - start - width)))
    return product(a, around, precision=precision, runner=runner)


def _product_aval(a, w, *, precision, runner):
    del precision, runner
    return a.update(shape=(*a.shape[:-1], w.shape[1]), weak_type=False)


def _gather_aval(a, dz, *, start, width, precision, runner):
    del dz, start, precision, runner
    return a.update(shape=(a.shape[-1], width), weak_type=False)


_HOW = ("precision", "runner")
for _primitive, _function, _batch, _aval, _names in (
    (product_p, _product, _product_batch, _product_aval, _HOW),
    (gather_p, _gather, _gather_batch, _gather_aval, ("start", "width", *_HOW)),
):
    _primitive.def_abstract_eval(_aval)
    _primitive.def_impl(jax.jit(_primitive.bind, static_argnames=_names))
    lowering.register(_primitive, _function, multiple_results=False)
    compat.define_batching(_primitive, _batch)


def _add_up(index, dz, *, count, runner, machine):
    return plan.add_up(index, dz, count=count, runner=runner, machine=machine)


def _add_up_batch(_, args, dims, *, count, runner):
    del runner
    return jax.vmap(lambda index, dz: xla.add_up(index, dz, count=count), in_axes=dims)(*args), 0


add_up_p.def_abstract_eval(
    lambda index, dz, *, count, runner: dz.update(shape=(count, dz.shape[-1]), weak_type=False)
)
add_up_p.def_impl(jax.jit(add_up_p.bind, static_argnames=("count", "runner")))
lowering.register(add_up_p, _add_up, multiple_results=False)
compat.define_batching(add_up_p, _add_up_batch)


def _add_up_transpose(dt, index, dz, *, count, runner):
    del dz, count, runner
    return None, jnp.take(dt, index, axis=0, mode="clip")


def _add_up_jvp(primals, tangents, **params):
    dz = compat.instantiate_zeros(tangents[1])
    return add_up_p.bind(*primals, **params), add_up_p.bind(primals[0], dz, **params)


compat.define_jvp(add_up_p, _add_up_jvp)
compat.define_transpose(add_up_p, _add_up_transpose)

compat.define_bilinear(
    product_p,
    lambda dz, a, w, *, precision, runner: product(dz, w.T, precision=precision, runner=runner),
    lambda dz, a, w, *, precision, runner: gather(a, dz, precision=precision, runner=runner),
)
compat.define_bilinear(gather_p, _gather_of_a, _gather_of_dz)
