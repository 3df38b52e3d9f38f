"""From a jaxpr to the nodes of an ONNX graph; a loop becomes a `Scan`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurrax.loop import compat
from recurrax.loop.compat import ClosedJaxpr, Literal
from recurrax.saving.onnx import contractions, recurrent  # noqa: F401 (they enter their rules)
from recurrax.saving.onnx.graph import Graph
from recurrax.saving.onnx.primitives import RULES, rule


def translate(graph: Graph, closed: ClosedJaxpr, names: Sequence[str]) -> list[str]:
    """The names of the outputs of `closed` in `graph`.

    Args:
        graph: where its nodes are put.
        closed: what is computed.
        names: of its inputs.

    Raises:
        ValueError: something that ONNX has no nodes for here.
    """
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.invars, names, strict=True))
    for variable, value in zip(jaxpr.constvars, closed.consts, strict=True):
        known[variable] = graph.constant(np.asarray(value))

    def name_of(atom: Any) -> str:
        if isinstance(atom, Literal):
            return graph.constant(np.asarray(atom.val, atom.aval.dtype))  # pyright: ignore
        return known[atom]

    for equation in jaxpr.eqns:
        primitive = equation.primitive.name
        found = RULES.get(primitive)
        try:
            if found is None:
                raise NotImplementedError(primitive)
            outputs = found(graph, equation, [name_of(atom) for atom in equation.invars])
        except NotImplementedError as error:
            raise ValueError(
                f"The model computes something that is not exported to ONNX: {error}. Write that "
                "part of the layer or cell with other operations of jax.numpy."
            ) from error
        known.update(zip(equation.outvars, outputs, strict=True))
    return [name_of(atom) for atom in jaxpr.outvars]


@rule(*compat.ALL_CALLS)
def _inlined(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    inner = compat.called_program(equation)
    assert inner is not None
    return translate(graph, inner, names)


@rule("scan")
def _scan(graph: Graph, equation: Any, names: list[str]) -> list[str]:
    p = equation.params
    inner: ClosedJaxpr = p["jaxpr"]
    consts, carries = compat.scan_counts(p)
    steps = len(names) - consts - carries
    if not steps:
        raise NotImplementedError("a loop over nothing but a number of steps")
    helper = graph.onnx.helper
    body = Graph(graph.onnx, graph)
    inputs = [graph.name("in") for _ in names[consts:]]
    avals = [v.aval for v in inner.jaxpr.invars][consts:]
    results = translate(body, inner, [*names[:consts], *inputs])
    outputs = [body.add("Identity", [name]) for name in results]

    def described(name: str, aval: Any) -> Any:
        sizes = [d if isinstance(d, int) else None for d in aval.shape]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(aval.dtype))
        return helper.make_tensor_value_info(name, kind, sizes)

    made = helper.make_graph(
        body.nodes,
        graph.name("body"),
        [described(n, a) for n, a in zip(inputs, avals, strict=True)],
        [described(n, v.aval) for n, v in zip(outputs, inner.jaxpr.outvars, strict=True)],
    )
    direction = int(p["reverse"])
    ys = len(results) - carries
    directions = {"scan_input_directions": [direction] * steps}
    if ys:
        directions["scan_output_directions"] = [direction] * ys
    found = graph.add(
        "Scan", names[consts:], len(results), body=made, num_scan_inputs=steps, **directions
    )
    return found if isinstance(found, list) else [found]
