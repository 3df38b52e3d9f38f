"""Penalties, constraints, noise, and the seeds behind it."""

import jax
import keras as real
import numpy as np
import pytest
from tests.layers.against_keras import draw, same_weights

import recurrax as keras
from recurrax import layers

X = draw((3, 4, 5))
PENALTIES = {
    "kernel_regularizer": "l2",
    "recurrent_regularizer": "l1",
    "bias_regularizer": "l2",
    "activity_regularizer": "l2",
}


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_penalties_agree_with_keras(name):
    ours, theirs = (getattr(k.layers, name)(4, **PENALTIES) for k in (keras, real))
    for layer in (ours, theirs):
        layer.build(X.shape)
    same_weights(ours, theirs)
    for layer in (ours, theirs):
        layer(X)
    assert len(ours.losses) == 4
    expected = [float(loss) for loss in theirs.losses]
    if name == "SimpleRNN":  # Keras's takes the penalty on the output and forgets it
        expected.append(0.01 * float((np.asarray(ours(X)) ** 2).sum()) / len(X))
    np.testing.assert_allclose(sorted(map(float, ours.losses)), sorted(expected), rtol=1e-5)
    assert len(ours.losses) == 4  # asked again, not added again


def test_penalties_of_a_model_count_each_call_once():
    shared = layers.Dense(3, activity_regularizer="l1")

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = shared

        def call(self, inputs):
            self.add_loss(0.5)
            return self.dense(inputs) + self.dense(2 * inputs)

    net = Net()
    for _ in range(2):
        net(X)
        assert len(net.losses) == 3
    shared.set_weights([np.ones((5, 3)), np.zeros(3)])
    net(X)
    once = float(np.abs(X @ np.ones((5, 3))).sum()) * 0.01 / 3
    np.testing.assert_allclose(sorted(map(float, net.losses)), sorted([0.5, once, 2 * once]), 1e-5)


def test_constraints_hold_after_training():
    layer = layers.LSTM(4, kernel_constraint="non_neg", recurrent_constraint="unit_norm")
    model = keras.Sequential([layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, np.ones((3, 1)), verbose=0)
    kernel, recurrent, _ = layer.get_weights()
    assert (kernel >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(recurrent, axis=0), 1, rtol=1e-5)


def test_seeds_are_state_that_a_pure_call_hands_on():
    layer = layers.LSTM(4, dropout=0.5, seed=3)
    layer.build(X.shape)
    weights = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]
    assert [v.dtype for v in state] == [np.uint32]
    first, after = layer.stateless_call(weights, state, X, training=True)
    again, _ = layer.stateless_call(weights, state, X, training=True)
    later, _ = layer.stateless_call(weights, after, X, training=True)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    np.testing.assert_array_equal(layer(X, training=True), first)
    np.testing.assert_array_equal(layer(X, training=True), later)


def test_a_pure_call_needs_a_built_layer_and_all_values():
    layer = layers.GRU(4)
    with pytest.raises(ValueError, match="before it is built"):
        layer.stateless_call([], [], X)
    layer(X)
    with pytest.raises(ValueError, match="3 trainable variables, but got 0"):
        layer.stateless_call([], [], X)
    outputs, _, losses = layer.stateless_call(
        [v.value for v in layer.trainable_variables], [], X, return_losses=True
    )
    assert (outputs.shape, losses) == ((3, 4), [])


def test_an_assignment_inside_a_transformation_is_an_error():
    layer = layers.BatchNormalization()
    layer(X)
    with pytest.raises(ValueError, match="must not escape it"):
        jax.jit(lambda x: layer(x, training=True))(X)


def test_a_layer_on_constants_inside_a_transformation_leaks_nothing():
    layer = layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    layer.build((None, 5))
    traced = jax.jit(lambda y: y + layer(X[:, 0]))(np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(traced, layer(X[:, 0]), rtol=1e-6)
    assert isinstance(layer.kernel.value, jax.Array)
    assert not isinstance(layer.kernel.value, jax.core.Tracer)
