"""Classes and functions of the user's own in files."""

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import recurrax as rx
from recurrax.saving import LoadError, custom_object_scope, load_model, register_keras_serializable

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


class MinimalCell(rx.Layer):
    """A cell in plain jax.numpy."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")
        self.decay = self.add_weight((self.units,), "zeros", trainable=False, name="decay")
        self.gain = self.add_weight((self.units,), "ones", name="gain")

    def call(self, inputs, states):
        h = jnp.tanh(inputs @ self.kernel.value) * self.gain + states[0] * self.decay
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def doubled(x):
    return 2 * x


def model():
    m = rx.Sequential(
        [rx.Input((5, 3)), rx.layers.RNN(MinimalCell(4)), rx.layers.Dense(2, doubled)]
    )
    for v in m.weights:
        v.assign(np.random.default_rng(1).normal(size=v.shape))
    return m


OBJECTS = {"MinimalCell": MinimalCell, "doubled": doubled}


def test_custom_objects_make_classes_known(tmp_path):
    path = tmp_path / "m.keras"
    saved = model()
    saved.save(path)
    with pytest.raises(LoadError, match=r"'MinimalCell'.*custom_objects="):
        load_model(path)
    np.testing.assert_array_equal(load_model(path, custom_objects=OBJECTS)(X), saved(X))
    with custom_object_scope(OBJECTS):
        np.testing.assert_array_equal(load_model(path)(X), saved(X))


def test_registered_classes_are_known_under_their_package(tmp_path):
    @register_keras_serializable("mine", "the_layer")
    class Scaled(rx.Layer):
        def __init__(self, by=2.0, **kwargs):
            super().__init__(**kwargs)
            self.by = by

        def call(self, inputs):
            return inputs * self.by

        def get_config(self):
            return {**super().get_config(), "by": self.by}

    saved = rx.Sequential([rx.Input((3,)), Scaled(3.0)])
    saved.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(load_model(tmp_path / "m.keras")(X[:, 0]), 3 * X[:, 0])


def test_a_cell_of_keras_and_ours_share_their_file(tmp_path):
    class Cell(keras.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.state_size = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
            self.decay = self.add_weight(
                shape=(self.units,), initializer="zeros", trainable=False, name="decay"
            )
            self.gain = self.add_weight(shape=(self.units,), initializer="ones", name="gain")

        def call(self, inputs, states):
            h = keras.ops.tanh(inputs @ self.kernel) * self.gain + states[0] * self.decay
            return h, [h]

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    saved = model()
    saved.save(tmp_path / "m.keras")
    objects = {"MinimalCell": Cell, "doubled": doubled}
    theirs = keras.saving.load_model(tmp_path / "m.keras", custom_objects=objects)
    np.testing.assert_allclose(theirs(X), saved(X), atol=1e-6)


def test_a_layer_may_say_what_it_saves(tmp_path):
    class Counting(rx.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seen = 0

        def call(self, inputs):
            return inputs

        def build(self, input_shape):
            self.scale = self.add_weight((3,), "ones", name="scale")

        def save_own_variables(self, store):
            super().save_own_variables(store)
            store["seen"] = np.array(self.seen)

        def load_own_variables(self, store):
            super().load_own_variables(store)
            self.seen = int(store["seen"])

    m = rx.Sequential([rx.Input((3,)), Counting()])
    m.layers[0].seen = 7
    m.layers[0].scale.assign([1.0, 2.0, 3.0])
    m.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras", custom_objects={"Counting": Counting})
    assert again.layers[0].seen == 7
    np.testing.assert_array_equal(again.layers[0].scale, [1, 2, 3])


def test_a_weight_that_a_layer_does_not_save_begins_as_it_does_in_a_new_one(tmp_path):
    class Table(rx.Layer):
        def build(self, input_shape):
            self.table = self.add_weight((3,), lambda shape, dtype: jnp.arange(3.0), name="table")

        def call(self, inputs):
            return inputs + self.table.value

        def save_own_variables(self, store):
            pass

        def load_own_variables(self, store):
            assert not store

    m = rx.Sequential([rx.Input((3,)), Table(), rx.layers.Dense(2)])
    m.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras", custom_objects={"Table": Table})
    np.testing.assert_array_equal(again.layers[0].table, [0, 1, 2])
    np.testing.assert_array_equal(again(X[:, 0]), m(X[:, 0]))


def test_a_failing_load_own_variables_changes_nothing(tmp_path):
    class Failing(rx.Layer):
        def call(self, inputs):
            return inputs

        def load_own_variables(self, store):
            raise RuntimeError("cannot")

    m = rx.Sequential([rx.Input((3,)), rx.layers.Dense(2), Failing()])
    m.save_weights(tmp_path / "m.weights.h5")
    m.layers[0].kernel.assign(np.ones((3, 2)))
    with pytest.raises(LoadError, match="cannot"):
        m.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(m.layers[0].kernel, np.ones((3, 2)))


def test_a_shared_object_is_shared_again():
    shared = rx.initializers.Constant(2.0)
    m = rx.Sequential(
        [
            rx.Input((3,)),
            rx.layers.Dense(2, kernel_initializer=shared),
            rx.layers.Dense(2, kernel_initializer=shared),
        ]
    )
    again = rx.saving.model_from_json(m.to_json())
    first, second = again.layers
    assert first.kernel_initializer is second.kernel_initializer
