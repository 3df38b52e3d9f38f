"""A body's equations as a graph of rows: shapes are gone, features lie flat, weights are views."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from recurrax.loop import operations
from recurrax.loop.body import Body
from recurrax.loop.native import structure
from recurrax.loop.native.axes import Rows, find_rows
from recurrax.loop.native.graph import Graph, Source, Value
from recurrax.loop.native.inline import Atom, Equation, Name, Number, flatten
from recurrax.loop.native.memory import register_type
from recurrax.loop.native.products import product
from recurrax.loop.native.rewriting import rewritten
from recurrax.loop.native.tensor import Fixed, Tensor, as_value
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.native.views import View

FUNCTIONS = {
    *("tanh", "logistic", "exp", "exp2", "log", "log1p", "expm1", "erf", "erfc", "sqrt", "rsqrt"),
    *("sin", "cos", "tan", "sinh", "cosh", "pow", "div", "floor", "ceil", "round", "cbrt", "rem"),
    *("asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh", "lgamma", "nextafter"),
}
_ARITHMETIC = {"add", "sub", "mul", "max", "min", "neg", "abs", "sign", "square", "integer_pow"}
_WHOLE = _ARITHMETIC | {"div", "rem"}
_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
_LOGIC = {"and", "or", "not", "xor"}
NO_FORM = "no native form"
_KNOWN = FUNCTIONS | _WHOLE | _COMPARISONS | _LOGIC
_SAME = {"add_any": "add"}
_NOTHING = {
    *("copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision", "name"),
    *operations.TYPES_OF_DEVICES,
}
_REDUCTIONS = {
    "reduce_sum": "sum",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_and": "and",
    "reduce_or": "or",
}
_VIEWS = {"slice", "broadcast_in_dim", "transpose", "squeeze", "expand_dims", "reshape", "rev"}


@dataclasses.dataclass(frozen=True)
class Place:
    """How an argument or a result lies in memory: features of each row, and whether it has rows."""

    width: int
    dtype: str
    by_row: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A lowered body: its graph, and where every argument and result lies."""

    graph: Graph
    rows: int
    num_consts: int
    num_carry: int
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    results: tuple[Value, ...]

    def result_is_carry(self, k: int) -> bool:
        return k < self.num_carry

    def described(self) -> tuple[object, ...]:
        """All that tells this step's code from another's, as it is printed."""
        values = [
            (v.op, v.param, v.width, v.kind, [a.number for a in v.args]) for v in self.graph.values
        ]
        sizes = (self.inputs, self.outputs, self.rows, self.num_consts, self.num_carry)
        return (*sizes, values, [v.number for v in self.results])


def lower(body: Body) -> Step:
    """Lower `body`.

    Raises:
        Unsupported: naming the first equation that has no native form.
    """
    body = rewritten(body)
    program = flatten(body.jaxpr)
    rows = find_rows(body, program)
    graph = Graph()
    known: dict[Atom, Tensor] = {}
    places = []
    for index, name in enumerate(program.inputs):
        kind = "const" if index < body.num_consts else "xs"
        if kind == "xs" and index < body.num_consts + body.num_carry:
            kind = "carry"
        place = _place(rows, name)
        places.append(place)
        known[name] = _argument(graph, rows, name, kind, index, place)

    def read(atom: Atom) -> Tensor:
        if isinstance(atom, Number):
            value = graph.number(atom.value, register_type(atom.dtype))
            return Tensor(rows.feature_shape(atom), value=value)
        return known[atom]

    for equation in program.equations:
        try:
            results = _lower(graph, rows, equation, [read(x) for x in equation.inputs])
        except Unsupported as error:
            meets = rows.meet and str(error) != NO_FORM
            why = f"{error}; rows meet in this step" if meets else str(error)
            raise Unsupported(f"{_shown(equation)}: {why}") from None
        known.update(zip(equation.outputs, results, strict=True))
    outputs = tuple(_place(rows, atom) for atom in program.outputs)
    results = []
    for k, (atom, place) in enumerate(zip(program.outputs, outputs, strict=True)):
        value = as_value(graph, read(atom))
        if k < body.num_carry:
            register_type(atom.dtype)
        results.append(value)
        if value.width not in (1, place.width):
            raise Unsupported(f"result {k} has {value.width} features, not {place.width}")
    # A carry without a row axis stands in every row; it leaves with the same axes it came with.
    return Step(
        graph,
        rows.count,
        body.num_consts,
        body.num_carry,
        tuple(places),
        outputs,
        tuple(results),
    )


def _place(rows: Rows, atom: Atom) -> Place:
    name = np.dtype(atom.dtype).name
    return Place(math.prod(rows.feature_shape(atom)), name, bool(rows.of(atom)))


def _argument(graph: Graph, rows: Rows, name: Name, kind: str, index: int, place: Place) -> Tensor:
    shape = rows.feature_shape(name)
    source = Source(kind, index, place.dtype, place.by_row or kind == "carry")
    register = register_type(name.dtype)
    if kind == "const" and not place.by_row:
        fixed = Fixed(source, place.width, View.whole(shape))
        return Tensor(shape, fixed=fixed, kind=register)
    if place.width == 0:
        raise Unsupported(f"an argument of shape {name.shape} holds nothing")
    return Tensor(shape, value=graph.leaf(source, place.width, register))


def _shown(equation: Equation) -> str:
    shapes = ", ".join(str(list(x.shape)) for x in equation.inputs)
    return f"`{equation.primitive}` of {shapes}"


def _lower(graph: Graph, rows: Rows, eqn: Equation, inputs: list[Tensor]) -> list[Tensor]:
    name = _SAME.get(eqn.primitive, eqn.primitive)
    out = eqn.outputs[0]
    shape = rows.feature_shape(out)
    if name in _NOTHING:
        return inputs
    if name == "convert_element_type":
        return [_converted(graph, inputs[0], register_type(out.dtype))]
    if name in _VIEWS:
        return [structure.viewed(graph, rows, eqn, inputs[0])]
    if name == "tile":
        return [structure.tiled(graph, rows, eqn, inputs[0])]
    if name == "split":
        return structure.split(graph, rows, eqn, inputs[0])
    if name == "concatenate":
        return [structure.concatenated(graph, rows, eqn, inputs)]
    if name == "pad":
        return [structure.padded(graph, rows, eqn, inputs[0], inputs[1])]
    if name == "iota":
        return [structure.counted(graph, rows, eqn)]
    if name in _REDUCTIONS:
        return [structure.reduced(graph, rows, eqn, inputs[0], _REDUCTIONS[name])]
    if name == "dot_general":
        return [product(graph, rows, eqn, inputs)]
    return [Tensor(shape, value=_elementwise(graph, rows, name, eqn, inputs))]


def _elementwise(
    graph: Graph, rows: Rows, name: str, eqn: Equation, inputs: Sequence[Tensor]
) -> Value:
    out = eqn.outputs[0]
    pairs = zip(eqn.inputs, inputs, strict=True)
    if not inputs:
        raise Unsupported(NO_FORM)
    args = [structure.repeated(graph, rows, atom, tensor, out) for atom, tensor in pairs]
    kind = register_type(out.dtype)
    floating = args[-1].kind[0] == "f"
    if name == "select_n" and args[0].kind == "i1" and len(args) == 3:
        return graph.map("select", (args[0], args[2], args[1]), kind)
    if name == "clamp":
        low, x, high = args
        return graph.map("min", (graph.map("max", (low, x), kind), high), kind)
    if name == "integer_pow" and (floating or eqn.params["y"] >= 0):
        return graph.map(name, args, kind, int(eqn.params["y"]))
    if name == "pow" and floating and args[1].kind[0] == "i":
        args[1] = graph.map("convert", (args[1],), kind)
    if name == "is_finite":
        return graph.map(name, args, kind)
    if name == "round":
        return graph.map(name, args, kind, int(eqn.params.get("rounding_method", 0)))
    if name in _COMPARISONS:
        signed = "uint" not in np.dtype(eqn.inputs[0].dtype).name
        if signed or args[0].kind == "i32":  # small unsigned integers are widened
            return graph.map(name, args, kind)
    if name in _LOGIC and all(a.kind == args[0].kind for a in args) and not floating:
        return graph.map(name, args, kind)
    if floating and name in FUNCTIONS | _ARITHMETIC:
        return graph.map(name, args, kind)
    wide = np.dtype(eqn.outputs[0].dtype).name in ("int32", "int64")
    if name in _WHOLE and args[0].kind != "i1" and wide:
        return graph.map(name, args, kind)
    if name in _KNOWN:
        raise Unsupported(f"no native form for dtype {np.dtype(eqn.inputs[-1].dtype).name}")
    raise Unsupported(NO_FORM)


def _converted(graph: Graph, tensor: Tensor, kind: str) -> Tensor:
    if tensor.kind == kind:
        return tensor
    value = as_value(graph, tensor)
    return Tensor(tensor.shape, value=graph.map("convert", (value,), kind))
