"""A body's equations as a graph of rows: shapes are gone, features lie flat, weights are views."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from recurrax.loop import operations
from recurrax.loop.body import Body
from recurrax.loop.native import integers, picking, structure
from recurrax.loop.native.axes import Rows, find_rows
from recurrax.loop.native.graph import Graph, Source, Value
from recurrax.loop.native.inline import Atom, Equation, Name, Number, flatten
from recurrax.loop.native.look_up import looked_up, picks_fixed_rows
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
_LOGIC = {"and", "or", "not", "xor"}
NO_FORM = "no native form"
_KNOWN = FUNCTIONS | _ARITHMETIC | integers.COMPARISONS | _LOGIC
_EQUALITIES = {"eq", "ne", "ge", "le"}
_SAME = {"add_any": "add"}
_WORDS = {"float32", "int32", "uint32"}
_NOTHING = {
    *("copy", "stop_gradient", "optimization_barrier", "name"),
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
_PIECES = {"concatenate", "split"}
_VIEWS = {"slice", "broadcast_in_dim", "transpose", "squeeze", "reshape", "rev"}


@dataclasses.dataclass(frozen=True)
class Place:
    """How an argument or a result lies in memory: features of each row, and whether it has rows.

    `order` is that of its axes, without time, from major to minor; empty where it is their own.
    """

    width: int
    dtype: str
    by_row: bool
    order: tuple[int, ...] = ()


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

    @property
    def looks_for_equals(self) -> bool:
        """Whether it asks where a value is equal to another, as the gradient of `max` does."""
        return any(
            v.op == "map"
            and v.param[0] in _EQUALITIES
            and v.args[0].kind[0] == "f"
            and v.args[0] is not v.args[1]
            and all(a.op != "number" for a in v.args)
            for v in self.graph.values
        )

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
            kind, number = register_type(atom.dtype), integers.held(atom.value, _name(atom))
            value = graph.number(number, kind)
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
    width = math.prod(rows.feature_shape(atom))
    return Place(width, name, bool(rows.of(atom)), rows.order(atom))


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
    if name in _NOTHING or (name in _PIECES and len(inputs) == len(eqn.outputs) == 1):
        return inputs
    if name == "reduce_precision" and _holds(out.dtype, **eqn.params):
        return inputs
    if name == "convert_element_type":
        return [_converted(graph, inputs[0], *(_name(x) for x in (eqn.inputs[0], out)))]
    if name == "bitcast_convert_type" and _name(eqn.inputs[0]) in _WORDS and _name(out) in _WORDS:
        args = (as_value(graph, inputs[0]),)
        return [Tensor(shape, value=graph.map("bitcast", args, register_type(out.dtype)))]
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
    if name == "constant":
        return [structure.listed(graph, eqn)]
    if name == "iota":
        return [structure.counted(graph, rows, eqn)]
    if name in _REDUCTIONS:
        how = integers.named(_REDUCTIONS[name], _name(eqn.inputs[0]))
        reduced = structure.reduced(graph, rows, eqn, inputs[0], how)
        return [_converted(graph, reduced, "int32", _name(out)) if _wraps(how, out) else reduced]
    if name == "dot_general":
        return [product(graph, rows, eqn, inputs)]
    if name == "gather":
        if picks_fixed_rows(eqn, inputs[0]):
            return [looked_up(graph, eqn, inputs, shape)]
        return [picking.gathered(graph, rows, eqn, inputs)]
    if name in picking.SCATTERS:
        whole = Tensor(shape, value=picking.scattered(graph, rows, eqn, inputs))
        how = picking.SCATTERS[name]
        return [_converted(graph, whole, "int32", _name(out)) if _wraps(how, out) else whole]
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
        (low, x, high), dtype = args, _name(out)
        above = graph.map(integers.named("max", dtype), (low, x), kind)
        return graph.map(integers.named("min", dtype), (above, high), kind)
    source = _name(eqn.inputs[0])
    power = int(eqn.params["y"]) if name == "integer_pow" else None
    known = name in integers.ARITHMETIC | integers.COMPARISONS and (power is None or power >= 0)
    if integers.is_whole(source) and known:
        return integers.elementwise(graph, name, args, source, kind, power)
    if power is not None and floating:
        return graph.map(name, args, kind, power)
    if name == "pow" and floating and args[1].kind[0] == "i":
        args[1] = graph.map("convert", (args[1],), kind)
    if name == "is_finite":
        return graph.map(name, args, kind)
    if name == "round":
        return graph.map(name, args, kind, int(eqn.params.get("rounding_method", 0)))
    if name in integers.COMPARISONS:
        return graph.map(name, args, kind)
    if name in _LOGIC and all(a.kind == args[0].kind for a in args) and not floating:
        return graph.map(name, args, kind)
    if floating and name in FUNCTIONS | _ARITHMETIC:
        return graph.map(name, args, kind)
    if name in _KNOWN:
        raise Unsupported(f"no native form for dtype {np.dtype(eqn.inputs[-1].dtype).name}")
    raise Unsupported(NO_FORM)


def _converted(graph: Graph, tensor: Tensor, source: str, target: str) -> Tensor:
    kind = register_type(np.dtype(target))
    whole = integers.is_whole(source) or integers.is_whole(target)
    if tensor.kind == kind and (not whole or source == target):
        return tensor
    value = as_value(graph, tensor)
    if whole:
        value = integers.converted(graph, value, source, target, kind)
    else:
        value = graph.map("convert", (value,), kind)
    return Tensor(tensor.shape, value=value)


def _holds(dtype: Any, *, exponent_bits: int, mantissa_bits: int) -> bool:
    """Whether a float of so many bits is any number of `dtype`."""
    info = jnp.finfo(dtype)
    return exponent_bits >= info.nexp and mantissa_bits >= info.nmant


def _wraps(how: str, out: Atom) -> bool:
    """Whether a reduction may leave the range of its dtype."""
    return how in ("sum", "prod", "difference") and _name(out) in (
        "int8",
        "uint8",
        "int16",
        "uint16",
    )


def _name(atom: Atom) -> str:
    """The dtype's name."""
    return np.dtype(atom.dtype).name
