"""Step: `f(carry, x) -> (carry, y)` traced once to a flat jaxpr, its closure made explicit."""

import dataclasses
import inspect
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, export, lax
from jax.tree_util import keystr

from recurrax.loop import compat, jaxprs
from recurrax.loop.body import Body
from recurrax.loop.compat import ClosedJaxpr
from recurrax.loop.fallback import stated
from recurrax.loop.turned import turned

# What Python has of each kind of number, without the width that an array has.
_NUMBERS = {"b": bool, "i": int, "u": int, "c": complex}


@dataclasses.dataclass(frozen=True)
class Step:
    """A traced step and the arrays it runs on.

    `body` takes `consts` (the arrays `f` closes over), the leaves of the carry, and the leaves of
    one `x`. Nested `jit` and `remat` calls are opened up in it; custom derivatives stay calls.
    """

    body: Body
    consts: list[Array]
    init: list[Any]
    xs: list[Any]
    length: int
    carry_tree: Any
    y_tree: Any

    @property
    def must_stay_whole(self) -> str | None:
        """Why the loop is left to `jax.lax.scan`, in words for people, or None where it is not.

        A debug print may stand in a loop whose step is done again for its gradient (it is left
        out there); writing to a file or to a mutable array may not. What types say about devices
        would have to be said of everything that is moved out of the loop; sizes that are not
        known would leave open what that is.
        """
        jaxpr = self.body.jaxpr
        if self._holds_high_operations():
            return "the step holds an operation that JAX opens only when it lowers it"
        if not all(map(compat.is_debug, jaxpr.effects)):
            return "the step has effects that must happen once a step, in order"
        made = [v.aval for eqn in jaxpr.jaxpr.eqns for v in eqn.outvars]
        sizes = (n for a in (*jaxpr.in_avals, *made) for n in a.shape)
        if any(map(export.is_symbolic_dim, (self.length, *sizes))):
            return "its sizes are open, as an exported program's may be"
        if any(map(jaxprs.is_divided, (*jaxpr.in_avals, *made))):
            return (
                "its arrays are divided over the explicit axes of a mesh; inside jax.shard_map "
                "each device runs a loop of its own"
            )
        return None

    def _holds_high_operations(self) -> bool:
        """Whether one stands in the loop: those on consts alone move out of it."""
        jaxpr = self.body.jaxpr.jaxpr
        moving = set(jaxpr.invars[self.body.num_consts :])
        for eqn in jaxpr.eqns:
            if any(v in moving for v in jaxprs.variables(eqn.invars)):
                if compat.is_high(eqn):
                    return True
                moving.update(eqn.outvars)
        return False


def trace(f: Callable[[Any, Any], Any], init: Any, xs: Any, length: int | None) -> Step:
    """Trace `f` for the shapes of `init` and of one step of `xs`.

    `init` and `xs` may hold arrays or `jax.ShapeDtypeStruct`s.

    Raises:
        TypeError: `f` is no function, does not return a pair, or does not keep its carry.
        ValueError: the leading axes of `xs` and `length` do not agree.
    """
    if not callable(f):
        raise stated(TypeError(f"scan expects a function f(carry, x) -> (carry, y), got {f!r}."))
    flat_xs, x_tree = jax.tree.flatten(xs)
    length = length_of(flat_xs, length)
    flat_init, carry_tree = jax.tree.flatten(init)
    x_avals = [jaxprs.sliced(_typeof(x)) for x in flat_xs]

    out_trees: list[Any] = []

    def flat_step(*args):
        n = len(flat_init)
        given = jax.tree.unflatten(carry_tree, args[:n]), jax.tree.unflatten(x_tree, args[n:])
        try:
            out = f(*given)
        except Exception as error:
            stated(error)
            raise
        if not isinstance(out, (tuple, list)) or len(out) != 2:
            raise stated(
                TypeError(
                    "scan expects f(carry, x) to return a pair (carry, y), but it returned "
                    f"{_describe(out)}; write `return carry, None` for a step without an output."
                )
            )
        carry, carry_out_tree = jax.tree.flatten(out[0])
        y, y_tree = jax.tree.flatten(out[1])
        out_trees[:] = [carry_out_tree, y_tree]
        return [*carry, *y]

    def traced(carry_avals):
        # A fresh function each time: JAX remembers traces by function and types.
        closed = jax.make_jaxpr(lambda *args: flat_step(*args))(*carry_avals, *x_avals)
        if out_trees[0] != carry_tree:
            _raise_structure(f, carry_tree, out_trees[0])
        return closed

    carry_avals = given_avals = [_typeof(c) for c in flat_init]
    closed = traced(carry_avals)
    for _ in (1, *flat_init):  # each turn changes a carry for good, or is the last
        outputs = closed.out_avals[: len(flat_init)]
        promoted = [_promoted(a, b) for a, b in zip(carry_avals, outputs, strict=True)]
        if promoted == carry_avals:
            break
        carry_avals, closed = promoted, traced(promoted)
    _check_types(f, carry_tree, carry_avals, closed.out_avals[: len(flat_init)])
    init_arrays = [
        c if a is b or isinstance(c, jax.ShapeDtypeStruct) else _cast(c, b)
        for c, a, b in zip(flat_init, given_avals, carry_avals, strict=True)
    ]
    consts = list(closed.consts)
    flat = turned(jaxprs.without_dead_code(jaxprs.inlined(_explicit(closed))))
    # Calls that were opened up may have brought constants of their own.
    consts = [*flat.consts, *consts]
    flat = _explicit(flat)
    body = Body(flat, len(consts), len(flat_init))
    return Step(body, consts, init_arrays, flat_xs, length, carry_tree, out_trees[1])


def _typeof(x: Any) -> Any:
    """The type of an array, a number or a `jax.ShapeDtypeStruct`."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.make_jaxpr(lambda a: a)(x).in_avals[0]
    return jax.typeof(x)


def length_of(xs: list[Any], length: int | None) -> int:
    """The number of steps that `xs` and `length` agree on.

    Raises:
        TypeError: `length` is not known before compilation.
        ValueError: they do not agree, or both are missing.
    """
    for x in xs:
        if not jnp.shape(x):
            raise stated(
                ValueError(
                    f"scan runs over the leading axis of xs, but xs holds {x!r}, which has none; "
                    "close over it in f instead."
                )
            )
    lengths = [x.shape[0] for x in xs]
    if length is not None:
        try:
            length = operator.index(length)
        except TypeError as error:
            raise stated(
                TypeError(
                    f"scan expects `length` to be an int known before the loop is compiled, "
                    f"got {length!r}."
                )
            ) from error
        if length < 0:
            raise stated(ValueError(f"scan expects a `length` of at least 0, got {length}."))
        if any(n != length for n in lengths):
            raise stated(
                ValueError(
                    f"scan got length={length}, but the leading axes of xs have sizes {lengths}; "
                    "leave `length` out, or cut xs to it."
                )
            )
        return length
    if not lengths:
        raise stated(
            ValueError(
                "scan got no arrays in xs and no `length`; pass the number of steps as length=."
            )
        )
    if len(set(lengths)) > 1:
        raise stated(
            ValueError(
                f"scan expects one leading axis size for all of xs, got {lengths}; "
                "time is the first axis of each array."
            )
        )
    return lengths[0]


def _promoted(carry_in: Any, carry_out: Any) -> Any:
    """The type of a carry that starts as a Python number and becomes what `f` returns.

    It becomes so, too, where it starts alike on all devices and does not stay so.
    """
    if carry_in.shape != carry_out.shape:
        return carry_in
    weak = getattr(carry_in, "weak_type", False)
    if weak and carry_in.dtype != carry_out.dtype:
        number = _NUMBERS.get(carry_in.dtype.kind, float)
        dtype = jnp.result_type(number, carry_out.dtype)
        carry_in = carry_in.update(dtype=dtype, weak_type=False)
    if compat.varying_axes(carry_in) < compat.varying_axes(carry_out):
        carry_in = compat.varying_as(carry_in, carry_out)
    if jaxprs.is_divided(carry_out) and not jaxprs.is_divided(carry_in):
        carry_in = carry_in.update(sharding=carry_out.sharding)
    return carry_in


def _cast(value: Any, aval: Any) -> Any:
    """`value` as an array of the type `aval`."""
    value = jnp.asarray(value, aval.dtype)
    more = compat.varying_axes(aval) - compat.varying_axes(jax.typeof(value))
    if more:
        value = lax.pcast(value, tuple(more), to="varying")
    return jax.sharding.reshard(value, aval.sharding) if jaxprs.is_divided(aval) else value


def _carry_name(f: Callable) -> str:
    try:
        return next(iter(inspect.signature(f).parameters))
    except (StopIteration, TypeError, ValueError):
        return "carry"


def _explicit(closed: ClosedJaxpr) -> ClosedJaxpr:
    """`closed` with its constants as its first arguments."""
    jaxpr = closed.jaxpr
    explicit = compat.replaced(jaxpr, constvars=(), invars=[*jaxpr.constvars, *jaxpr.invars])
    return ClosedJaxpr(explicit, [])


def _describe(tree: Any) -> str:
    return str(jax.tree.map(lambda x: jax.typeof(x).str_short(), tree))


def _raise_structure(f: Callable, expected: Any, got: Any) -> None:
    raise stated(
        TypeError(
            "scan expects the carry that f returns to have the structure of `init`:\n"
            f"  init:          {_structure(expected)}\n"
            f"  f's new carry: {_structure(got)}\n"
            f"Return a carry built like `{_carry_name(f)}`, the first argument of f "
            "(same nesting, same keys, as many leaves), or change `init` to match."
        )
    )


def _structure(tree: Any) -> str:
    return str(tree).removeprefix("PyTreeDef(").removesuffix(")")


def _check_types(f: Callable, tree: Any, carry_in: list[Any], carry_out: list[Any]) -> None:
    paths = [p for p, _ in jax.tree.leaves_with_path(jax.tree.unflatten(tree, carry_in))]
    lines = []
    for path, a, b in zip(paths, carry_in, carry_out, strict=True):
        name = f"{_carry_name(f)}{keystr(path)}"
        if a.shape != b.shape:
            mend = (
                f"start from an `init` of shape {b.shape}, or return shape {a.shape} "
                "(look for a broadcast or a kept axis)"
            )
        elif a.dtype != b.dtype:
            mend = (
                f"return it with `.astype({a.dtype})`, or start from an `init` of dtype {b.dtype}"
            )
        else:
            continue
        lines.append(f"  {name}: {a.str_short()} in, {b.str_short()} out; {mend}")
    if lines:
        raise stated(
            TypeError(
                "scan expects f to return a carry with the shapes and dtypes of `init`, but they "
                "differ:\n" + "\n".join(lines)
            )
        )
