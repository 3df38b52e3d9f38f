"""Files of real Keras open here and ours open there: the same predictions."""

import warnings

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


def data_for(model):
    return TOKENS if "embedding" in {layer.name[:9] for layer in model.layers} else X


def sequential(k, name):
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
    expected = np.asarray(reset(theirs)(x), "float32")
    got = np.asarray(reset(ours)(x), "float32")
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


def tolerance(name):
    # bfloat16 has 8 bits: XLA may fuse the two programs differently.
    return 4e-3 if name == "mixed precision" else 1e-6


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_file_of_ours_opens_in_keras(name, tmp_path):
    ours, x = sequential(rx, name)
    ours.save(tmp_path / "m.keras")
    theirs = keras.saving.load_model(tmp_path / "m.keras")
    same(ours, theirs, x, tolerance(name))
    assert [v.shape for v in theirs.weights] == [v.shape for v in ours.weights]
    assert len(theirs.trainable_weights) == len(ours.trainable_weights)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_file_of_keras_opens_here(name, tmp_path):
    theirs, x = sequential(keras, name)
    theirs.save(tmp_path / "m.keras")
    ours = load_model(tmp_path / "m.keras")
    same(ours, theirs, x, tolerance(name))
    assert len(theirs.trainable_weights) == len(ours.trainable_weights)
    # And what we write of it, Keras opens again.
    ours.save(tmp_path / "again.keras")
    same(ours, keras.saving.load_model(tmp_path / "again.keras"), x, tolerance(name))


@pytest.mark.parametrize("name", ["sequences", "embedding", "nested"])
def test_weights_alone_go_both_ways(name, tmp_path):
    ours, x = sequential(rx, name)
    theirs, _ = sequential(keras, name)
    ours.save_weights(tmp_path / "a.weights.h5")
    theirs.load_weights(tmp_path / "a.weights.h5")
    same(ours, theirs, x)
    other, _ = sequential(keras, name)
    other.save_weights(tmp_path / "b.weights.h5")
    ours.load_weights(tmp_path / "b.weights.h5")
    same(ours, other, x)


def test_json_goes_both_ways():
    ours, _ = sequential(rx, "nested")
    theirs = keras.models.model_from_json(ours.to_json())
    assert [v.shape for v in theirs.weights] == [v.shape for v in ours.weights]
    again = rx.saving.model_from_json(theirs.to_json())
    assert [v.shape for v in again.weights] == [v.shape for v in ours.weights]


def test_keras_reads_no_warning_out_of_our_files(tmp_path):
    ours, _ = sequential(rx, "embedding")
    ours.save(tmp_path / "m.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras.saving.load_model(tmp_path / "m.keras")
