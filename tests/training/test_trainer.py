"""`compile` and the parts of training that people override."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import recurrax as keras
from recurrax import layers

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 3)).astype("float32")
Y = rng.normal(size=(24, 1)).astype("float32")


def model(units=1, **kwargs):
    return keras.Sequential([keras.Input((3,)), layers.Dense(units, **kwargs)])


def test_unknown_names_name_the_nearest():
    made = model()
    for arguments, message in (
        ({"optimizer": "adamm"}, "Did you mean 'adam'"),
        ({"loss": "mean_square_error"}, "Did you mean 'mean_squared_error'"),
        ({"metrics": ["acuracy"]}, "Unknown metric 'acuracy'"),
        ({"metrics": "accuracy"}, "metrics must be a list"),
        ({"steps_per_execution": 0}, "steps_per_execution must be"),
    ):
        with pytest.raises(ValueError, match=message):
            made.compile(**arguments)
    assert not made.compiled


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_what_needs_compile_says_so(method):
    with pytest.raises(ValueError, match=rf"{method} needs a compiled model"):
        getattr(model(), method)(X, Y)


def test_metrics_in_the_place_of_loss_weights_are_told_apart():
    model = keras.Sequential([keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"metrics=\['mae'\]"):
        model.compile("adam", "mse", ["mae"])
    with pytest.raises(ValueError, match=r"pass \['mae'\]"):
        model.compile("adam", "mse", metrics="mae")


def test_predict_needs_no_compile():
    assert model().predict(X, verbose=0).shape == (24, 1)
    assert model().predict_on_batch(X[:2]).shape == (2, 1)


def test_labels_outside_the_classes_are_refused_before_compilation():
    made = model(4, activation="softmax")
    made.compile("sgd", "sparse_categorical_crossentropy")
    for labels, found in ((np.full(24, 4), "class 4"), (np.full(24, -1), "class -1")):
        with pytest.raises(ValueError, match=f"{found}, but the output has 4 classes"):
            made.fit(X, labels, verbose=0)
        with pytest.raises(ValueError, match=found):
            made.train_on_batch(X, labels)
    ignoring = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    made.compile("sgd", ignoring)
    assert np.isfinite(made.fit(X, np.full(24, -1), verbose=0).history["loss"][0])


def test_ids_outside_an_embedding_are_refused():
    made = keras.Sequential([layers.Embedding(5, 2), layers.GlobalAveragePooling1D()])
    made.compile("sgd", "mse")
    with pytest.raises(ValueError, match="5"):
        made.fit(np.full((4, 3), 5), np.zeros((4, 2)), verbose=0)


def test_outputs_that_do_not_exist_are_refused():
    x = keras.Input((3,))
    two = keras.Model(x, {"a": layers.Dense(1)(x), "b": layers.Dense(1)(x)})
    two.compile("sgd", {"a": "mse", "c": "mse"})
    with pytest.raises(ValueError, match="names an output 'c'"):
        two.fit(X, {"a": Y, "b": Y}, verbose=0)
    two.compile("sgd", ["mse", "mse", "mse"])
    with pytest.raises(ValueError, match="2 outputs, but loss has 3"):
        two.fit(X, {"a": Y, "b": Y}, verbose=0)
    two.compile("sgd", "mse")
    with pytest.raises(ValueError, match="2 outputs, but y holds 3"):
        two.fit(X, [Y, Y, Y], verbose=0)


def test_an_output_without_a_loss_is_left_alone():
    x = keras.Input((3,))
    two = keras.Model(x, {"a": layers.Dense(1)(x), "b": layers.Dense(1, name="free")(x)})
    two.compile("sgd", {"a": "mse"})
    before = two.get_layer("free").get_weights()
    history = two.fit(X, {"a": Y, "b": Y}, verbose=0)
    assert "loss" in history.history
    for a, b in zip(before, two.get_layer("free").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_loss_at_all_is_refused_and_a_layer_may_add_one():
    made = model()
    made.compile("sgd")
    with pytest.raises(ValueError, match="There is no loss"):
        made.fit(X, verbose=0)

    class Small(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            y = self.dense(x)
            self.add_loss(jnp.mean(y**2))
            return y

    small = Small()
    small.compile(keras.optimizers.SGD(0.1))
    losses = small.fit(X, epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[0]


def test_a_change_of_trainable_asks_for_compile():
    made = model()
    made.compile("sgd", "mse")
    made.fit(X, Y, verbose=0)
    made.layers[0].trainable = False
    with pytest.raises(ValueError, match="call compile"):
        made.fit(X, Y, verbose=0)


def test_a_frozen_layer_stays():
    made = keras.Sequential([layers.Dense(3), layers.Dense(1)])
    made.layers[0].trainable = False
    made.compile("sgd", "mse")
    made.build((None, 3))
    before = made.get_weights()
    made.fit(X, Y, verbose=0)
    after = made.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[2], after[2])


def test_any_optax_transformation_trains():
    made = model()
    made.compile(optax.chain(optax.clip(1.0), optax.sgd(0.05)), "mse")
    losses = made.fit(X, Y, epochs=4, verbose=0).history["loss"]
    assert losses[3] < losses[0]


def test_custom_train_step_of_the_keras_guide():
    class Custom(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def compute_own_loss(self, trainable, non_trainable, x, y, training=False):
            y_pred, non_trainable = self.stateless_call(
                trainable, non_trainable, x, training=training
            )
            return self.compute_loss(x, y, y_pred), (y_pred, non_trainable)

        def train_step(self, state, data):
            trainable, non_trainable, optimizer_variables, metrics_variables = state
            x, y = data
            gradient = jax.value_and_grad(self.compute_own_loss, has_aux=True)
            (loss, (y_pred, non_trainable)), grads = gradient(
                trainable, non_trainable, x, y, training=True
            )
            trainable, optimizer_variables = self.optimizer.stateless_apply(
                optimizer_variables, grads, trainable
            )
            new_variables, logs = [], {}
            for metric in self.metrics:
                start = len(new_variables)
                mine = metrics_variables[start : start + len(metric.variables)]
                if metric.name == "loss":
                    mine = metric.stateless_update_state(mine, loss)
                else:
                    mine = metric.stateless_update_state(mine, y, y_pred)
                logs[metric.name] = metric.stateless_result(mine)
                new_variables += mine
            return logs, (trainable, non_trainable, optimizer_variables, new_variables)

    plain, custom = model(), Custom()
    custom(X)
    custom.set_weights(plain.get_weights())
    histories = []
    for made in (plain, custom):
        made.compile("adam", "mse", metrics=["mae"])
        histories.append(made.fit(X, Y, epochs=3, batch_size=8, shuffle=False, verbose=0).history)
    for name in ("loss", "mae"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-5)


def test_overridden_loss_and_steps():
    class Doubled(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return 2 * super().compute_loss(x, y, y_pred, sample_weight, training)

        def predict_step(self, state, data):
            outputs, state = super().predict_step(state, data)
            return outputs + 1.0, state

    plain = model()
    doubled = Doubled([keras.Input((3,)), layers.Dense(1)])
    doubled.set_weights(plain.get_weights())
    for made in (plain, doubled):
        made.compile("sgd", "mse")
    assert doubled.evaluate(X, Y, verbose=0) == pytest.approx(
        2 * plain.evaluate(X, Y, verbose=0), rel=1e-5
    )
    np.testing.assert_allclose(
        doubled.predict(X, verbose=0), plain.predict(X, verbose=0) + 1, rtol=1e-5
    )


def test_a_loop_of_your_own_with_stateless_calls():
    made = model()
    optimizer = keras.optimizers.Adam(0.05)
    optimizer.build(made.trainable_variables)

    def loss(trainable, fixed):
        y_pred, _ = made.stateless_call(trainable, fixed, X)
        return jnp.mean((y_pred - Y) ** 2)

    @jax.jit
    def step(trainable, fixed, state):
        value, grads = jax.value_and_grad(loss)(trainable, fixed)
        return value, *optimizer.stateless_apply(state, grads, trainable)

    trainable = [v.value for v in made.trainable_variables]
    fixed = [v.value for v in made.non_trainable_variables]
    state = [v.value for v in optimizer.variables]
    values = []
    for _ in range(5):
        value, trainable, state = step(trainable, fixed, state)
        values.append(float(value))
    assert values[-1] < values[0]


def test_half_precision_is_scaled():
    made = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, dtype="mixed_float16"), layers.Dense(1)]
    )
    made.dtype_policy = keras.layers.Dense(1, dtype="mixed_float16").dtype_policy
    made.compile("sgd", "mse")
    assert isinstance(made.optimizer, keras.optimizers.LossScaleOptimizer)
    losses = made.fit(X, Y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    # Steps whose gradients overflow float16 were left out and made the scale smaller.
    left_out = 15 - np.log2(float(made.optimizer.dynamic_scale))
    assert int(made.optimizer.iterations) == 8 - left_out


def test_names_and_configuration():
    made = model()
    made.compile("adam", "mse", metrics=["mae"], weighted_metrics=["mse"], steps_per_execution=2)
    made.fit(X, Y, verbose=0)
    assert made.metrics_names == ["loss", "compile_metrics"]
    assert list(made.evaluate(X, Y, verbose=0, return_dict=True)) == ["loss", "mae", "mse"]
    again = model()
    again.compile_from_config(made.get_compile_config())
    assert type(again.optimizer) is keras.optimizers.Adam
    assert again.steps_per_execution == 2
    assert again.evaluate(X, Y, verbose=0, return_dict=True).keys() == {"loss", "mae", "mse"}
    assert model().get_compile_config() is None


def test_the_bar_waits_for_nothing(monkeypatch):
    # Training with a bar asks for no value before the epoch ends, unless it is there.
    made = model()
    made.compile("sgd", "mse")
    waited = []
    monkeypatch.setattr(
        "recurrax.training.logs.Logs.ready", property(lambda self: waited.append(1) and False)
    )
    monkeypatch.setattr("recurrax.training.callbacks.progress_bar._INTERVAL", 0.0)
    fetched = []
    original = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda x: fetched.append(len(waited)) or original(x))
    made.fit(X, Y, batch_size=4, verbose=1)
    assert waited
    # All six steps were sent before the first fetch.
    assert fetched[0] >= 6


def test_predicting_batches_of_unequal_lengths_is_an_error_at_the_first_that_differs():
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, return_sequences=True)])
    lengths = [4, 4, 5, 6]
    seen = []

    def batches():
        for length in lengths:
            seen.append(length)
            yield (np.ones((2, length, 2), "float32"),)

    with pytest.raises(ValueError, match=r"batch 1 .*\(2, 4, 3\).*batch 3 \(2, 5, 3\).*pad_sequ"):
        model.predict(batches(), verbose=0)
    assert 6 not in seen[: seen.index(5)]
    # One vector a sample: the lengths do not matter.
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
    assert model.predict(batches(), verbose=0).shape == (8, 3)
