"""Random cells: hypothesis writes a step as a list of instructions over a pool of values.

All values are rows, (batch, width) with a width that one of the weights takes; an instruction
names its operands by where they stand in the pool.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.ad_checkpoint import checkpoint_name

import recurrax

BATCH, FEATURES, UNITS = 3, 2, 4
LENGTH = 4
_WIDTHS = (FEATURES, UNITS, 2 * UNITS)


def _places(v: Any, low: int, high: int) -> np.ndarray:
    """As many of its features as `v` has, some of them twice."""
    return np.random.default_rng(v.shape[1]).integers(low, high, v.shape[1])


UNARY = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "bump": lambda v: jnp.exp(-v * v),
    "softplus": jax.nn.softplus,
    "softmax": lambda v: jax.nn.softmax(v, axis=-1),
    "cumsum": lambda v: jnp.cumsum(v, axis=-1),
    "stopped": jax.lax.stop_gradient,
    "jitted": jax.jit(lambda v: jnp.cos(v) * v),
    "remat": jax.checkpoint(lambda v: jnp.tanh(v) * jnp.cos(v)),
    "flipped": lambda v: v[:, ::-1],
    "picked": lambda v: v[:, _places(v, 0, v.shape[1])],
    "picked or nothing": lambda v: jnp.take(v, _places(v, -3, v.shape[1] + 2), 1, fill_value=0.5),
    "written": lambda v: v.at[:, _places(v, 0, v.shape[1] + 1)].add(v * v, mode="drop"),
}


def _printed(v: Any) -> Any:
    jax.debug.callback(lambda _: None, v)
    return jnp.sin(v)


def _called(v: Any) -> Any:
    like = jax.ShapeDtypeStruct(v.shape, v.dtype)
    return v * jax.pure_callback(np.cos, like, jax.lax.stop_gradient(v))


def _counted(v: Any) -> Any:
    """An inner loop whose number of turns depends on the data, and which has no derivative."""
    start = (0, jax.lax.stop_gradient(v))
    return (
        v
        * jax.lax.while_loop(
            lambda s: s[0] < 1 + (v.mean() > 0), lambda s: (s[0] + 1, jnp.sin(s[1])), start
        )[1]
    )


def _in_a_branch(f: Any) -> Any:
    return lambda v: jax.lax.cond(v.mean() > 0, f, lambda v: 0.5 * v * v, v)


def _over_rows(f: Any, scan: Any = jax.lax.scan) -> Any:
    return lambda v: scan(lambda c, r: (jnp.tanh(c + f(r)), c * r), v[0], v)[1]


_only_names = jax.checkpoint_policies.save_only_these_names("a")
# Effects, callbacks, draws, inner loops and names: what stays one thing in a step.
STRANGE = {
    "printed": _printed,
    "called": _called,
    "counted": _counted,
    "branched": _in_a_branch(jnp.sin),
    "printed in a branch": _in_a_branch(_printed),
    "called in a branch": _in_a_branch(_called),
    "over rows": _over_rows(jnp.sin),
    "called over rows": _over_rows(_called),
    "printed over rows": _over_rows(_printed, recurrax.scan),
    "drawn": lambda v: v * jax.random.uniform(jax.random.key(3), v.shape, v.dtype),
    "drawn in a branch": _in_a_branch(
        lambda v: v * jax.random.uniform(jax.random.key(4), v.shape, v.dtype)
    ),
    "named": lambda v: checkpoint_name(jnp.tanh(v), "a"),
    "checkpointed": jax.checkpoint(lambda v: jnp.sin(v) * jnp.cos(v)),
    "checkpointed with a name": jax.checkpoint(
        lambda v: checkpoint_name(jnp.sin(v), "a") * v, policy=_only_names
    ),
    "called in a checkpoint": jax.checkpoint(_called),
}
BINARY = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": lambda a, b: a / (1 + b * b),
    "max": jnp.maximum,
    "where": lambda a, b: jnp.where(a > b, a, -b),
    "gate": lambda a, b: jax.nn.sigmoid(a) * b,
    "logaddexp": jnp.logaddexp,
}
REDUCTIONS = {
    "mean": lambda v: v.mean(-1, keepdims=True),
    "max": lambda v: v.max(-1, keepdims=True),
    "norm": lambda v: jax.lax.rsqrt((v * v).sum(-1, keepdims=True) + 1),
    "rows": lambda v: v.sum(0, keepdims=True) / BATCH,
    "attention": lambda v: jax.nn.softmax(v @ v.T, axis=-1) @ v.mean(-1, keepdims=True),
}
PRODUCTS = ("plain", "transposed", "scaled", "tanh", "steered", "left", "einsum")
ROWS = ("bias", "gain", "scalar", "table", "shift")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Instructions, and which pool values become the new states and the outputs."""

    instructions: tuple[tuple[Any, ...], ...]
    states: tuple[int, int]
    outputs: tuple[int, ...]
    reverse: bool


_pick = st.integers(0, 30)
_instruction = st.one_of(
    st.tuples(st.just("unary"), st.sampled_from(sorted(UNARY)), _pick),
    st.tuples(st.just("binary"), st.sampled_from(sorted(BINARY)), _pick, _pick),
    st.tuples(st.just("reduce"), st.sampled_from(sorted(REDUCTIONS)), _pick, _pick),
    st.tuples(st.just("product"), st.sampled_from(PRODUCTS), _pick, st.integers(0, 2)),
    st.tuples(st.just("product"), st.just("plain"), _pick, st.integers(0, 2)),
    st.tuples(st.just("row"), st.sampled_from(ROWS), _pick),
    st.tuples(st.just("layer norm"), _pick),
    st.tuples(st.just("cut"), _pick, st.booleans()),
    st.tuples(st.just("join"), _pick, _pick),
    st.tuples(st.just("masked"), _pick, _pick),
)


def _cells(instruction: Any, longest: int) -> Any:
    return st.builds(
        Cell,
        st.lists(instruction, min_size=2, max_size=longest).map(tuple),
        st.tuples(_pick, _pick),
        st.lists(_pick, min_size=1, max_size=3).map(tuple),
        st.booleans(),
    )


cells = _cells(_instruction, 14)
strange_cells = _cells(
    st.one_of(_instruction, st.tuples(st.just("unary"), st.sampled_from(sorted(STRANGE)), _pick)),
    7,
)


def weights(dtype: Any) -> dict[str, Any]:
    """One of each kind of weight that an instruction may name."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape) * 0.5, dtype)

    return {
        "kernels": {f"{i},{o}": draw(i, o) for i in _WIDTHS for o in _WIDTHS},
        "bias": {str(w): draw(w) for w in _WIDTHS},
        "gain": {str(w): 1 + draw(w) for w in _WIDTHS},
        "table": {str(w): draw(BATCH, w) for w in _WIDTHS},
        "scalar": draw(),
    }


def start(dtype: Any) -> tuple[Any, Any]:
    """An initial carry, nested and with an integer and a None in it, and inputs."""
    rng = np.random.default_rng(1)
    init = {
        "a": jnp.asarray(rng.normal(size=(BATCH, UNITS)), dtype),
        "b": (jnp.asarray(rng.normal(size=(BATCH, UNITS)), dtype), None),
        "count": jnp.int32(0),
    }
    xs = (
        jnp.asarray(rng.normal(size=(LENGTH, BATCH, FEATURES)), dtype),
        jnp.asarray(rng.integers(0, 2, (LENGTH, BATCH, 1)), bool),
    )
    return init, xs


def build(cell: Cell, w: dict[str, Any]) -> Any:
    """The step function of `cell`, closing over the weights `w`."""

    def fit(value, width):
        """`value` at another width, by repetition or cutting."""
        repeats = -(-width // value.shape[1])
        return jnp.tile(value, (1, repeats))[:, :width]

    def step(carry, x):
        x_t, mask = x
        pool = [x_t, carry["a"], carry["b"][0]]

        def get(i):
            return pool[i % len(pool)]

        for kind, *rest in cell.instructions:
            if kind == "unary":
                value = (UNARY | STRANGE)[rest[0]](get(rest[1]))
            elif kind == "binary":
                a, b = get(rest[1]), get(rest[2])
                value = BINARY[rest[0]](a, fit(b, a.shape[1]))
            elif kind == "reduce":
                v = get(rest[2])
                value = v * fit(REDUCTIONS[rest[0]](get(rest[1])), v.shape[1])
            elif kind == "product":
                value = _product(rest[0], get(rest[1]), _WIDTHS[rest[2]], w)
            elif kind == "row":
                value = _row(rest[0], get(rest[1]), w)
            elif kind == "layer norm":
                v = get(rest[0])
                centred = v - v.mean(-1, keepdims=True)
                scale = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-2)
                value = centred * scale * w["gain"][str(v.shape[1])]
            elif kind == "cut":
                v = get(rest[0])
                value = fit(jnp.split(v, 2, axis=-1)[rest[1]], v.shape[1])
            elif kind == "join":
                a, b = get(rest[0]), get(rest[1])
                value = fit(jnp.concatenate([a, b], axis=-1), 2 * UNITS)
            else:
                a, b = get(rest[0]), get(rest[1])
                value = jnp.where(mask, a, fit(b, a.shape[1]))
            pool.append(value)
        a, b = (jnp.tanh(fit(get(i), UNITS)) for i in cell.states)
        new = {"a": a, "b": (0.5 * b + 0.5 * carry["b"][0], None), "count": carry["count"] + 1}
        ys = [get(i) for i in cell.outputs]
        return new, (*ys, None, carry["count"], mask)

    return step


def _product(how: str, v: Any, width: int, w: dict[str, Any]) -> Any:
    kernel = w["kernels"][f"{v.shape[1]},{width}"]
    if how == "transposed":
        return v @ w["kernels"][f"{width},{v.shape[1]}"].T
    if how == "scaled":
        return v @ (w["scalar"] * kernel)
    if how == "tanh":
        return v @ jnp.tanh(kernel)
    if how == "steered":  # the weight changes with the data, at every step
        return v @ (kernel * jnp.tanh(v.mean()))
    if how == "left":
        return (kernel.T @ v.T).T
    if how == "einsum":
        return jnp.einsum("bi,io->bo", v, kernel)
    return v @ kernel


def _row(how: str, v: Any, w: dict[str, Any]) -> Any:
    width = str(v.shape[1])
    if how == "bias":
        return v + w["bias"][width]
    if how == "gain":
        return w["gain"][width] * v
    if how == "scalar":
        return v * w["scalar"]
    if how == "table":
        return v + w["table"][width]
    return v - w["bias"][width] * w["scalar"]


def loss(scan: Any, cell: Cell, w: Any, init: Any, xs: Any) -> Any:
    """A scalar that all outputs and the last carry have a part in, and what it is made of."""
    outputs = scan(build(cell, w), init, xs, reverse=cell.reverse)
    total = 0.0
    for i, leaf in enumerate(jax.tree.leaves(outputs)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            total = total + jnp.sin(leaf + 0.1 * i).sum()
    return total, outputs


def values_and_gradients(scan: Any, cell: Cell, dtype: Any) -> Any:
    """All results of `cell`, and the gradients of every float that goes in."""
    w, (init, (xs, mask)) = weights(dtype), start(dtype)
    floats, count = (init["a"], init["b"]), init["count"]

    def objective(w, floats, xs):
        full = {"a": floats[0], "b": floats[1], "count": count}
        return loss(scan, cell, w, full, (xs, mask))

    return jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True)(w, floats, xs)
