"""Cost: floating-point operations of a program, counted on its jaxpr."""

import math
from typing import Any

from recurrax.loop import jaxprs, operations, together
from recurrax.loop.compat import ClosedJaxpr, Jaxpr, JaxprEqn, jaxprs_in_params

# Like layout: they read and write single elements.
_FREE = operations.LAYOUT | {"dynamic_slice", "dynamic_update_slice", "gather"}


def flops(program: ClosedJaxpr | Jaxpr) -> int:
    """Floating-point operations: two for each term of a product, one for each other element."""
    return sum(_flops(eqn) for eqn in program.eqns)


def _flops(eqn: JaxprEqn) -> int:
    name, params = eqn.primitive.name, eqn.params
    held = together.parts(eqn)
    if held is not None:
        return flops(held)
    if name in ("loop", "scan"):
        return params["length"] * flops(params["jaxpr"])
    if name == "cond":
        return max(flops(branch) for branch in params["branches"])
    inner = list(jaxprs_in_params(params))
    if inner:
        return sum(flops(program) for program in inner)
    if name in _FREE or not eqn.outvars:
        return 0
    ins: list[Any] = [jaxprs.aval(v) for v in eqn.invars]
    out: Any = jaxprs.aval(eqn.outvars[0])
    if name == "dot_general":
        contracted = params["dimension_numbers"][0][0]
        return 2 * out.size * math.prod(ins[0].shape[i] for i in contracted)
    if name == "loop_product":
        return 2 * out.size * ins[0].shape[-1]
    if name == "loop_add_up":
        return ins[1].size
    if name == "loop_gather":
        return 2 * ins[0].size * params["width"]
    if name == "conv_general_dilated":
        channels = ins[1].shape[params["dimension_numbers"].rhs_spec[0]]
        return 2 * out.size * ins[1].size // channels
    if name.startswith(("reduce_", "cum")):
        return ins[0].size
    return out.size
