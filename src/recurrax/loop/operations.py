"""Kinds of operations, by the names of their primitives, as the passes tell them apart."""

from typing import Any

from jax import lax

PRODUCTS = frozenset({"conv_general_dilated", "dot_general", "ragged_dot_general"})

DRAWS = frozenset({"random_bits", "rng_bit_generator", "threefry2x32"})

# They may give something else each time, or cost nobody knows what: what they gave is kept.
OPAQUE = frozenset({"buffer_callback", "call_exported", "ffi_call", "pure_callback", "rng_uniform"})

SUMS = frozenset({"add", "add_any"})

# They take operands of one shape, or with axes of size 1 that they repeat.
ELEMENTWISE_OF_SEVERAL = SUMS | {"atan2", "div", "max", "min", "mul", "pow", "sub"}

ELEMENTWISE = ELEMENTWISE_OF_SEVERAL | {
    "abs",
    "and",
    "ceil",
    "clamp",
    "cos",
    "custom_jvp_call",
    "eq",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "ge",
    "gt",
    "integer_pow",
    "is_finite",
    "le",
    "log",
    "log1p",
    "logistic",
    "lt",
    "ne",
    "neg",
    "not",
    "or",
    "round",
    "rsqrt",
    "sign",
    "sin",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "xor",
}

REDUCTIONS = frozenset(
    {"reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum"}
)

# They move values and compute none.
LAYOUT = frozenset(
    {
        "broadcast_in_dim",
        "concatenate",
        "convert_element_type",
        "copy",
        "iota",
        "name",
        "pad",
        "reshape",
        "rev",
        "select_n",
        "slice",
        "split",
        "squeeze",
        "stop_gradient",
        "transpose",
    }
)

# Their results move wherever an operand does. Of others JAX is asked (`moving.py`).
SMOOTH = (
    PRODUCTS
    | (ELEMENTWISE - {"ceil", "custom_jvp_call", "floor", "round", "sign"})
    | REDUCTIONS
    | (LAYOUT - {"stop_gradient"})
)

# They say how a value lies on devices, and compute nothing. Where it may differ from device to
# device (`pvary`) inside a loop, the gradient is summed over all devices at each step. `reshard`
# stands where a derivative meets a mesh; arrays that it does divide are left to `lax.scan`.
TYPES_OF_DEVICES = frozenset({"pvary", "reshard"})
_MODES = (lax.GatherScatterMode.CLIP, lax.GatherScatterMode.PROMISE_IN_BOUNDS)


def picks_rows(gather: dict[str, Any], table: tuple[int, ...], index: tuple[int, ...]) -> bool:
    """Whether a `gather` of these parameters and shapes puts whole rows of a matrix in the place of
    integers: (rows, n) and (..., 1) to (..., n)."""
    numbers = gather["dimension_numbers"]
    return (
        len(table) == 2
        and index[-1:] == (1,)
        and tuple(numbers.offset_dims) == (len(index) - 1,)
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
        and tuple(gather["slice_sizes"]) == (1, table[1])
        and gather["mode"] in _MODES
    )
