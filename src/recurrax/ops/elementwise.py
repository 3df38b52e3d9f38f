"""Operations on each element: shapes broadcast, as in NumPy."""

from typing import Any

import jax.numpy as jnp
import jax.scipy.special as special
from jax import Array, lax

from recurrax.ops.dispatch import binary, in_order, op


def _clip(x: Any, x_min: Any, x_max: Any) -> Array:
    """`x` limited to `[x_min, x_max]`."""
    return jnp.clip(x, x_min, x_max)


def _erfinv(x: Any) -> Array:
    """The inverse of `erf`."""
    return special.erfinv(x)


absolute = abs = op(jnp.abs)
add = binary(jnp.add)
arccos = op(jnp.arccos)
arccosh = op(jnp.arccosh)
arcsin = op(jnp.arcsin)
arcsinh = op(jnp.arcsinh)
arctan = op(jnp.arctan)
arctan2 = binary(jnp.arctan2)
arctanh = op(jnp.arctanh)
bitwise_and = binary(jnp.bitwise_and)
bitwise_or = binary(jnp.bitwise_or)
bitwise_xor = binary(jnp.bitwise_xor)
ceil = op(jnp.ceil)
clip = op(_clip)
conj = conjugate = op(jnp.conj)
cos = op(jnp.cos)
cosh = op(jnp.cosh)
divide = true_divide = binary(jnp.divide)
divide_no_nan = binary(lambda x1, x2: jnp.where(x2 == 0, 0, x1 / jnp.where(x2 == 0, 1, x2)))
equal = binary(jnp.equal)
erf = op(special.erf)
erfinv = op(_erfinv)
exp = op(jnp.exp)
exp2 = op(jnp.exp2)
expm1 = op(jnp.expm1)
floor = op(jnp.floor)
floor_divide = binary(jnp.floor_divide)
greater = binary(jnp.greater)
greater_equal = binary(jnp.greater_equal)
heaviside = binary(jnp.heaviside)
hypot = binary(jnp.hypot)
imag = op(jnp.imag)
isclose = binary(jnp.isclose)
isfinite = op(jnp.isfinite)
isinf = op(jnp.isinf)
isnan = op(jnp.isnan)
less = binary(jnp.less)
less_equal = binary(jnp.less_equal)
log = op(jnp.log)
log10 = op(jnp.log10)
log1p = op(jnp.log1p)
log2 = op(jnp.log2)
logaddexp = binary(jnp.logaddexp)
logical_and = binary(jnp.logical_and)
logical_not = op(jnp.logical_not)
logical_or = binary(jnp.logical_or)
logical_xor = binary(jnp.logical_xor)
maximum = binary(jnp.maximum)
minimum = binary(jnp.minimum)
mod = binary(jnp.mod)
multiply = binary(jnp.multiply)
nan_to_num = op(in_order(jnp.nan_to_num, "nan", "posinf", "neginf"))
negative = op(jnp.negative)
not_equal = binary(jnp.not_equal)
power = binary(jnp.power)
real = op(jnp.real)
reciprocal = op(jnp.reciprocal)
round = op(jnp.round)
rsqrt = op(lax.rsqrt)
sign = op(jnp.sign)
sin = op(jnp.sin)
sinh = op(jnp.sinh)
sqrt = op(jnp.sqrt)
square = op(jnp.square)
squared_difference = binary(lambda x1, x2: jnp.square(x1 - x2))
subtract = binary(jnp.subtract)
tan = op(jnp.tan)
trunc = op(jnp.trunc)
where = op(jnp.where, tensors=3)
