"""A body for some of its rows: what each device runs where the batch is divided over several.

An axis may be divided if every equation works pointwise along it (`native/axes.py`): then each part
of the rows is a loop of its own, and the same body with smaller shapes runs it. Sizes stand in the
parameters of some equations; those along a divided axis are said anew.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from recurrax.loop import jaxprs, operations
from recurrax.loop.body import Body, Gathered, Multiplied
from recurrax.loop.compat import ClosedJaxpr, JaxprEqn, Literal, Var
from recurrax.loop.native.axes import Classes, Node, joined
from recurrax.loop.native.inline import Atom, Equation, Name, Number, Program
from recurrax.loop.native.rewriting import rewritten
from recurrax.loop.native.unsupported import Unsupported

# Of each argument or result and each of its axes: the class of axes that are divided alike, or
# None where all of it is on every device.
Axes = tuple[Node | None, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """How the arguments and results of a loop are divided, and which results are `sums` over the
    parts: for each result the divided axes that were summed over."""

    rows: "Rows"
    arguments: tuple[Axes, ...]
    results: tuple[Axes, ...]
    sums: tuple[tuple[Node, ...], ...]
    sizes: dict[Node, int]


class Rows:
    """The axes of a plain body along which nothing meets."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.names, program = _program(body.jaxpr)
        self.classes, self.fixed = joined(body, program)
        self.inputs, self.outputs = program.inputs, program.outputs
        every = [*program.inputs, *(v for e in program.equations for v in e.outputs)]
        for name in every:
            own = [self.classes.find((name, k)) for k in range(len(name.shape))]
            self.classes.spoil(name, [k for k, node in enumerate(own) if own.count(node) > 1])
        self._join_leading(every)

    def _join_leading(self, every: Sequence[Name]) -> None:
        """Leading axes of one size are divided alike, even if the step combines none of them."""
        found: dict[int, Node] = {}
        for x in (*self.inputs, *self.outputs):
            if x in self.fixed or isinstance(x, Number) or not x.shape:
                continue
            node = self.classes.find((x, 0))
            if node in self.classes.spoilt:
                continue
            first = found.setdefault(x.shape[0], node)
            if self.classes.find(first) != node and not self._stand_together(every, first, node):
                self.classes.join(*first, *node)

    def _stand_together(self, every: Sequence[Name], one: Node, other: Node) -> bool:
        wanted = {self.classes.find(one), self.classes.find(other)}
        return any(
            wanted <= {self.classes.find((x, k)) for k in range(len(x.shape))} for x in every
        )

    @property
    def meet(self) -> bool:
        """Whether something mixes what lies along the leading axes."""
        moving = [x for x in self.inputs if x not in self.fixed and len(x.shape) > 1]
        lead = {self.classes.find((x, 0)) for x in moving if x.shape[0] > 1}
        apart = lead - self.classes.spoilt

        def has_rows(x: Name) -> bool:
            return any(self.classes.find((x, k)) in apart for k in range(len(x.shape)))

        return bool(lead) and not all(has_rows(x) for x in moving)

    def local(self, parts: Mapping[Node, int]) -> Body:
        """The body for one of so many `parts` of each divided axis."""

        def cut(name: Name) -> tuple[int, ...]:
            nodes = (self.classes.find((name, k)) for k in range(len(name.shape)))
            return tuple(n // parts.get(node, 1) for n, node in zip(name.shape, nodes, strict=True))

        def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any]:
            if eqn.primitive.name in operations.TYPES_OF_DEVICES:
                return operands
            reads = [None if isinstance(a, Literal) else self.names[a] for a in eqn.invars]
            makes = [self.names[v] for v in eqn.outvars]
            params = {**eqn.params, **dict.fromkeys(_ON_A_MESH & eqn.params.keys())}
            change = _SIZED.get(eqn.primitive.name)
            if change is not None:
                params |= change(eqn.params, next(iter(reads), None), makes[0], cut)
            eqn = eqn.replace(params=params)
            results = jaxprs.bind(self.body.jaxpr.jaxpr, eqn, operands)
            for value, name in zip(results, makes, strict=True):
                assert value.shape == cut(name), (eqn.primitive.name, value.shape, cut(name))
            return results

        def flat(*args: Any) -> list[Any]:
            return jaxprs.called(self.body.jaxpr, args, rule, inline={})

        avals = zip(self.body.jaxpr.in_avals, self.inputs, strict=True)
        closed = jax.make_jaxpr(flat)(*(a.update(shape=cut(name)) for a, name in avals))
        return dataclasses.replace(self.body, jaxpr=closed)


def layout(
    body: Body,
    others: Sequence[Any] = (),
    *,
    feds: Sequence[int] = (),
    seen: Sequence[int] = (),
    trailers: Sequence[Gathered | Multiplied] = (),
    hidden: Sequence[int] = (),
) -> Layout | None:
    """How a loop over a plain body is divided; None if its rows meet.

    Its arguments are those of the body, then the `others`, by their types. What is given for the
    xs `feds` is yet to be multiplied with a weight; the products of those `seen` are results. So
    are what `trailers` make of the stacks, and of the ys those that are not `hidden`.
    """
    try:
        body = rewritten(body)
    except Unsupported:
        return None
    rows = Rows(body)
    m, n, classes = body.num_carry, body.first_x, rows.classes
    outs = [x if isinstance(x, Name) else Name(x.shape, x.dtype) for x in rows.outputs]
    beside = [Name(a.shape[1:] if trailers else a.shape, a.dtype) for a in others]
    stacks = [*rows.inputs[n:], *outs[m:], *beside]
    weights = {t.weight for t in trailers if isinstance(t, Multiplied)}
    whole = beside if not trailers else [stacks[k] for k in weights]
    for name in whole:
        classes.spoil(name, range(len(name.shape)))
    for k in feds:  # a weight makes all of its features
        x = rows.inputs[n + k]
        classes.spoil(x, [len(x.shape) - 1])
    for t in trailers:
        _join_trailer(classes, stacks, t)
    if rows.meet:
        return None

    def axes(name: Name, *leading: None) -> Axes:
        nodes = (classes.find((name, k)) for k in range(len(name.shape)))
        sizes = zip(nodes, name.shape, strict=True)
        return (*leading, *(None if k in classes.spoilt or n == 1 else k for k, n in sizes))

    def product(name: Name) -> Axes:
        return (*axes(name, None)[:-1], None)

    arguments = [axes(x) for x in rows.inputs[:n]]
    arguments += [product(x) if k in feds else axes(x, None) for k, x in enumerate(rows.inputs[n:])]
    arguments += [axes(x, None) if trailers else axes(x) for x in beside]
    results = [axes(x) for x in outs[:m]]
    results += [axes(x, None) for k, x in enumerate(outs[m:]) if k not in hidden]
    results += [axes(rows.inputs[n + k], None) for k in seen]
    sums: list[tuple[Node, ...]] = [()] * len(results)
    for t in trailers:
        gathered = isinstance(t, Gathered)
        left = product(stacks[t.left])
        results.append((None, None) if gathered else left)
        sums.append(tuple(node for node in left if node is not None) if gathered else ())
    sizes = {
        node: name.shape[axis]
        for name in (*rows.inputs, *outs, *beside)
        for axis, node in enumerate(axes(name))
        if node is not None
    }
    return Layout(rows, tuple(arguments), tuple(results), tuple(sums), sizes)


def _join_trailer(classes: Classes, stacks: Sequence[Name], trailer: Gathered | Multiplied) -> None:
    """Rows of a product after the loop are rows of both its sides; features are summed or mixed."""
    left = stacks[trailer.left]
    sides = [left, stacks[trailer.right]] if isinstance(trailer, Gathered) else [left]
    for side in sides:
        classes.spoil(side, [len(side.shape) - 1])
        if side.shape[:-1] == left.shape[:-1]:
            for axis in range(len(side.shape) - 1):
                classes.join(left, axis, side, axis)
        else:
            classes.spoil(left, range(len(left.shape)))
            classes.spoil(side, range(len(side.shape)))


def _program(closed: ClosedJaxpr) -> tuple[dict[Var, Name], Program]:
    """A program with no calls in it as `native/axes.py` reads it, and the names of variables."""
    names: dict[Var, Name] = {}
    equations: list[Equation] = []

    def named(variables: Sequence[Var]) -> tuple[Name, ...]:
        for v in variables:
            aval = jaxprs.aval(v)
            names[v] = Name(aval.shape, aval.dtype)
        return tuple(names[v] for v in variables)

    def constant(name: Name) -> Name:
        equations.append(Equation("constant", {}, (), (name,)))
        return name

    def atom(a: Any) -> Atom:
        if not isinstance(a, Literal):
            return names[a]
        shape = tuple(jaxprs.aval(a).shape)
        if shape:
            return constant(Name(shape, jaxprs.aval(a).dtype))
        return Number(a.val, shape, jaxprs.aval(a).dtype)

    inputs = named(closed.jaxpr.invars)
    for name in named(closed.jaxpr.constvars):
        constant(name)
    for eqn in closed.jaxpr.eqns:
        reads = tuple(atom(a) for a in eqn.invars)
        equations.append(Equation(eqn.primitive.name, eqn.params, reads, named(eqn.outvars)))
    outputs = tuple(atom(a) for a in closed.jaxpr.outvars)
    return names, Program(inputs, tuple(equations), outputs)


_Cut = Callable[[Name], tuple[int, ...]]


def _limits(params: Mapping[str, Any], whole: Name, part: Name, cut: _Cut) -> dict[str, Any]:
    """A slice: an axis that is divided is kept whole, and ends where the rows do."""
    del part
    divided = zip(params["limit_indices"], whole.shape, cut(whole), strict=True)
    return {"limit_indices": tuple(after if n != after else end for end, n, after in divided)}


def _windows(params: Mapping[str, Any], whole: Name, part: Name, cut: _Cut) -> dict[str, Any]:
    """The windows of a gather: of an axis that is divided they hold all, or one row each."""
    del part
    divided = zip(params["slice_sizes"], whole.shape, cut(whole), strict=True)
    return {"slice_sizes": tuple(after if size == n else size for size, n, after in divided)}


# What explicit types say of a mesh: there is none where one device runs its part.
_ON_A_MESH = {"sharding", "out_sharding"}
# The parameters that hold sizes, by primitive, as they are of some rows.
_SIZED: dict[str, Callable[[Mapping[str, Any], Any, Name, _Cut], dict[str, Any]]] = {
    "broadcast_in_dim": lambda params, _, out, cut: {"shape": cut(out)},
    "iota": lambda params, _, out, cut: {"shape": cut(out)},
    "reshape": lambda params, _, out, cut: {"new_sizes": cut(out)},
    "split": lambda params, _, out, cut: (
        {"sizes": (cut(out)[params["axis"]],)} if len(params["sizes"]) == 1 else {}
    ),
    "slice": _limits,
    "gather": _windows,
}
