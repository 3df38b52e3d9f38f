"""Rows of a table, picked by an integer in each row."""

from collections.abc import Sequence

from recurrax.loop.native import integers
from recurrax.loop.native.graph import Graph, Table, Value, check_counts
from recurrax.loop.native.inline import Equation
from recurrax.loop.native.tensor import Tensor, as_value
from recurrax.loop.operations import picks_rows


def picks_fixed_rows(eqn: Equation, table: Tensor) -> bool:
    """Whether whole rows of an argument are picked that is the same at every step."""
    picks = picks_rows(eqn.params, eqn.inputs[0].shape, eqn.inputs[1].shape)
    return picks and table.fixed is not None and table.fixed.view.strides[1] == 1


def looked_up(graph: Graph, eqn: Equation, inputs: Sequence[Tensor], shape) -> Tensor:
    """The rows that the integers pick: the first or last where they lie outside the table."""
    table, index = inputs
    fixed = table.fixed
    assert fixed is not None
    whole = as_value(graph, index)
    count, width = fixed.view.shape
    check_counts(whole, count)
    place = Table(fixed.source.index, fixed.source.dtype, fixed.view.offset, fixed.view.strides[0])
    largest, least = (integers.named(n, eqn.inputs[1].dtype.name) for n in ("max", "min"))
    lowest, last = (graph.number(n, whole.kind) for n in (0, count - 1))
    rows: list[tuple[Value, int]] = []
    for k in range(whole.width):
        row = graph.map(largest, (graph.slice(whole, k, 1), lowest), whole.kind)
        row = graph.map(least, (row, last), whole.kind)
        rows.append((graph.look_up(row, place, width, table.kind), width))
    return Tensor(shape, value=graph.concat(rows))
