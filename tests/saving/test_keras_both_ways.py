"""Files of real Keras open here and ours open there: the same predictions."""

import warnings

import jax
import keras
import numpy as np
import pytest

import recurrax as rx
from recurrax.saving import load_model

# Keras's own conversion of variables to NumPy arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5, 3)).astype("float32")
TOKENS = RNG.integers(0, 7, (4, 5)).astype("int32")


def recurrent(name, **options):
    def make(k):
        return [k.Input((5, 3)), getattr(k.layers, name)(4, **options), k.layers.Dense(2)]

    return make


def of_cells(*names):
    def make(k):
        cells = [getattr(k.layers, name)(3) for name in names]
        cell = cells[0] if len(cells) == 1 else cells
        return [k.Input((5, 3)), k.layers.RNN(cell), k.layers.Dense(1)]

    return make


SEQUENTIAL = {
    **{n: recurrent(n) for n in ("LSTM", "GRU", "SimpleRNN")},
    "sequences": lambda k: [
        k.Input((5, 3)),
        k.layers.LSTM(4, return_sequences=True, go_backwards=True),
        k.layers.GRU(3, return_sequences=True, reset_after=False, use_bias=False),
        k.layers.SimpleRNN(2, activation="relu", unroll=True),
    ],
    "lstm options": recurrent(
        "LSTM",
        activation="relu",
        recurrent_activation="tanh",
        unit_forget_bias=False,
        kernel_initializer="he_normal",
        recurrent_initializer="glorot_uniform",
        bias_initializer="ones",
        kernel_regularizer="l2",
        recurrent_regularizer="l1",
        kernel_constraint="max_norm",
        bias_constraint="non_neg",
        dropout=0.1,
        recurrent_dropout=0.2,
        seed=3,
    ),
    "objects": lambda k: [
        k.Input((5, 3)),
        k.layers.GRU(
            3,
            kernel_initializer=k.initializers.RandomNormal(stddev=0.3, seed=1),
            kernel_regularizer=k.regularizers.L1L2(0.1, 0.2),
            recurrent_constraint=k.constraints.MinMaxNorm(0.1, 0.9),
            recurrent_initializer=k.initializers.Orthogonal(2.0),
            bias_initializer=k.initializers.Constant(0.3),
        ),
    ],
    "cell": of_cells("GRUCell"),
    "stateful": lambda k: [
        k.Input(batch_shape=(4, 5, 3)),
        k.layers.LSTM(3, stateful=True, return_sequences=True),
        k.layers.GRU(2, stateful=True),
    ],
    "embedding": lambda k: [
        k.Input((5,), dtype="int32"),
        k.layers.Embedding(7, 3, mask_zero=True),
        k.layers.LSTM(4),
        k.layers.Dropout(0.2),
        k.layers.Dense(3, activation="softmax", kernel_regularizer=k.regularizers.L2(0.1)),
    ],
    "flat": lambda k: [
        k.Input((5, 3)),
        k.layers.Flatten(),
        k.layers.Dense(3),
        k.layers.Activation("tanh"),
    ],
    "no input": lambda k: [k.layers.LSTM(4), k.layers.Dense(1)],
    "nested": lambda k: [
        k.Input((5, 3)),
        k.Sequential([k.layers.LSTM(4, return_sequences=True), k.layers.GRU(3)]),
        k.Sequential([k.layers.Dense(3), k.layers.Dense(2)]),
        k.layers.Dense(2),
    ],
    "mixed precision": lambda k: [
        k.Input((5, 3)),
        k.layers.LSTM(4, dtype="mixed_bfloat16"),
        k.layers.Dense(2, dtype="float32"),
    ],
    "frozen": lambda k: [k.Input((5, 3)), k.layers.LSTM(4, trainable=False), k.layers.Dense(2)],
}


def layered(*make):
    """Layers one after the other on sequences; each made by a function of the layers' module."""
    return lambda k: [k.Input((5, 3)), *(one(k.layers) for one in make)]


SEQUENTIAL |= {
    "bidirectional": layered(
        lambda L: L.Bidirectional(L.LSTM(3, return_sequences=True)),
        lambda L: L.Bidirectional(
            L.GRU(2), merge_mode="sum", backward_layer=L.SimpleRNN(2, go_backwards=True)
        ),
    ),
    "stacked cells": of_cells("LSTMCell", "GRUCell", "SimpleRNNCell"),
    "time distributed": layered(
        lambda L: L.TimeDistributed(L.Dense(4, activation="relu")),
        lambda L: L.TimeDistributed(L.LayerNormalization()),
        lambda L: L.LSTM(2),
    ),
    "norms": layered(
        lambda L: L.BatchNormalization(momentum=0.9),
        lambda L: L.LayerNormalization(epsilon=1e-4),
        lambda L: L.GRU(3),
    ),
    "convolutions": layered(
        lambda L: L.Conv1D(4, 3, padding="causal", activation="relu"),
        lambda L: L.MaxPooling1D(2),
        lambda L: L.AveragePooling1D(2, padding="same"),
        lambda L: L.LSTM(2, return_sequences=True),
        lambda L: L.GlobalAveragePooling1D(),
    ),
    "masking": layered(
        lambda L: L.Masking(0.5),
        lambda L: L.LSTM(3, return_sequences=True),
        lambda L: L.Bidirectional(L.GRU(3)),
    ),
    "shapes": layered(
        lambda L: L.Permute((2, 1)),
        lambda L: L.Reshape((5, 3)),
        lambda L: L.SimpleRNN(4),
        lambda L: L.RepeatVector(3),
        lambda L: L.GRU(2, return_sequences=True),
        lambda L: L.Flatten(),
    ),
    "noise and activations": layered(
        lambda L: L.GaussianNoise(0.1),
        lambda L: L.SpatialDropout1D(0.1),
        lambda L: L.LeakyReLU(0.2),
        lambda L: L.ELU(),
        lambda L: L.ReLU(3.0),
        lambda L: L.Softmax(),
        lambda L: L.ActivityRegularization(0.1),
        lambda L: L.LSTM(2),
    ),
    "einsum": layered(lambda L: L.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d")),
    "conv lstm": lambda k: [
        k.Input((5, 3)),
        k.layers.Reshape((5, 3, 1, 1)),
        k.layers.ConvLSTM2D(2, (2, 1), return_sequences=True, padding="same"),
        k.layers.Flatten(),
    ],
}


def encoder_decoder(k):
    L = k.layers
    a, b = k.Input((5, 3), name="source"), k.Input((5, 3), name="target")
    encoded, h, c = L.LSTM(4, return_sequences=True, return_state=True)(a)
    decoded = L.LSTM(4, return_sequences=True)(b, initial_state=[h, c])
    attended = L.Attention(use_scale=True)([decoded, encoded])
    more = L.AdditiveAttention()([decoded, encoded])
    joined = L.Concatenate()([decoded, attended, L.Add()([more, decoded])])
    return k.Model([a, b], [L.Dense(2)(joined), L.GlobalMaxPooling1D()(joined)])


def shared_layer(k):
    a, b = k.Input((5, 3), name="a"), k.Input((5, 3), name="b")
    twin = k.layers.GRU(3)
    return k.Model({"a": a, "b": b}, k.layers.Subtract()([twin(a), twin(b)]))


def nested(k):
    L = k.layers
    inner_in = k.Input((5, 3))
    inner = k.Model(inner_in, L.Dense(4)(L.LSTM(3, return_sequences=True)(inner_in)))
    a, b = k.Input((5, 3)), k.Input((5, 3))
    tail = k.Sequential([L.GRU(3), L.Dense(1)])
    return k.Model([a, b], tail(L.Average()([inner(a), inner(b)])))


def heads(k):
    a, b = k.Input((5, 3)), k.Input((5, 3))
    y = k.layers.MultiHeadAttention(2, 4)(a, b, use_causal_mask=True)
    return k.Model([a, b], k.layers.LayerNormalization()(y))


def masked_attention(k):
    a, b = k.Input((5, 3)), k.Input((5, 3))
    y = k.layers.Attention()([k.layers.Masking()(a), b])
    return k.Model([a, b], k.layers.GlobalAveragePooling1D()(y))


FUNCTIONAL = {
    f.__name__: f for f in (encoder_decoder, shared_layer, nested, heads, masked_attention)
}


def data_for(model):
    return TOKENS if "embedding" in {layer.name[:9] for layer in model.layers} else X


def made(k, name):
    if name in FUNCTIONAL:
        model, x = FUNCTIONAL[name](k), [X, X[::-1]]
        x = {"a": x[0], "b": x[1]} if name == "shared_layer" else x
    else:
        model = k.Sequential(SEQUENTIAL[name](k), name="model")
        x = data_for(model)
        model(x)
    for variable in model.weights:  # no zeros, which would hide an exchange
        value = RNG.uniform(-0.5, 0.5, variable.shape).astype("float32")
        variable.assign(value)
    return model, x


def reset(model):
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()
    return model


def same(ours, theirs, x, tolerance=1e-6):
    expected = jax.tree.leaves(reset(theirs)(x))
    got = jax.tree.leaves(reset(ours)(x))
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        a, b = np.asarray(ours, "float32"), np.asarray(theirs, "float32")
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def tolerance(name):
    # bfloat16 has 8 bits: XLA may fuse the two programs differently.
    return 4e-3 if name == "mixed precision" else 1e-6


@pytest.mark.parametrize("name", [*SEQUENTIAL, *FUNCTIONAL])
def test_a_file_of_ours_opens_in_keras(name, tmp_path):
    ours, x = made(rx, name)
    ours.save(tmp_path / "m.keras")
    theirs = keras.saving.load_model(tmp_path / "m.keras")
    same(ours, theirs, x, tolerance(name))
    assert [v.shape for v in theirs.weights] == [v.shape for v in ours.weights]
    assert len(theirs.trainable_weights) == len(ours.trainable_weights)


@pytest.mark.parametrize("name", [*SEQUENTIAL, *FUNCTIONAL])
def test_a_file_of_keras_opens_here(name, tmp_path):
    theirs, x = made(keras, name)
    theirs.save(tmp_path / "m.keras")
    ours = load_model(tmp_path / "m.keras")
    same(ours, theirs, x, tolerance(name))
    assert len(theirs.trainable_weights) == len(ours.trainable_weights)
    # And what we write of it, Keras opens again.
    ours.save(tmp_path / "again.keras")
    same(ours, keras.saving.load_model(tmp_path / "again.keras"), x, tolerance(name))


@pytest.mark.parametrize("name", ["sequences", "embedding", "nested"])
def test_weights_alone_go_both_ways(name, tmp_path):
    ours, x = made(rx, name)
    theirs, _ = made(keras, name)
    ours.save_weights(tmp_path / "a.weights.h5")
    theirs.load_weights(tmp_path / "a.weights.h5")
    same(ours, theirs, x)
    other, _ = made(keras, name)
    other.save_weights(tmp_path / "b.weights.h5")
    ours.load_weights(tmp_path / "b.weights.h5")
    same(ours, other, x)


def test_json_goes_both_ways():
    ours, _ = made(rx, "nested")
    theirs = keras.models.model_from_json(ours.to_json())
    assert [v.shape for v in theirs.weights] == [v.shape for v in ours.weights]
    again = rx.saving.model_from_json(theirs.to_json())
    assert [v.shape for v in again.weights] == [v.shape for v in ours.weights]


def test_keras_reads_no_warning_out_of_our_files(tmp_path):
    ours, _ = made(rx, "embedding")
    ours.save(tmp_path / "m.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras.saving.load_model(tmp_path / "m.keras")
