"""`.h5` files as tf.keras 2 wrote them: architecture and weights."""

import json

import h5py
import keras
import numpy as np
import pytest

import recurrax as rx
from recurrax.saving import LoadError, load_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5, 3)).astype("float32")
ZEROS = {"class_name": "Zeros", "config": {}}


def initializer(name, **config):
    return {"class_name": name, "config": {"seed": None, **config}}


def recurrent(name, cls, units, **config):
    base = {
        "name": name,
        "trainable": True,
        "dtype": "float32",
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "time_major": False,
        "units": units,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "kernel_initializer": initializer("GlorotUniform"),
        "recurrent_initializer": initializer("Orthogonal", gain=1.0),
        "bias_initializer": ZEROS,
        "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}},
        "kernel_constraint": None,
        "dropout": 0.1,
        "recurrent_dropout": 0.0,
        "implementation": 2,
    }
    if cls == "LSTM":
        base["unit_forget_bias"] = True
    if cls == "GRU":
        base["reset_after"] = True
    return {"class_name": cls, "config": {**base, **config}}


def dense(name, units, **config):
    base = {"name": name, "trainable": True, "dtype": "float32", "units": units}
    base |= {"activation": "linear", "use_bias": True, "bias_initializer": ZEROS}
    base["kernel_initializer"] = initializer("GlorotUniform")
    return {"class_name": "Dense", "config": {**base, **config}}


def input_layer(name, shape):
    config = {"batch_input_shape": shape, "dtype": "float32", "sparse": False, "ragged": False}
    return {"class_name": "InputLayer", "config": {**config, "name": name}}


def write(path, config, weights, groups=1):
    """A file as `model.save("m.h5")` of tf.keras 2.13 left it."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.13.1"
        file.attrs["backend"] = b"tensorflow"
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
            file = file.create_group("model_weights")
        names = [name.encode() for name in weights]
        for part in range(groups):  # long lists are split over attributes
            key = "layer_names" if groups == 1 else f"layer_names{part}"
            file.attrs[key] = (
                names[part::groups] if groups == 1 else np.array_split(names, groups)[part]
            )
        for name, arrays in weights.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([key.encode() for key in arrays], "S")
            for key, array in arrays.items():
                group[key] = array


def draw(*shape):
    return RNG.normal(size=shape).astype("float32") * 0.5


def lstm_weights(layer, features, units, gates=4, **more):
    bias = {"bias:0": draw(gates * units) if gates == 4 else draw(2, gates * units)}
    return {
        f"{layer}/{key}": array
        for key, array in {
            "kernel:0": draw(features, gates * units),
            "recurrent_kernel:0": draw(units, gates * units),
            **bias,
        }.items()
    }


SEQUENTIAL = {
    "class_name": "Sequential",
    "config": {
        "name": "sequential",
        "layers": [
            input_layer("lstm_input", [None, 5, 3]),
            {
                "class_name": "Bidirectional",
                "config": {
                    "name": "bidirectional",
                    "trainable": True,
                    "dtype": "float32",
                    "batch_input_shape": [None, 5, 3],
                    "layer": recurrent("lstm", "LSTM", 4, return_sequences=True),
                    "merge_mode": "concat",
                },
            },
            recurrent("gru", "GRU", 3),
            {
                "class_name": "Dropout",
                "config": {"name": "dropout", "rate": 0.2, "dtype": "float32"},
            },
            dense("dense", 2, activation="relu"),
        ],
    },
    "keras_version": "2.13.1",
    "backend": "tensorflow",
}


def sequential_weights():
    both = lstm_weights("bidirectional/forward_lstm/lstm_cell", 3, 4)
    both |= lstm_weights("bidirectional/backward_lstm/lstm_cell", 3, 4)
    return {
        "lstm_input": {},
        "bidirectional": both,
        "gru": lstm_weights("gru/gru_cell", 8, 3, gates=3),
        "dropout": {},
        "dense": {"dense/kernel:0": draw(3, 2), "dense/bias:0": draw(2)},
    }


def twin(weights):
    """The same model in Keras 3, whose layers have their weights in the same order."""
    k = keras.layers
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            k.Bidirectional(k.LSTM(4, return_sequences=True)),
            k.GRU(3),
            k.Dropout(0.2),
            k.Dense(2, "relu"),
        ]
    )
    model.set_weights([a for arrays in weights.values() for a in arrays.values()])
    return model


@pytest.mark.parametrize("groups", [1, 2])
def test_a_sequential_model_loads(groups, tmp_path):
    weights = sequential_weights()
    write(tmp_path / "m.h5", SEQUENTIAL, weights, groups)
    model = load_model(tmp_path / "m.h5")
    np.testing.assert_allclose(model(X), twin(weights)(X), atol=1e-6)
    assert model.layers[1].cell.dropout == 0.1
    assert model.layers[1].kernel_regularizer is not None


def test_weights_alone_load_in_order_and_by_name(tmp_path):
    weights = sequential_weights()
    write(tmp_path / "w.h5", None, weights)
    model = rx.models.clone_model(_loaded(tmp_path, sequential_weights()))
    model.load_weights(tmp_path / "w.h5")
    np.testing.assert_allclose(model(X), twin(weights)(X), atol=1e-6)
    other = _loaded(tmp_path, sequential_weights())
    before = other.layers[0].get_weights()
    write(tmp_path / "w.h5", None, {name: weights[name] for name in ("dense", "gru")})
    other.load_weights(tmp_path / "w.h5", by_name=True)
    np.testing.assert_array_equal(other.layers[0].get_weights()[0], before[0])
    np.testing.assert_array_equal(
        other.get_layer("dense").kernel, weights["dense"]["dense/kernel:0"]
    )


def _loaded(folder, weights):
    write(folder / "m.h5", SEQUENTIAL, weights)
    return load_model(folder / "m.h5")


def called(layer, *calls):
    name = layer["config"]["name"]
    return {**layer, "name": name, "inbound_nodes": [list(call) for call in calls]}


def test_a_functional_model_loads(tmp_path):
    concatenate = {"class_name": "Concatenate", "config": {"name": "both", "axis": -1}}
    config = {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "trainable": True,
            "layers": [
                called(input_layer("a", [None, 5, 3])),
                called(recurrent("lstm", "LSTM", 4, return_state=True), [["a", 0, 0, {}]]),
                called(
                    recurrent("again", "LSTM", 4),
                    [
                        ["a", 0, 0, {"initial_state": [["lstm", 0, 1], ["lstm", 0, 2]]}],
                    ],
                ),
                called(concatenate, [["lstm", 0, 0, {}], ["again", 0, 0, {}]]),
                called(dense("dense", 2), [["both", 0, 0, {}]]),
            ],
            "input_layers": [["a", 0, 0]],
            "output_layers": [["dense", 0, 0]],
        },
    }
    weights = {
        "a": {},
        "lstm": lstm_weights("lstm/lstm_cell", 3, 4),
        "again": lstm_weights("again/lstm_cell", 3, 4),
        "both": {},
        "dense": {"dense/kernel:0": draw(8, 2), "dense/bias:0": draw(2)},
    }
    write(tmp_path / "m.h5", config, weights)
    k = keras.layers
    a = keras.Input((5, 3))
    first, h, c = k.LSTM(4, return_state=True)(a)
    again = k.LSTM(4)(a, initial_state=[h, c])
    expected = keras.Model(a, k.Dense(2)(k.Concatenate()([first, again])))
    expected.set_weights([w for arrays in weights.values() for w in arrays.values()])
    np.testing.assert_allclose(load_model(tmp_path / "m.h5")(X), expected(X), atol=1e-6)


def test_the_first_form_of_sequential_loads(tmp_path):
    config = {"class_name": "Sequential", "config": [dense("d", 2, batch_input_shape=[None, 3])]}
    weights = {"d": {"d/kernel:0": draw(3, 2), "d/bias:0": draw(2)}}
    write(tmp_path / "m.h5", config, weights)
    x = X[:, 0]
    expected = x @ weights["d"]["d/kernel:0"] + weights["d"]["d/bias:0"]
    np.testing.assert_allclose(load_model(tmp_path / "m.h5")(x), expected, atol=1e-6)


def test_old_json_loads():
    model = rx.models.model_from_json(json.dumps(SEQUENTIAL))
    assert model.output_shape == (None, 2)


def _changed(weights, layer, key, array):
    return {**weights, layer: {**weights[layer], key: array}}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: _changed(w, "dense", "dense/kernel:0", draw(4, 2)), r"\(3, 2\).*\(4, 2\)"),
        (lambda w: {**w, "dense": {}}, "weights for 2 layers"),
        (lambda w: {**w, "more": {"x:0": draw(2)}}, "weights for 4 layers"),
        (lambda w: _changed(w, "dense", "dense/x:0", draw(2)), "has 2 weights.*has 3"),
        (lambda w: _changed(w, "dense", "dense/bias:0", np.arange(2)), "dtype int64"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, complaint, tmp_path):
    write(tmp_path / "m.h5", SEQUENTIAL, change(sequential_weights()))
    with pytest.raises(LoadError, match=complaint):
        load_model(tmp_path / "m.h5")


def test_a_file_without_a_model_says_what_to_do(tmp_path):
    write(tmp_path / "w.h5", None, sequential_weights())
    with pytest.raises(LoadError, match=r"load_weights\(\)"):
        load_model(tmp_path / "w.h5")


def test_a_list_that_names_what_is_not_there_is_refused(tmp_path):
    write(tmp_path / "m.h5", SEQUENTIAL, sequential_weights())
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file["model_weights/dense/dense"]
    with pytest.raises(LoadError, match="lists the weight"):
        load_model(tmp_path / "m.h5")
