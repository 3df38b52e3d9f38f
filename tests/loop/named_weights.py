"""Published cells run on random numbers: their weights come to be where they are first named."""

import jax
import jax.numpy as jnp
import numpy as np
from published_cells import BATCH, CELLS, FEATURES, TIME


class Weights:
    """Draws a weight when its name is first called, and hands it out again after that."""

    def __init__(self, held=None):
        self.held = {} if held is None else held

    def __call__(self, name, *shape):
        if name not in self.held:
            rng = np.random.default_rng(len(self.held))
            self.held[name] = rng.normal(size=shape) * 0.4
        assert self.held[name].shape == shape
        return jnp.asarray(self.held[name])


def prepare(step, dtype=np.float32):
    """Weights, an initial carry and inputs of four steps for a cell."""
    rng = np.random.default_rng(7)

    def leaf(shape):
        if shape == TIME:
            return np.int32(0)
        if shape == "tokens":
            return np.zeros(BATCH, np.int32)
        return jnp.asarray(rng.uniform(0.1, 0.9, size=shape), dtype)

    shapes = CELLS[step]
    nested = not isinstance(shapes[0], int)
    init = tuple(map(leaf, shapes)) if nested else leaf(shapes)
    xs = jnp.asarray(rng.normal(size=(4, BATCH, FEATURES)), dtype)
    weights = Weights()
    jax.eval_shape(lambda: step(weights, init, xs[0]))
    held = {name: jnp.asarray(value, dtype) for name, value in weights.held.items()}
    return held, init, xs


def values_and_gradients(scan, step, dtype=np.float32):
    """All results of a cell, and the gradients of every float that goes in."""
    held, init, xs = prepare(step, dtype)
    leaves, tree = jax.tree.flatten(init)
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def objective(held, floats, xs):
        given = iter(floats)
        carry = [next(given) if f else a for f, a in zip(is_float, leaves, strict=True)]
        weights = Weights(dict(held))
        outputs = scan(lambda c, x: step(weights, c, x), jax.tree.unflatten(tree, carry), xs)
        floats = [y for y in jax.tree.leaves(outputs) if jnp.issubdtype(y.dtype, jnp.floating)]
        return sum(jnp.sin(y + 0.1 * i).sum() for i, y in enumerate(floats)), outputs

    floats = [a for f, a in zip(is_float, leaves, strict=True) if f]
    return jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True)(held, floats, xs)
