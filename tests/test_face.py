"""`import recurrax as keras`: the names that recurrent code uses are there."""

import keras as real
import numpy as np
import pytest

import recurrax as keras

NAMES = [
    *("Input", "InputSpec", "Layer", "Model", "Sequential", "KerasTensor", "Variable"),
    *("DTypePolicy", "Initializer", "Loss", "Metric", "Optimizer", "Regularizer", "name_scope"),
    *("StatelessScope", "activations.get", "backend.clear_session", "backend.floatx"),
    *("callbacks.EarlyStopping", "callbacks.ModelCheckpoint", "config.set_floatx"),
    *("config.dtype_policy", "constraints.MaxNorm", "dtype_policies.get"),
    *("initializers.Orthogonal", "losses.MeanSquaredError", "metrics.Accuracy"),
    *("mixed_precision.set_global_policy", "models.Model", "models.load_model"),
    *("models.clone_model", "ops.matmul", "optimizers.Adam"),
    *("optimizers.schedules.ExponentialDecay", "random.SeedGenerator", "random.normal"),
    *("regularizers.L2", "saving.register_keras_serializable", "saving.load_model"),
    *("saving.deserialize_keras_object", "saving.serialize_keras_object", "tree.map_structure"),
    *("utils.pad_sequences", "utils.to_categorical", "utils.set_random_seed"),
    *("preprocessing.sequence.pad_sequences", "preprocessing.timeseries_dataset_from_array"),
    *("utils.pack_x_y_sample_weight", "utils.unpack_x_y_sample_weight"),
    *("utils.timeseries_dataset_from_array", "utils.plot_model", "utils.clear_session"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_keras_is_here(name):
    ours, theirs = keras, real
    for part in name.split("."):
        ours, theirs = getattr(ours, part), getattr(theirs, part)
    assert callable(ours) == callable(theirs)


def test_names_start_anew_after_clear_session():
    keras.utils.clear_session()
    first = keras.layers.LSTM(2).name
    assert (first, keras.layers.LSTM(2).name) == ("lstm", "lstm_1")
    keras.backend.clear_session()
    assert keras.layers.LSTM(2).name == "lstm"


@pytest.mark.parametrize(
    "structure", [1, None, [1, 2], (1, [2, None]), {"b": 1, "a": (2,)}, [], {}]
)
def test_structures(structure):
    assert keras.tree.flatten(structure) == real.tree.flatten(structure)
    assert keras.tree.is_nested(structure) == real.tree.is_nested(structure)
    assert keras.tree.flatten_with_path(structure) == real.tree.flatten_with_path(structure)
    flat = keras.tree.flatten(structure)
    assert keras.tree.pack_sequence_as(structure, flat) == structure
    doubled = keras.tree.map_structure(lambda x: x and 2 * x, structure)
    assert doubled == real.tree.map_structure(lambda x: x and 2 * x, structure)
    assert keras.tree.lists_to_tuples(structure) == real.tree.lists_to_tuples(structure)
    with pytest.raises(ValueError, match="structures differ"):
        keras.tree.assert_same_structure(structure, [structure])


def test_random_draws():
    random = keras.random
    draws = np.asarray(random.normal((2000,), mean=1.0, stddev=2.0, seed=1))
    np.testing.assert_allclose([draws.mean(), draws.std()], [1, 2], atol=0.15)
    np.testing.assert_array_equal(draws, random.normal((2000,), 1.0, 2.0, seed=1))
    generator = random.SeedGenerator(3)
    a, b = (random.uniform((50,), 2.0, 3.0, seed=generator) for _ in range(2))
    assert not np.array_equal(a, b)
    assert 2 <= np.min(a) <= np.max(a) < 3
    assert set(np.asarray(random.randint((200,), 1, 4, seed=0))) == {1, 2, 3}
    assert np.abs(random.truncated_normal((500,), seed=0)).max() <= 2
    logits = np.log([[0.999, 0.001], [0.001, 0.999]])
    np.testing.assert_array_equal(
        np.asarray(random.categorical(logits, 30, seed=0)).mean(axis=1).round(), [0, 1]
    )
    shuffled = np.asarray(random.shuffle(np.arange(20), seed=0))
    assert sorted(shuffled) == list(range(20))
    assert not np.array_equal(shuffled, np.arange(20))
    dropped = np.asarray(random.dropout(np.ones(400, np.float32), 0.5, seed=0))
    assert set(dropped) == {0.0, 2.0}
    keras.utils.set_random_seed(5)
    first = np.asarray(random.normal((3,)))
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(random.normal((3,)), first)
