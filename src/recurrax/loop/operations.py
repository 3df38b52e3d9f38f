"""Kinds of operations, by the names of their primitives, as the passes tell them apart."""

PRODUCTS = frozenset({"conv_general_dilated", "dot_general", "ragged_dot"})

DRAWS = frozenset({"random_bits", "rng_bit_generator", "threefry2x32"})

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

# They say that a value may differ from device to device, and compute nothing; where they stand
# inside a loop, the gradient is summed over all devices at each step.
TYPES_OF_DEVICES = frozenset({"pvary"})
