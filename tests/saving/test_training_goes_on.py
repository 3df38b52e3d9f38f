"""A model trained here, saved, opened in Keras and trained on, and the reverse: the same numbers as
in one run."""

import io

import keras
import numpy as np
import optax
import pytest

import recurrax as rx
from recurrax.saving import LoadError, load_model

from .hostile import with_config

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 5, 3)).astype("float32")
Y = X.sum(axis=(1, 2))[:, None].astype("float32")

OPTIMIZERS = {
    "sgd": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda k: k.optimizers.Adam(0.01, amsgrad=True, clipnorm=1.0),
    "adamw": lambda k: k.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.9),
    "rmsprop": lambda k: k.optimizers.RMSprop(0.01, centered=True, momentum=0.5),
    "nadam": lambda k: k.optimizers.Nadam(0.01),
    "adagrad": lambda k: k.optimizers.Adagrad(0.05),
    "adamax": lambda k: k.optimizers.Adamax(0.01),
    "adadelta": lambda k: k.optimizers.Adadelta(1.0),
    "lion": lambda k: k.optimizers.Lion(0.001),
    "schedule": lambda k: k.optimizers.Adam(
        k.optimizers.schedules.ExponentialDecay(0.02, 4, 0.8, staircase=True)
    ),
}


def trained(model, epochs=2):
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


def made(k, optimizer):
    a = k.Input((5, 3))
    h = k.layers.Bidirectional(k.layers.GRU(3))(a)
    h = k.layers.BatchNormalization()(h)
    model = k.Model(a, k.layers.Dense(1)(h))
    draw = np.random.default_rng(1)
    model.set_weights([draw.uniform(0.1, 0.6, w.shape) for w in model.get_weights()])
    model.compile(OPTIMIZERS[optimizer](k), loss="mse", metrics=["mae"])
    return model


def same(ours, theirs):
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
    assert int(ours.optimizer.iterations) == int(theirs.optimizer.iterations) == 12


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_epochs_here_and_two_in_keras(optimizer, tmp_path):
    ours = trained(made(rx, optimizer))
    ours.save(tmp_path / "m.keras")
    theirs = keras.saving.load_model(tmp_path / "m.keras")
    same(trained(ours), trained(theirs))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "schedule"])
def test_two_epochs_in_keras_and_two_here(optimizer, tmp_path):
    theirs = trained(made(keras, optimizer))
    theirs.save(tmp_path / "m.keras")
    ours = load_model(tmp_path / "m.keras")
    # Read again, since with use_ema Keras's fit fails the second time.
    same(trained(ours), trained(keras.saving.load_model(tmp_path / "m.keras")))


def test_a_model_saved_before_its_first_step_is_trained_from_there(tmp_path):
    theirs, ours = made(keras, "adam"), made(rx, "adam")
    theirs.save(tmp_path / "a.keras")
    ours.save(tmp_path / "b.keras")
    again = load_model(tmp_path / "a.keras")
    there = keras.saving.load_model(tmp_path / "b.keras")
    same(trained(again, 4), trained(there, 4))


def test_without_compiling_or_without_its_optimizer(tmp_path):
    model = trained(made(rx, "adam"))
    model.save(tmp_path / "m.keras")
    assert not load_model(tmp_path / "m.keras", compile=False).compiled
    model.save(tmp_path / "m.keras", include_optimizer=False)
    again = load_model(tmp_path / "m.keras")
    assert not again.compiled
    np.testing.assert_array_equal(again(X), model(X))


def test_dropout_goes_on_where_it_stopped(tmp_path):
    def dropping():
        rx.utils.set_random_seed(3)
        model = rx.Sequential(
            [rx.Input((5, 3)), rx.layers.LSTM(3, dropout=0.3), rx.layers.Dense(1)]
        )
        model.compile("adam", "mse")
        return model

    whole = trained(dropping(), 4)
    first = trained(dropping(), 2)
    first.save(tmp_path / "m.keras")
    for a, b in zip(
        trained(load_model(tmp_path / "m.keras")).get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_model_checkpoint_lets_a_training_go_on(tmp_path):
    whole = trained(made(rx, "adam"), 4)
    checkpoint = rx.callbacks.ModelCheckpoint(tmp_path / "m-{epoch}.keras")
    made(rx, "adam").fit(
        X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[checkpoint]
    )
    again = load_model(tmp_path / "m-3.keras")
    again.fit(X, Y, batch_size=8, initial_epoch=3, epochs=4, shuffle=False, verbose=0)
    for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_clone_has_the_architecture_and_fresh_weights():
    model = trained(made(rx, "adam"))
    twin = rx.models.clone_model(model)
    assert [w.shape for w in twin.get_weights()] == [w.shape for w in model.get_weights()]
    assert not twin.compiled
    assert not np.allclose(twin(X), model(X))
    assert not {id(v) for v in twin.variables} & {id(v) for v in model.variables}


@pytest.fixture
def half_precision():
    for k in (rx, keras):
        k.config.set_dtype_policy("mixed_float16")
    yield
    for k in (rx, keras):
        k.config.set_dtype_policy("float32")


def test_the_scale_of_the_loss_goes_both_ways(half_precision, tmp_path):
    ours = trained(made(rx, "adam"))
    ours.save(tmp_path / "a.keras")
    theirs = keras.saving.load_model(tmp_path / "a.keras")
    theirs.save(tmp_path / "b.keras")
    again = load_model(tmp_path / "b.keras")
    for model in (theirs, again):
        assert len(model.optimizer.variables) == len(ours.optimizer.variables)
        for a, b in zip(model.optimizer.variables, ours.optimizer.variables, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_an_optimizer_that_cannot_be_described_can_be_left_out(tmp_path):
    model = made(rx, "sgd")
    model.compile(optax.sgd(0.1), "mse")
    with pytest.raises(NotImplementedError, match="include_optimizer=False"):
        model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.keras", include_optimizer=False)
    np.testing.assert_array_equal(load_model(tmp_path / "m.keras")(X), model(X))


def test_the_state_of_another_optimizer_is_refused_with_the_mend(tmp_path):
    model = trained(made(rx, "adam"))
    model.save(tmp_path / "m.keras")
    data = with_config(
        lambda c: c["compile_config"]["optimizer"].update(class_name="SGD", config={}),
        (tmp_path / "m.keras").read_bytes(),
    )
    with pytest.raises(LoadError, match="compile=False"):
        load_model(io.BytesIO(data))


def dense(k, optimizer, loss, **options):
    model = k.Sequential([k.Input((3,)), k.layers.Dense(2, name="d")])
    model.compile(optimizer, loss, **options)
    return model


def test_functions_of_ours_are_known_by_their_names(tmp_path):
    """As objects too, which files name without saying where they are."""
    for k in (rx, keras):
        metrics = [
            k.metrics.mean_squared_error,
            k.metrics.MeanMetricWrapper(k.metrics.binary_accuracy, "x"),
        ]
        dense(k, "sgd", k.losses.mean_absolute_error, metrics=metrics).save(tmp_path / "m.keras")
        again = load_model(tmp_path / "m.keras")
        assert again.loss is rx.losses.mean_absolute_error
        assert again.evaluate(X[:, 0], X[:, 0, :2], verbose=0, return_dict=True).keys() == {
            "loss",
            "mean_squared_error",
            "x",
        }


def test_adafactor_keeps_a_number_for_what_it_does_not_factor(tmp_path):
    theirs = dense(keras, keras.optimizers.Adafactor(0.1), "mse")
    theirs.fit(X[:, 0], X[:, 0, :2], verbose=0)
    theirs.save(tmp_path / "m.keras")
    ours = load_model(tmp_path / "m.keras")
    assert [v.dtype for v in ours.optimizer.variables] == [
        v.dtype for v in theirs.optimizer.variables
    ]
