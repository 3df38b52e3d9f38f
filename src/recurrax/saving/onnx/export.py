"""`export_model`: a model as an ONNX file."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import export

from recurrax.layers.graph import replace_symbols, symbolic_leaves
from recurrax.layers.rnn import RNN
from recurrax.saving import atomic
from recurrax.saving.onnx import recurrent
from recurrax.saving.onnx.graph import OPSET, Graph
from recurrax.saving.onnx.translate import translate
from recurrax.variable import StatelessScope

_IR_VERSION = 9


def export_model(model: Any, filepath: Any) -> None:
    """Write a model as an ONNX graph, for inference.

    Axes whose size the model leaves open, those of batch and time, stay open. `LSTM`, `GRU` and
    `SimpleRNN` become the nodes of that name, other cells `Scan`s over what they compute.

    Args:
        model: the model; its inputs are known, as after an `Input`.
        filepath: where to.

    Raises:
        ImportError: the package `onnx` is missing.
        ValueError: inputs that are not known, a stateful layer, or something that ONNX has no nodes
            for.
    """
    onnx = _onnx()
    if not model.built or not model.inputs:
        raise ValueError(
            f"Model {model.name!r} does not know its inputs: begin it with an Input, or build it "
            "of symbolic tensors with Model(inputs, outputs)."
        )
    for layer in model.flatten_layers():
        if getattr(layer, "stateful", False):
            raise ValueError(
                f"Layer {layer.name!r} is stateful, which an ONNX graph cannot be: make it with "
                "stateful=False and return_state=True, and feed its states back."
            )
    inputs = symbolic_leaves(model.input)
    closed, names = _traced(model, inputs)
    graph = Graph(onnx)
    weights = [graph.constant(v.numpy(), name=path) for path, v in names.items()]
    avals = closed.in_avals[len(names) :]
    infos = [_info(onnx, t.name, a.shape, a.dtype) for t, a in zip(inputs, avals, strict=True)]
    _find_symbols(graph, inputs, avals)
    results = translate(graph, closed, [*weights, *(t.name for t in inputs)])
    outputs = []
    for name, result, aval in zip(
        _output_names(model, len(results)), results, closed.out_avals, strict=True
    ):
        graph.nodes.append(onnx.helper.make_node("Identity", [result], [name]))
        outputs.append(_info(onnx, name, aval.shape, aval.dtype))
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, model.name, infos, outputs, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="recurrax",
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(proto)
    atomic.write_bytes(os.fspath(filepath), proto.SerializeToString())


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("Exporting to ONNX needs the package onnx: pip install onnx.") from error
    return onnx


def _traced(model: Any, inputs: list[Any]) -> tuple[Any, dict[str, Any]]:
    """What the model computes for inputs of open sizes, and its variables by name."""
    named: dict[str, Any] = {}
    for variable in model.variables:
        path, number = variable.path, 1
        while path in named:
            path, number = f"{variable.path}_{number}", number + 1
        named[path] = variable
    variables = list(named.values())
    place = {id(tensor): i for i, tensor in enumerate(inputs)}

    def compute(values: list[Any], arrays: list[Any]) -> Any:
        with StatelessScope(zip(variables, values, strict=True)):
            given = replace_symbols(model.input, lambda t: arrays[place[id(t)]])
            return model(given, training=False)

    values = [v.value for v in variables]
    apart, shared = _specs(inputs, shared=False), _specs(inputs, shared=True)
    with _as_exported(model):
        if len(inputs) > 1:
            # Only sequences that are not added to each other may have different lengths.
            with contextlib.suppress(Exception):
                return jax.make_jaxpr(compute)(values, apart), named
        return jax.make_jaxpr(compute)(values, shared), named


def _specs(inputs: list[Any], shared: bool) -> list[jax.ShapeDtypeStruct]:
    """The inputs' shapes with symbols for open sizes."""
    names = {name for i, t in enumerate(inputs) for name in _symbols(t.shape, i, shared) if name}
    constraints = [f"{name} >= 1" for name in sorted(names)]
    scope = export.SymbolicScope(constraints)
    specs = []
    for i, tensor in enumerate(inputs):
        symbols = _symbols(tensor.shape, i, shared)
        text = ", ".join(s or str(n) for s, n in zip(symbols, tensor.shape, strict=True))
        shape = export.symbolic_shape(text, scope=scope) if text else ()
        specs.append(jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(tensor.dtype)))
    return specs


def _symbols(shape: Any, number: int, shared: bool) -> list[str | None]:
    """A name for each open size: `batch`, `time`, ..."""
    suffix = "" if shared or not number else f"_{number}"
    names = ["batch", f"time{suffix}", *(f"axis_{i}{suffix}" for i in range(2, len(shape)))]
    return [n if size is None else None for n, size in zip(names, shape, strict=False)]


@contextlib.contextmanager
def _as_exported(model: Any) -> Iterator[None]:
    """Inside, loops are plain ones, and layers that ONNX has nodes for are one primitive."""
    changed: list[tuple[Any, dict[str, Any]]] = []
    try:
        for layer in model.flatten_layers():
            if isinstance(layer, RNN):
                changed.append((layer, dict(layer.__dict__)))
                # Past __setattr__: what was compiled for the settings stays right.
                layer.__dict__.update(runner="lax", segments=None)
                if recurrent.can_be_node(layer):
                    layer.__dict__["call"] = functools.partial(recurrent.call, layer)
        yield
    finally:
        for layer, before in changed:
            layer.__dict__.pop("call", None)
            layer.__dict__.update(before)


def _find_symbols(graph: Graph, inputs: list[Any], avals: Any) -> None:
    """Where in the inputs each open size stands."""
    for tensor, aval in zip(inputs, avals, strict=True):
        for axis, size in enumerate(aval.shape):
            if not isinstance(size, int) and str(size) not in graph.symbols:
                shape = graph.add("Shape", [tensor.name])
                index = graph.constant(np.int64(axis))
                graph.symbols[str(size)] = graph.add("Gather", [shape, index], axis=0)


def _info(onnx: Any, name: str, shape: Any, dtype: Any) -> Any:
    sizes = [size if isinstance(size, int) else str(size) for size in shape]
    return onnx.helper.make_tensor_value_info(
        name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), sizes
    )


def _output_names(model: Any, count: int) -> list[str]:
    names = list(getattr(model, "output_names", None) or [model.layers[-1].name])
    if len(names) != count or len(set(names)) != count:
        names = [f"output_{i}" for i in range(count)]
    taken = {tensor.name for tensor in symbolic_leaves(model.input)}
    return [f"{name}_output" if name in taken else name for name in names]
