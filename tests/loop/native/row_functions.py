"""Functions of the rows of a carry, among them every kind of equation of rows alone."""

import jax
import jax.numpy as jnp

T, B, F = 3, 5, 6
FUNCTIONS = {
    "tanh": jnp.tanh,
    "logistic": jax.nn.sigmoid,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "log": lambda v: jnp.log(jnp.abs(v)),
    "log1p": lambda v: jnp.log1p(jnp.abs(v)),
    "expm1": jnp.expm1,
    "erf": jax.lax.erf,
    "erfc": jax.lax.erfc,
    "sqrt": lambda v: jnp.sqrt(jnp.abs(v)),
    "rsqrt": lambda v: jax.lax.rsqrt(jnp.abs(v) + 0.1),
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "cbrt": jnp.cbrt,
    "sign": jnp.sign,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "round": jnp.round,
    "cube": lambda v: v**3,
    "inverse square": lambda v: (v + 3.0) ** -2,
    "power": lambda v: jnp.abs(v) ** (0.3 * v),
    "finite": lambda v: jnp.where(jnp.isfinite(v / jnp.floor(v)), v, 0.0),
    "relu": jax.nn.relu,
    "gelu": lambda v: jax.nn.gelu(v, approximate=False),
    "gelu tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "mish": jax.nn.mish,
    "hard sigmoid": jax.nn.hard_sigmoid,
    "softsign": jax.nn.soft_sign,
    "softmax": jax.nn.softmax,
    "log softmax": jax.nn.log_softmax,
    "clip": lambda v: jnp.clip(v, -0.5, 0.4),
    "layer norm": lambda v: (v - v.mean(-1, keepdims=True)) / (v.std(-1, keepdims=True) + 0.1),
    "largest and least": lambda v: v.max(-1, keepdims=True) - v.min(-1, keepdims=True) * v,
    "any and all": lambda v: jnp.where(
        (v > 1).any(-1, keepdims=True) & ~(v > -2).all(-1, keepdims=True), v, -v
    ),
    "reversed": lambda v: v[:, ::-1],
    "every second": lambda v: jnp.concatenate([v[:, ::2], v[:, 1::2]], -1),
    "rolled": lambda v: jnp.roll(v, 2, -1),
    "padded": lambda v: jnp.pad(v[:, 1:4], ((0, 0), (2, 1)), constant_values=0.5),
    "cut and joined": lambda v: jnp.concatenate(jnp.split(v, 3, -1)[::-1], -1),
    "one column": lambda v: v[:, 2:3] * v,
    "one number": lambda v: v[:, 4][:, None] - v,
    "transposed heads": lambda v: jnp.swapaxes(v.reshape(B, 2, 3), 1, 2).reshape(B, F),
    "sums of heads": lambda v: jnp.repeat(v.reshape(B, 2, 3).sum(-1), 3, -1) * v,
    "sum over heads": lambda v: jnp.tile(v.reshape(B, 2, 3).max(1), (1, 2)) * v,
    "comparisons": lambda v: ((v >= 0.1) | (v <= -1) ^ (v != 2)).astype(jnp.float32) + v,
    "counted": lambda v: v * jnp.arange(F, dtype=jnp.float32),
    "arcs": lambda v: jnp.arctan2(v, 0.3) + jnp.arcsin(jnp.tanh(v)) - jnp.arccos(jnp.sin(v)),
    "areas": lambda v: jnp.arcsinh(v) + jnp.arccosh(1 + v * v) + jnp.arctanh(0.9 * jnp.tanh(v)),
    "gamma": lambda v: jax.scipy.special.gammaln(jnp.abs(v) + 0.5),
    "remainder": lambda v: v % 0.7 + (v // 0.3) - jax.lax.rem(v, 2.0),
    "product of all": lambda v: v.prod(-1, keepdims=True) * v + v.reshape(B, 2, 3).prod(1).sum(),
    "running": lambda v: jnp.cumsum(v, -1) + jnp.cumprod(v, -1) - jax.lax.cummax(v, axis=1),
    "running back": lambda v: jax.lax.cumlogsumexp(v, axis=1, reverse=True),
    "stacked": lambda v: jnp.stack(jnp.unstack(v.reshape(B, 2, 3), axis=2), 1).reshape(B, F),
    "largest of all": lambda v: jax.nn.one_hot(jnp.argmax(v, -1), F) - jnp.argmin(v, -1)[:, None],
    "chosen": lambda v: jnp.select([v > 1, v > 0, v > -1], [v, 2 * v, v * v], -v),
    "written": lambda v: v.at[:, 1].set(0.5).at[:, 2:5].add(v[:, :3]).at[..., -1].mul(2.0),
    "picked": lambda v: (
        v[:, jnp.array([3, 0, 0, 5, -1, 2])] + jnp.take(v, 7, 1, fill_value=1)[:, None]
    ),
    "written at several": lambda v: (
        v.at[:, jnp.array([4, 0, 4, 9])].add(v[:, 1:5]).at[:, ::2].set(1)
    ),
    "spread out": lambda v: jax.lax.pad(v[:, :3], 0.1, [(0, 0, 0), (1, 0, 1)]),
    "rows counted and written": lambda v: v.at[0].set(0.5) * jax.lax.iota(jnp.float32, B)[:, None],
    "axes in another order": lambda v: jax.lax.reshape(v, (F, B), (1, 0)).T + v.reshape(F, B).T,
    "branches": lambda v: jax.lax.cond(v[0, 0] > 0, jnp.sin, jnp.cos, v),
    "a loop inside": lambda v: jax.lax.fori_loop(0, 3, lambda i, w: 0.5 * jnp.tanh(w) * i + v, v),
    "a loop of no steps": lambda v: jax.lax.scan(lambda w, _: (w + v, w), v, None, length=0)[0],
}


def whole(v):
    """int32 arithmetic, division by 0 and by -1 and reductions among it."""
    i = (v * 4).astype(jnp.int32)
    least = jnp.full_like(i, -(2**31))
    divided = jax.lax.div(i, i - 1) + jax.lax.rem(i, i + 2) + i % 3 - i // 5
    edges = jax.lax.div(least, i // 9) % 7 + jax.lax.rem(least, i // 9)
    reduced = i.sum(-1) + i.max(-1) - i.min(-1) * i.prod(-1)
    return (divided + edges + reduced[:, None]) * 0.5 + jnp.maximum(i * 3 - 1, 2) * 0.5


FUNCTIONS["whole numbers"] = whole


def unsigned(v):
    """A counter of 32 bits that wraps, as generators of random numbers have, and its parts."""
    v = jnp.round(v * 8)  # not what rounding decides
    u = jax.lax.bitcast_convert_type(v, jnp.uint32) * 1664525 + jnp.uint32(1013904223)
    by = u % 37
    parts = [u >> by, u << by, jax.lax.population_count(u), jax.lax.clz(u >> 3), u // (by - 5), ~u]
    parts += [
        jnp.where(u > jnp.uint32(1 << 31), u, by),
        jnp.maximum(u, by),
        jnp.clip(u, 9, jnp.uint32(3 << 30)),
    ]
    parts += [(v * 1e8).astype(jnp.uint32), jnp.sign(u) + u**3, u.max(-1, keepdims=True)]
    mixed = parts[0]
    for k, part in enumerate(parts):
        mixed = (mixed ^ part.astype(jnp.uint32)) + k
    return mixed.astype(jnp.float32) * 1e-9 + u.min(-1, keepdims=True).astype(jnp.float32) * 1e-9


def small(v):
    """Whole numbers of 8 and 16 bits wrap; floats that do not fit become the largest."""
    total = jnp.zeros_like(v)
    for dtype in (jnp.int8, jnp.uint8, jnp.int16, jnp.uint16):
        i = (v * 2e4).astype(jnp.int32).astype(dtype)
        by = jnp.abs((v * 9).astype(dtype))
        parts = [i + by, i * i, -i, i - 3, (v * 1e5).astype(dtype), ~i, jax.lax.clz(i), i**3]
        parts += [i << by, jax.lax.shift_right_logical(i, by), jax.lax.population_count(i), i < by]
        parts += [jax.lax.reduce_sum(jnp.broadcast_to(i, v.shape), [1])[:, None], i // by, i % by]
        total += sum(part.astype(jnp.float32) * (k + 1) for k, part in enumerate(parts)) * 1e-4
    return total + jax.lax.shift_right_arithmetic((v * 99).astype(jnp.int32), 2) * 0.1


def edges(v):
    """What is too large for a whole number, or not a number, as XLA has it."""
    far = jnp.stack([v * 1e10, v / 0.0, (v - v) / 0.0, -v * 3e9])
    return far.astype(jnp.int32).sum(0).astype(jnp.float32) * 1e-9


FUNCTIONS |= {"unsigned numbers": unsigned, "small numbers": small, "numbers too large": edges}
