"""`dot_general`: products with a weight, and products of two values of the step."""

import itertools
from collections.abc import Sequence

from recurrax.loop.native.axes import Rows
from recurrax.loop.native.graph import MAX_PIECES, Graph, Value, Weight
from recurrax.loop.native.inline import Equation
from recurrax.loop.native.memory import register_type
from recurrax.loop.native.structure import reduce_axes
from recurrax.loop.native.tensor import Fixed, Tensor, as_value, from_view
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.native.views import View


def product(graph: Graph, rows: Rows, eqn: Equation, tensors: Sequence[Tensor]) -> Tensor:
    """A product: with a matrix when one side is fixed, else summed feature by feature."""
    left, right = tensors
    kind = register_type(eqn.outputs[0].dtype)
    if kind not in ("f32", "f64") or not left.kind == right.kind == kind:
        raise Unsupported("products are of float32 or float64, with a weight of the same")
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    ours = [rows.features(x) for x in eqn.inputs]
    sums = [[ours[0].index(k) for k in left_sum], [ours[1].index(k) for k in right_sum]]
    batch = [
        [f.index(k) for k in axes if k in f]
        for f, axes in zip(ours, (left_batch, right_batch), strict=True)
    ]
    free = [
        [k for k in range(len(f)) if k not in s and k not in b]
        for f, s, b in zip(ours, sums, batch, strict=True)
    ]
    if right.fixed is not None and left.fixed is None:
        return _with_weight(graph, left, right.fixed, sums, batch, free)
    if left.fixed is not None and right.fixed is None:
        swapped = [pair[::-1] for pair in (sums, batch, free)]
        result = _with_weight(graph, right, left.fixed, *swapped)
        return _free_swapped(graph, result, len(batch[0]), len(free[1]), len(free[0]))
    return _of_values(graph, left, right, sums, batch, free)


def _free_swapped(graph: Graph, tensor: Tensor, batch: int, first: int, second: int) -> Tensor:
    """(batch, first, second) as (batch, second, first)."""
    order = [
        *range(batch),
        *range(batch + first, batch + first + second),
        *range(batch, batch + first),
    ]
    view = View.whole(tensor.shape).permuted(order)
    assert tensor.value is not None
    return Tensor(view.shape, value=from_view(graph, tensor.value, view))


def _with_weight(graph: Graph, tensor: Tensor, fixed: Fixed, sums, batch, free) -> Tensor:
    value, view = as_value(graph, tensor), View.whole(tensor.shape)
    summed = view.permuted(sums[0])
    shape = (
        *(tensor.shape[k] for k in batch[0]),
        *(tensor.shape[k] for k in free[0]),
        *(fixed.view.shape[k] for k in free[1]),
    )
    into = fixed.view.permuted(sums[1]).merged()
    out = fixed.view.permuted(free[1]).merged()
    blocks = [range(fixed.view.shape[k]) for k in batch[1]]
    others = list(view.permuted(free[0]).offsets())
    outer = list(View(out.shape[:-1], out.strides[:-1]).offsets())
    if len(into.shape) > 1:
        raise Unsupported("the axes that it sums over are strewn in the weight")
    count = len(others) * len(outer)
    for block in blocks:
        count *= len(block)
    if count > MAX_PIECES:
        raise Unsupported(f"it is {count} products for each row")
    width = out.shape[-1] if out.shape else 1
    pieces = []
    for index in itertools.product(*blocks):
        at = sum(i * view.strides[k] for i, k in zip(index, batch[0], strict=True))
        weight_at = fixed.view.offset
        weight_at += sum(i * fixed.view.strides[k] for i, k in zip(index, batch[1], strict=True))
        for other in others:
            operand = _row(graph, value, View(summed.shape, summed.strides, at + other))
            for column in outer:
                weight = Weight(
                    index=fixed.source.index,
                    dtype=fixed.source.dtype,
                    offset=weight_at + column,
                    inputs=summed.size,
                    outputs=width,
                    input_stride=into.strides[0] if into.shape else 1,
                    output_stride=out.strides[-1] if out.shape else 1,
                )
                pieces.append((graph.dot(operand, weight), width))
    return Tensor(shape, value=graph.concat(pieces))


def _row(graph: Graph, value: Value, view: View) -> Value:
    """The operand of a product: as many features as the weight has inputs, none left implied."""
    operand = from_view(graph, value, view)
    return operand if operand.width == view.size else graph.concat([(operand, view.size)])


def _of_values(graph: Graph, left: Tensor, right: Tensor, sums, batch, free) -> Tensor:
    shape = (
        *(left.shape[k] for k in batch[0]),
        *(left.shape[k] for k in free[0]),
        *(right.shape[k] for k in free[1]),
        *(left.shape[k] for k in sums[0]),
    )
    done = len(shape) - len(sums[0])
    places = (
        [*range(len(batch[0])), *range(len(batch[0]), len(batch[0]) + len(free[0]))],
        [*range(len(batch[1])), *range(len(batch[0]) + len(free[0]), done)],
    )
    spread = []
    for tensor, side in ((left, 0), (right, 1)):
        view = View.whole(tensor.shape).permuted([*batch[side], *free[side], *sums[side]])
        place = [*places[side], *range(done, len(shape))]
        spread.append(from_view(graph, as_value(graph, tensor), view.broadcast(shape, place)))
    kind = left.kind
    terms = Tensor(shape, value=graph.map("mul", spread, kind))
    return reduce_axes(graph, terms, range(done), range(done, len(shape)), "sum")
