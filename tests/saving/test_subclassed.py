"""Models that are classes of the user's, in the attributes of which Keras finds the same paths."""

import keras
import numpy as np
import pytest

import recurrax as rx
from recurrax.saving import LoadError, load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


def tagger(k):
    class Block(k.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.norm = k.layers.LayerNormalization()
            self.inner = {"gru": k.layers.GRU(units, return_sequences=True)}

        def build(self, input_shape):
            self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")
            self.norm.build(input_shape)
            self.inner["gru"].build(input_shape)

        def call(self, x):
            return self.inner["gru"](self.norm(x)) * self.scale

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    class Tagger(k.Model):
        def __init__(self, units=4, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.zeta = [k.layers.Dense(3), (k.layers.Dense(4), Block(units))]
            self.alpha = k.layers.Bidirectional(k.layers.LSTM(2, return_sequences=True))
            self._hidden = k.layers.Dropout(0.1)
            self.head = k.Sequential([k.layers.Dense(5), k.layers.Dense(2)])

        @property
        def beta(self):
            return self._hidden

        def call(self, x, training=False):
            x = self.zeta[1][0](self.zeta[0](self.alpha(x)))
            return self.head(self._hidden(self.zeta[1][1](x), training=training))

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    return {"Block": Block, "Tagger": Tagger}


def made(k):
    classes = tagger(k)
    model = classes["Tagger"](4, name="tagger")
    model(X)
    draw = np.random.default_rng(2)
    model.set_weights([draw.uniform(-0.5, 0.5, w.shape) for w in model.get_weights()])
    return model, classes


def test_files_go_both_ways(tmp_path):
    ours, our_classes = made(rx)
    theirs, their_classes = made(keras)
    ours.save(tmp_path / "a.keras")
    theirs.save(tmp_path / "b.keras")
    there = keras.saving.load_model(tmp_path / "a.keras", custom_objects=their_classes)
    here = load_model(tmp_path / "b.keras", custom_objects=our_classes)
    np.testing.assert_allclose(there(X), ours(X), atol=1e-6)
    np.testing.assert_allclose(here(X), theirs(X), atol=1e-6)
    again = load_model(tmp_path / "a.keras", custom_objects=our_classes)
    np.testing.assert_array_equal(again(X), ours(X))


def test_weights_go_both_ways(tmp_path):
    ours, _ = made(rx)
    theirs, _ = made(keras)
    other, _ = made(keras)
    ours.save_weights(tmp_path / "a.weights.h5")
    other.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_allclose(other(X), ours(X), atol=1e-6)
    for w in theirs.weights:
        w.assign(w.numpy() * 0.5)
    theirs.save_weights(tmp_path / "b.weights.h5")
    ours.load_weights(tmp_path / "b.weights.h5")
    np.testing.assert_allclose(ours(X), theirs(X), atol=1e-6)


def test_a_class_that_is_not_known_is_named(tmp_path):
    ours, _ = made(rx)
    ours.save(tmp_path / "a.keras")
    with pytest.raises(LoadError, match=r"'Tagger'.*custom_objects="):
        load_model(tmp_path / "a.keras")
