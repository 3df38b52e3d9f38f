"""A step as straight-line NumPy: for few rows, less work than handing it to a compiled program."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode
from scipy import special

from recurrax.loop import compat
from recurrax.loop.compat import ClosedJaxpr, Literal
from recurrax.loop.native.unsupported import Unsupported

Write = Callable[[Any, list[str]], str]

_DTYPES = {"float32", "int32", "uint32", "bool", "int8", "uint8", "int16"}

# Primitives that are one NumPy function.
_SAME_NAME = ["exp", "expm1", "log1p", "log", "tanh", "sqrt", "abs", "sin", "cos", "sign", "floor"]
_FUNCTIONS: dict[str, Any] = {name: getattr(np, name) for name in _SAME_NAME} | {
    "ceil": np.ceil,
    "square": np.square,
    "logistic": special.expit,
    "erf": special.erf,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "neg": np.negative,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
}
_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_REDUCTIONS = {
    "reduce_sum": np.add.reduce,
    "reduce_max": np.maximum.reduce,
    "reduce_min": np.minimum.reduce,
    "argmax": np.argmax,
}


def compile_step(closed: ClosedJaxpr, consts: Sequence[np.ndarray]) -> Callable[..., Any]:
    """The program `closed` as a Python function on NumPy arrays.

    Args:
        closed: the program; its first inputs are `consts`.
        consts: values that never change; what depends on them alone is computed here, once.

    Returns:
        A function of the other inputs that returns the list of outputs. Outputs may share memory
        with inputs.

    Raises:
        Unsupported: an operation or a dtype that NumPy is not asked to do.
    """
    return _Text().function(closed, consts)


class _Text:
    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.lines: list[str] = []

    def function(self, closed: ClosedJaxpr, consts: Sequence[np.ndarray]) -> Callable[..., Any]:
        jaxpr = closed.jaxpr
        env: dict[Any, str] = {}
        for variable, value in zip(jaxpr.constvars, closed.consts, strict=True):
            env[variable] = self.constant(np.asarray(value))
        for variable, value in zip(jaxpr.invars, consts, strict=False):
            env[variable] = self.constant(value)
        arguments = [f"a{k}" for k in range(len(jaxpr.invars) - len(consts))]
        env |= dict(zip(jaxpr.invars[len(consts) :], arguments, strict=True))
        outputs = self.body(jaxpr, env)
        # JAX overflows to infinity without a word, and so does this.
        head = [f"def step({', '.join(arguments)}):", "    with errstate(all='ignore'):"]
        lines = [*self.lines, f"return [{', '.join(outputs)}]"]
        text = "\n".join([*head, *(f"        {line}" for line in lines)])
        names = {"errstate": np.errstate, **self.names}
        exec(compile(text, "<recurrax step>", "exec"), names)
        return names["step"]

    def name(self, prefix: str, value: Any) -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def constant(self, value: np.ndarray) -> str:
        if value.dtype.name not in _DTYPES:
            raise Unsupported(f"dtype {value.dtype}")
        return self.name("c", value)

    def body(self, jaxpr: Any, env: dict[Any, str]) -> list[str]:
        def read(atom: Any) -> str:
            if isinstance(atom, Literal):
                aval: Any = atom.aval
                return self.constant(np.asarray(atom.val, aval.dtype))
            return env[atom]

        for eqn in _needed(jaxpr):
            operands = [read(atom) for atom in eqn.invars]
            closed = compat.called_program(eqn)
            if closed is not None:
                within = dict(zip(closed.jaxpr.invars, operands, strict=True))
                for variable, value in zip(closed.jaxpr.constvars, closed.consts, strict=True):
                    within[variable] = self.constant(np.asarray(value))
                results = self.body(closed.jaxpr, within)
            else:
                results = self.equation(eqn, operands)
            env.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn: Any, operands: list[str]) -> list[str]:
        for dtype in (variable.aval.dtype for variable in eqn.outvars):
            if dtype.name not in _DTYPES:
                raise Unsupported(f"dtype {dtype}")
        kind = eqn.primitive.name
        if kind == "split":
            return self.split(eqn, operands[0])
        if kind == "stop_gradient" or (
            kind in ("reshape", "broadcast_in_dim", "squeeze")
            and eqn.invars[0].aval.shape == eqn.outvars[0].aval.shape
        ):
            return operands[:1]
        text = self.text(eqn, operands)
        if all(name.startswith("c") for name in operands):
            with np.errstate(all="ignore"):
                return [self.constant(np.asarray(eval(text, self.names)))]
        return [self.line(text)]

    def line(self, text: str) -> str:
        result = f"v{len(self.lines)}"
        self.lines.append(f"{result} = {text}")
        return result

    def split(self, eqn: Any, operand: str) -> list[str]:
        axis, start, results = eqn.params["axis"], 0, []
        for size in eqn.params["sizes"]:
            index = "".join(":," for _ in range(axis)) + f"{start}:{start + int(size)}"
            start += int(size)
            results.append(self.line(f"{operand}[{index}]"))
        return results

    def text(self, eqn: Any, operands: list[str]) -> str:
        kind, params = eqn.primitive.name, eqn.params
        shape = tuple(eqn.outvars[0].aval.shape)
        out_dtype = eqn.outvars[0].aval.dtype
        of = tuple(eqn.invars[0].aval.shape) if eqn.invars else ()
        if kind in _OPERATORS and not (kind == "div" and np.issubdtype(out_dtype, np.integer)):
            return f" {_OPERATORS[kind]} ".join(operands)
        if kind in ("and", "or", "not") and out_dtype.name != "bool":
            raise Unsupported(f"{kind} of {out_dtype}")
        if kind == "pow" and eqn.invars[1].aval.dtype != out_dtype:
            return f"{self.call(np.power, operands)}.astype({self.name('d', np.dtype(out_dtype))})"
        if kind in _FUNCTIONS:
            return self.call(_FUNCTIONS[kind], operands)
        if kind == "integer_pow":
            return f"{operands[0]} ** {params['y']}"
        if kind == "rsqrt":
            return f"{self.constant(np.ones((), out_dtype))} / {self.call(np.sqrt, operands)}"
        if kind == "select_n" and len(operands) == 3 and eqn.invars[0].aval.dtype == bool:
            which, no, yes = operands
            return self.call(np.where, [which, yes, no])
        if kind == "convert_element_type":
            dtype = self.name("d", np.dtype(out_dtype))
            if eqn.invars[0].aval.dtype == np.float32 and np.issubdtype(out_dtype, np.integer):
                return self.call(_whole, [operands[0], dtype])
            return f"{operands[0]}.astype({dtype})"
        if kind == "dot_general":
            return self.product(eqn, operands)
        if kind in ("reshape", "squeeze"):
            if params.get("dimensions") is not None and kind == "reshape":
                raise Unsupported("a reshape that also transposes")
            return f"{operands[0]}.reshape({shape})"
        if kind == "transpose":
            return f"{operands[0]}.transpose({tuple(params['permutation'])})"
        if kind == "broadcast_in_dim":
            return self.broadcast(operands[0], of, shape, params["broadcast_dimensions"])
        if kind == "rev":
            return f"{self.name('f', np.flip)}({operands[0]}, {tuple(params['dimensions'])})"
        if kind == "slice":
            strides = params["strides"] or [1] * len(shape)
            cuts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
            return f"{operands[0]}[{', '.join(f'{a}:{b}:{s}' for a, b, s in cuts)}]"
        if kind == "concatenate":
            parts = f"({', '.join(operands)},)"
            return f"{self.name('f', np.concatenate)}({parts}, axis={params['dimension']})"
        if kind in _REDUCTIONS:
            return self.reduction(eqn, operands[0], out_dtype)
        if kind == "iota":
            along = np.arange(shape[params["dimension"]], dtype=out_dtype)
            sizes = [-1 if axis == params["dimension"] else 1 for axis in range(len(shape))]
            return self.constant(np.broadcast_to(along.reshape(sizes), shape))
        if kind == "gather":
            return self.take(eqn, operands)
        raise Unsupported(f"operation {kind}")

    def call(self, function: Any, operands: list[str]) -> str:
        return f"{self.name('f', function)}({', '.join(operands)})"

    def product(self, eqn: Any, operands: list[str]) -> str:
        (contract, batch) = eqn.params["dimension_numbers"]
        left, right = (len(v.aval.shape) for v in eqn.invars)
        if batch != ((), ()) or tuple(map(tuple, contract)) != ((left - 1,), (0,)) or right > 2:
            raise Unsupported("a product other than of rows with a matrix")
        if any(v.aval.dtype != eqn.outvars[0].aval.dtype for v in eqn.invars):
            raise Unsupported("a product of another dtype than its operands")
        return f"{operands[0]} @ {operands[1]}"

    def broadcast(self, operand: str, of: Any, shape: Any, dimensions: Any) -> str:
        placed = [1] * len(shape)
        for size, axis in zip(of, dimensions, strict=True):
            placed[axis] = size
        text = operand if tuple(placed) == tuple(of) else f"{operand}.reshape({tuple(placed)})"
        return text if tuple(placed) == shape else self.call(np.broadcast_to, [text, str(shape)])

    def reduction(self, eqn: Any, operand: str, out_dtype: Any) -> str:
        axes = tuple(eqn.params["axes"])
        function = self.name("f", _REDUCTIONS[eqn.primitive.name])
        if eqn.primitive.name == "argmax":
            return f"{function}({operand}, axis={axes[0]}).astype('{out_dtype}')"
        if eqn.primitive.name == "reduce_sum":  # NumPy adds whole numbers up as int64
            dtype = self.name("d", np.dtype(out_dtype))
            return f"{function}({operand}, axis={axes}, dtype={dtype})"
        return f"{function}({operand}, axis={axes})"

    def take(self, eqn: Any, operands: list[str]) -> str:
        """The gather that looks rows up in a table."""
        numbers, params = eqn.params["dimension_numbers"], eqn.params
        table, where = (v.aval.shape for v in eqn.invars)
        rows = (
            numbers.collapsed_slice_dims == (0,)
            and numbers.start_index_map == (0,)
            and not numbers.operand_batching_dims
            and tuple(params["slice_sizes"]) == (1, *table[1:])
            and numbers.offset_dims == tuple(range(len(where) - 1, len(where) + len(table) - 2))
            and params["mode"] is GatherScatterMode.CLIP
        )
        if not rows:
            raise Unsupported("a gather other than of rows of a table")
        ids = f"{operands[1]}.reshape({tuple(where[:-1])})"
        return f"{operands[0]}.take({ids}, axis=0, mode='clip')"


def _whole(x: Any, dtype: np.dtype) -> Any:
    """Floats as whole numbers: NaN becomes 0, what is too large the largest, as XLA has it."""
    limits = np.iinfo(dtype)
    known = np.nan_to_num(np.asarray(x, np.float64), nan=0)
    return known.clip(limits.min, limits.max).astype(dtype)


def _needed(jaxpr: Any) -> list[Any]:
    """The equations that an output needs."""
    wanted = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects:
            raise Unsupported(f"operation {eqn.primitive.name}, which has an effect")
        if wanted.intersection(eqn.outvars):
            kept.append(eqn)
            wanted.update(atom for atom in eqn.invars if not isinstance(atom, Literal))
    return kept[::-1]
