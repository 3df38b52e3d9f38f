"""The transpose of what is linear in some of its arguments: its derivative there, turned round."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from recurrax.loop import compat, jaxprs
from recurrax.loop.compat import Primitive


def define_transpose(primitive: Primitive) -> None:
    """Give a `primitive` of several results that has a derivative a transpose.

    The derivative of a linear function is the same everywhere; it is taken at zero.
    """

    def rule(cts: Sequence[Any], *args: Any, **params: Any) -> list[Any]:
        linear = [i for i, a in enumerate(args) if compat.is_undefined_primal(a)]

        def of_linear(*values: Any) -> Any:
            given = list(args)
            for i, value in zip(linear, values, strict=True):
                given[i] = value
            return primitive.bind(*given, **params)

        made, vjp = jax.vjp(of_linear, *(jaxprs.zeros(args[i].aval) for i in linear))
        found = vjp([_whole(ct, y) for ct, y in zip(cts, made, strict=True)])
        result: list[Any] = [None] * len(args)
        for i, ct in zip(linear, found, strict=True):
            result[i] = ct
        return result

    compat.define_transpose(primitive, rule)


def _whole(ct: Any, y: Any) -> Any:
    if not jaxprs.is_float(y):
        return np.zeros(y.shape, jax.dtypes.float0)
    return jaxprs.zeros(jax.typeof(y)) if compat.is_zero(ct) else ct
