"""The same layer here and in Keras: same weights, same input, same outputs and gradients."""

import jax
import jax.numpy as jnp
import numpy as np

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def draw(shape, seed=0, low=None):
    """Normal numbers, or integers below `low`."""
    generator = np.random.default_rng(seed)
    if low is not None:
        return generator.integers(0, low, shape)
    return generator.standard_normal(shape, np.float32)


def numpy(tree):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]


def assert_close(ours, theirs, **tolerance):
    ours, theirs = numpy(ours), numpy(theirs)
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or TOLERANCE))


def same_weights(ours, theirs, seed=7):
    """Random weights for both; their shapes and names must agree."""
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    values = [0.4 * draw(w.shape, seed + i) for i, w in enumerate(theirs.weights)]
    values = [
        np.abs(v) if w.name == "moving_variance" else v
        for v, w in zip(values, theirs.weights, strict=True)
    ]
    ours.set_weights(values)
    theirs.set_weights(values)


def outputs_and_gradients(layer, inputs, **options):
    """What a layer returns, and the gradients of a fixed sum of it: of weights, then of inputs."""

    def loss(trainable, x):
        state = [v.value for v in layer.non_trainable_variables]
        outputs, updated = layer.stateless_call(trainable, state, x, **options)
        leaves = [y for y in jax.tree.leaves(outputs) if jnp.issubdtype(y.dtype, jnp.floating)]
        total = sum((y * draw(y.shape, 99 + i)).sum() for i, y in enumerate(leaves))
        return total, (outputs, updated)

    trainable = [v.value for v in layer.trainable_variables]
    floating = all(np.issubdtype(x.dtype, np.floating) for x in jax.tree.leaves(inputs))
    wrt = (0, 1) if floating else 0
    gradients, (outputs, updated) = jax.jit(jax.grad(loss, wrt, has_aux=True))(trainable, inputs)
    return outputs, updated, gradients


def compare(ours, theirs, inputs, **options):
    """Both layers, built, on the same inputs: outputs, new states and gradients agree."""
    a = outputs_and_gradients(ours, inputs, **options)
    b = outputs_and_gradients(theirs, inputs, **options)
    for mine, other in zip(a, b, strict=True):
        assert_close(_floating(mine), _floating(other))


def _floating(tree):
    """Without the states of seeds, which Keras's cells have also where nothing is dropped."""
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
