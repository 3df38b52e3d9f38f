"""Large products over time and rows, whose weight gradient may come from the runner.

`product(a, w)` folds every leading axis of `a` into rows; its transpose with respect to `w` is
`gather(a, dz)`, the contraction over those rows, and the transposes of `gather` are products
again. Gradients of any order stay within the pair.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import JaxprEqn, Literal, Primitive
from jax.interpreters import ad, batching, mlir

from recurrax.loop import jaxprs, plan
from recurrax.loop.runners.xla import rows

product_p = Primitive("loop_product")
gather_p = Primitive("loop_gather")


def product(a: Array, w: Array, *, precision=None, runner: str | None = None) -> Array:
    """`(..., k)` times `(k, n)`: one product with all leading axes of `a` as its rows."""
    return product_p.bind(a, w, precision=precision, runner=runner)


def gather(a: Array, dz: Array, *, precision=None, runner: str | None = None) -> Array:
    """`(..., k)` and `(..., n)` to `(k, n)`: the sum over all leading axes of outer products."""
    return gather_p.bind(a, dz, precision=precision, runner=runner)


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


def _product(a, w, *, precision, runner):
    return plan.product(a, w, precision=precision, runner=runner)


def _gather(a, dz, *, precision, runner):
    return plan.gather(a, dz, precision=precision, runner=runner)


def _product_batch(args, dims, *, precision, runner):
    a, w = args
    if dims[1] is None:
        return product(jnp.moveaxis(a, dims[0], 0), w, precision=precision, runner=runner), 0
    return jax.vmap(lambda a, w: jnp.matmul(a, w, precision=precision), in_axes=dims)(a, w), 0


def _gather_batch(args, dims, *, precision, runner):
    del runner

    def contract(a, dz):
        return jnp.einsum("rk,rn->kn", rows(a), rows(dz), precision=precision)

    return jax.vmap(contract, in_axes=dims)(*args), 0


for _primitive, _function, _batch, _shape in (
    (product_p, _product, _product_batch, lambda a, w: (*a.shape[:-1], w.shape[1])),
    (gather_p, _gather, _gather_batch, lambda a, dz: (a.shape[-1], dz.shape[-1])),
):
    _primitive.def_abstract_eval(
        lambda a, b, *, precision, runner, shape=_shape: a.update(
            shape=shape(a, b), weak_type=False
        )
    )
    _primitive.def_impl(jax.jit(_function, static_argnames=("precision", "runner")))
    mlir.register_lowering(_primitive, mlir.lower_fun(_function, multiple_results=False))
    batching.primitive_batchers[_primitive] = _batch

ad.defbilinear(
    product_p,
    lambda dz, a, w, *, precision, runner: product(dz, w.T, precision=precision, runner=runner),
    lambda dz, a, w, *, precision, runner: gather(a, dz, precision=precision, runner=runner),
)
ad.defbilinear(
    gather_p,
    lambda dw, a, dz, *, precision, runner: product(dz, dw.T, precision=precision, runner=runner),
    lambda dw, a, dz, *, precision, runner: product(a, dw, precision=precision, runner=runner),
)
