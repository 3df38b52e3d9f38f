"""Products, convolutions and look-ups as ONNX nodes."""

import string
from typing import Any

import numpy as np

from recurrax.saving.onnx.graph import Graph, same_shape
from recurrax.saving.onnx.primitives import part_from, rule


@rule("dot_general")
def _dot_general(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    (lhs_sum, rhs_sum), (lhs_batch, rhs_batch) = equation.params["dimension_numbers"]
    left, right = (len(v.aval.shape) for v in equation.invars)
    plain = not lhs_batch and right == 2 and tuple(rhs_sum) == (0,)
    if plain and tuple(lhs_sum) == (left - 1,) and left > 1:
        return [graph.add("MatMul", names)]
    letters = iter(string.ascii_letters)
    of_left = [next(letters) for _ in range(left)]
    of_right = [next(letters) for _ in range(right)]
    for a, b in zip((*lhs_sum, *lhs_batch), (*rhs_sum, *rhs_batch), strict=True):
        of_right[b] = of_left[a]
    result = [of_left[a] for a in lhs_batch]
    result += [x for a, x in enumerate(of_left) if a not in (*lhs_sum, *lhs_batch)]
    result += [x for a, x in enumerate(of_right) if a not in (*rhs_sum, *rhs_batch)]
    text = f"{''.join(of_left)},{''.join(of_right)}->{''.join(result)}"
    return [graph.add("Einsum", names, equation=text)]


@rule("gather")
def _gather(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    """One part of an array, or `take` along one axis, with or without axes of samples."""
    operand, indices = (v.aval for v in equation.invars)
    numbers = equation.params["dimension_numbers"]
    sizes = equation.params["slice_sizes"]
    axes, rank = numbers.start_index_map, len(indices.shape) - 1
    dropped, aligned = numbers.collapsed_slice_dims, numbers.operand_batching_dims
    if rank == 0 and not aligned:
        starts = graph.cast(names[1], "int64")
        part = part_from(graph, names[0], starts, [sizes[a] for a in axes], axes)
        return [graph.add("Squeeze", [part, graph.axes(dropped)]) if dropped else part]
    if len(axes) != 1 or tuple(dropped) != tuple(axes):
        raise NotImplementedError("gather along several axes")
    (axis,) = axes
    rest = [d for d in range(len(operand.shape)) if d != axis and d not in aligned]
    if not same_shape([sizes[d] for d in rest], [operand.shape[d] for d in rest]):
        raise NotImplementedError("gather of parts of rows")
    index = graph.add("Squeeze", [names[1], graph.axes([rank])])
    if isinstance(operand.shape[axis], int | np.integer):
        # Clipped as in JAX, where ONNX would stop.
        last = graph.constant(np.asarray(operand.shape[axis] - 1, indices.dtype))
        index = graph.add("Min", [index, last])
        index = graph.add("Max", [index, graph.constant(np.asarray(0, indices.dtype))])
    if aligned:
        return [_along(graph, equation, names[0], index, axis, rest)]
    expected = [*range(axis), *range(axis + rank, rank + len(operand.shape) - 1)]
    if list(numbers.offset_dims) != expected:
        raise NotImplementedError("gather into other places")
    return [graph.add("Gather", [names[0], index], axis=axis)]


def _along(graph: Graph, equation: Any, x: str, index: str, axis: int, rest: list[int]) -> str:
    """`take_along_axis`: the other axes of the operand are those of the indices."""
    numbers = equation.params["dimension_numbers"]
    aligned = list(numbers.operand_batching_dims)
    count = len(equation.invars[1].aval.shape) - 1
    in_order = aligned == list(numbers.start_indices_batching_dims) == list(range(len(aligned)))
    if (
        not in_order
        or axis != len(aligned)
        or count != axis + 1
        or rest != [*range(axis + 1, len(equation.invars[0].aval.shape))]
    ):
        raise NotImplementedError("gather along an axis among others")
    if not rest:
        return graph.add("GatherElements", [x, index], axis=axis)
    wide = graph.add("Unsqueeze", [index, graph.axes(rest)])
    wide = graph.add("Expand", [wide, graph.shape(equation.outvars[0].aval.shape)])
    return graph.add("GatherElements", [x, wide], axis=axis)


@rule("conv_general_dilated")
def _convolution(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    p = equation.params
    numbers = p["dimension_numbers"]
    if any(d != 1 for d in p["lhs_dilation"]) or p["batch_group_count"] != 1:
        raise NotImplementedError("a transposed convolution")
    x = graph.add("Transpose", [names[0]], perm=list(numbers.lhs_spec))
    kernel = graph.add("Transpose", [names[1]], perm=list(numbers.rhs_spec))
    pads = [low for low, _ in p["padding"]] + [high for _, high in p["padding"]]
    y = graph.add(
        "Conv",
        [x, kernel],
        strides=list(p["window_strides"]),
        dilations=list(p["rhs_dilation"]),
        pads=[int(pad) for pad in pads],
        group=p["feature_group_count"],
    )
    return [graph.add("Transpose", [y], perm=np.argsort(numbers.out_spec).tolist())]
