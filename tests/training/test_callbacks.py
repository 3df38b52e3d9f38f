"""Callbacks: what they do to training, against Keras's where it has the same."""

import csv

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import recurrax
from recurrax import callbacks, layers
from recurrax.training.callbacks.event_file import EventFile, histogram, masked_crc, scalar

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype("float32")
Y = (X @ rng.normal(size=(3, 1))).astype("float32")


def model(rate=0.05, library=recurrax, metrics=()):
    made = library.Sequential([library.Input((3,)), library.layers.Dense(1)])
    made.set_weights([np.full((3, 1), 0.5, "float32"), np.zeros(1, "float32")])
    made.compile(library.optimizers.SGD(rate), "mse", metrics=list(metrics))
    return made


def fit(made, *callbacks, epochs=3, **kwargs):
    arguments = {"verbose": 0, "shuffle": False, "batch_size": 16, **kwargs}
    return made.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **arguments)


class Script(callbacks.Callback):
    """Puts chosen values into the logs."""

    def __init__(self, values, name="val_loss"):
        super().__init__()
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


SERIES = [
    [1.0, 0.9, 0.95, 0.94, 0.93, 0.92, 0.5, 0.6],
    [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
    [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
]


class KerasScript(keras.callbacks.Callback):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.values[epoch]


@pytest.mark.parametrize("values", SERIES)
def test_early_stopping_is_keras(values):
    for arguments in (
        {},
        {"patience": 2, "restore_best_weights": True},
        {"patience": 1, "min_delta": 0.2, "baseline": 0.95},
        {"patience": 1, "start_from_epoch": 3, "mode": "max"},
    ):
        ours, theirs = model(), model(library=keras)
        mine = callbacks.EarlyStopping(**arguments)
        wanted = keras.callbacks.EarlyStopping(**arguments)
        first = fit(ours, Script(values), mine, epochs=8)
        second = fit(theirs, KerasScript(values), wanted, epochs=8)
        assert first.epoch == second.epoch, arguments
        assert (mine.stopped_epoch, mine.best_epoch) == (wanted.stopped_epoch, wanted.best_epoch)
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("values", SERIES)
def test_reduce_lr_is_keras(values):
    arguments = {"factor": 0.5, "patience": 1, "cooldown": 1, "min_lr": 0.01}
    ours, theirs = model(), model(library=keras)
    mine, wanted = (
        library.callbacks.ReduceLROnPlateau(**arguments) for library in (recurrax, keras)
    )
    first = fit(ours, Script(values), mine, epochs=8)
    second = fit(theirs, KerasScript(values), wanted, epochs=8)
    # At min_lr there is nothing left to reduce.
    assert (mine.wait, mine.cooldown_counter) == (wanted.wait, wanted.cooldown_counter)
    np.testing.assert_allclose(
        first.history["learning_rate"], second.history["learning_rate"], rtol=1e-6
    )


def test_which_way_is_better_is_told_by_the_metric():
    """As in Keras; where neither metric nor name tells, it must be said."""
    made = model(metrics=[recurrax.metrics.CosineSimilarity(name="mse"), square])
    fit(made, epochs=1)
    for name, upwards in (("val_mse", True), ("mse", True), ("mae", False)):
        watch = callbacks.ModelCheckpoint("m.keras", name)
        watch.set_model(made)
        assert watch._upwards is upwards
    with pytest.raises(ValueError, match=r"watches 'val_square', of which nobody said .* mode="):
        fit(made, callbacks.EarlyStopping("val_square"), epochs=1)
    with pytest.raises(ValueError, match="watches 'bleu'"):
        fit(made, Script([1.0], "bleu"), callbacks.EarlyStopping("bleu"), epochs=1)
    fit(made, Script([1.0], "bleu"), callbacks.EarlyStopping("bleu", mode="max"), epochs=1)


def square(y_true, y_pred):
    return ((y_true - y_pred) ** 2).mean(-1)


def test_which_way_is_better_is_told_by_the_name():
    assert callbacks.EarlyStopping("val_accuracy")._upwards
    assert callbacks.EarlyStopping("val_auc")._upwards
    assert not callbacks.EarlyStopping("val_loss")._upwards
    assert not callbacks.EarlyStopping("val_accuracy", mode="min")._upwards
    assert not callbacks.EarlyStopping("accuracy_loss")._upwards
    with pytest.raises(ValueError, match="mode must be"):
        callbacks.EarlyStopping(mode="best")


def test_a_result_that_is_not_there_is_said():
    with pytest.warns(UserWarning, match="watches 'val_loss', which is not among"):
        fit(model(), callbacks.EarlyStopping(), epochs=1)


def test_learning_rate_scheduler():
    seen = []

    def schedule(epoch, rate):
        seen.append(round(rate, 6))
        return rate / 2

    history = fit(model(0.08), callbacks.LearningRateScheduler(schedule))
    assert seen == [0.08, 0.04, 0.02]
    np.testing.assert_allclose(history.history["learning_rate"], [0.04, 0.02, 0.01], rtol=1e-6)
    made = model()
    fit(made, callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1)))
    assert float(made.optimizer.learning_rate) == pytest.approx(0.5 / 3)
    for wrong in (None, "fast"):
        with pytest.raises(ValueError, match="must return a number"):
            callback = callbacks.LearningRateScheduler({0: wrong}.get)
            callback.set_model(made)
            callback.on_epoch_begin(0)


def test_csv_logger_is_keras(tmp_path):
    tables = []
    for name, library in (("ours", recurrax), ("theirs", keras)):
        path = tmp_path / f"{name}.csv"
        made = model(library=library)
        fit(made, library.callbacks.CSVLogger(str(path)))
        fit(made, library.callbacks.CSVLogger(str(path), append=True), epochs=2)
        with path.open() as file:
            tables.append(list(csv.DictReader(file)))
    ours, theirs = tables
    assert [row["epoch"] for row in ours] == [row["epoch"] for row in theirs]
    np.testing.assert_allclose(
        [float(row["loss"]) for row in ours], [float(row["loss"]) for row in theirs], rtol=1e-5
    )


def test_csv_logger_keeps_results_of_later_epochs(tmp_path):
    path = tmp_path / "table.csv"
    logger = callbacks.CSVLogger(path, separator=";", append=True)
    for rows in ([{"loss": 1.0}, {"loss": 0.5, "val_loss": 2.0}], [{"a": 3.0, "loss": 0.2}]):
        logger.on_train_begin()
        for epoch, logs in enumerate(rows):
            logger.on_epoch_end(epoch, logs)
        logger.on_train_end()
    assert path.read_text().splitlines() == [
        "epoch;loss;val_loss;a",
        "0;1.0;NA;NA",
        "1;0.5;2.0;NA",
        "0;0.2;NA;3.0",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_terminate_on_nan_ends_at_the_step():
    steps = []
    bad = X.copy()
    bad[20] = np.nan
    made = model()
    with pytest.warns(RuntimeWarning, match=r"not finite .* since step 2 of epoch 1"):
        made.fit(
            bad,
            Y,
            batch_size=16,
            shuffle=False,
            epochs=5,
            verbose=0,
            callbacks=[
                callbacks.TerminateOnNaN(),
                callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: steps.append(b)),
            ],
        )
    assert steps == [0, 1]


def test_a_loss_that_is_not_finite_is_said_once():
    made = model(1e30)
    with pytest.warns(RuntimeWarning, match="not finite") as caught:
        fit(made, epochs=4)
    assert len(caught) == 1


def test_lambda_callback():
    seen = []
    turns = ["on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end"]
    functions = {turn: lambda *a, turn=turn, **k: seen.append(turn) for turn in turns}
    fit(model(), callbacks.LambdaCallback(**functions, on_test_end=lambda logs: None), epochs=1)
    assert seen == ["on_train_begin", "on_epoch_begin", *["on_train_batch_end"] * 3, "on_epoch_end"]
    with pytest.raises(ValueError, match="Did you mean 'on_epoch_end'"):
        callbacks.LambdaCallback(on_epoch_ende=print)


def test_all_turns_come_in_keras_order():
    def recorder(base, seen):
        turns = [t for t in dir(keras.callbacks.Callback) if t.startswith("on_")]

        def hear(turn):
            return lambda self, *a, **k: seen.append((turn, set([*a, *k.values()][-1])))

        skipped = ("on_batch_begin", "on_batch_end")
        return type("Recorder", (base,), {t: hear(t) for t in turns if t not in skipped})()

    seen = {}
    for library in (recurrax, keras):
        seen[library] = []
        recorder_of = recorder(library.callbacks.Callback, seen[library])
        made = model(library=library)
        fit(made, recorder_of, epochs=2, validation_data=(X, Y))
        made.evaluate(X, Y, verbose=0, callbacks=[recorder_of])
        made.predict(X, verbose=0, callbacks=[recorder_of])
    assert seen[recurrax] == seen[keras]


def test_a_callback_sees_the_model_and_numbers():
    class Look(callbacks.Callback):
        def on_batch_end(self, batch, logs=None):
            assert isinstance(logs["loss"], float)
            assert dict(logs) == logs.copy()
            assert set(logs) == {"loss", "mae"}
            self.kernel = self.model.layers[-1].kernel.numpy()

    look = Look()
    fit(model(metrics=["mae"]), look, epochs=1)
    assert look.kernel.shape == (3, 1)
    assert look.params == {"verbose": 0, "epochs": 1, "steps": 3}


def test_stop_training_ends_the_epoch():
    class Stop(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    assert fit(model(), Stop(), epochs=9).epoch == [0, 1]


def test_model_checkpoint(tmp_path):
    made = model()
    every = callbacks.ModelCheckpoint(tmp_path / "m-{epoch:02d}-{loss:.1f}.keras")
    best = callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5", save_best_only=True, save_weights_only=True
    )
    steps = callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=2)
    fit(made, Script([0.5, 0.3, 0.4]), every, best, steps)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len([name for name in names if name.startswith("m-0")]) == 3
    assert best.best == 0.3
    assert {"best.weights.h5", "1-2.keras"} <= set(names)
    with pytest.raises(ValueError, match="must end in"):
        callbacks.ModelCheckpoint("model.h5")
    with pytest.raises(ValueError, match="names 'val_mae', which is not among"):
        fit(model(), callbacks.ModelCheckpoint(str(tmp_path / "{val_mae}.keras")), epochs=1)


def test_tensorboard_reads_what_is_written(tmp_path):
    made = model(metrics=["mae"])
    board = callbacks.TensorBoard(
        tmp_path, histogram_freq=1, update_freq="batch", write_steps_per_second=True
    )
    history = fit(made, board, validation_data=(X, Y)).history
    train = EventAccumulator(str(tmp_path / "train"), {"histograms": 0}).Reload()
    held_out = EventAccumulator(str(tmp_path / "validation")).Reload()
    values = [event.value for event in train.Scalars("epoch_loss")]
    np.testing.assert_allclose(values, history["loss"], rtol=1e-6)
    values = [(event.step, event.value) for event in held_out.Scalars("epoch_mae")]
    np.testing.assert_allclose(values, list(enumerate(history["val_mae"])), rtol=1e-6)
    assert [event.step for event in train.Scalars("batch_loss")] == list(range(1, 10))
    assert train.Scalars("epoch_learning_rate")[0].value == pytest.approx(0.05)
    assert train.Scalars("epoch_steps_per_second")[0].value > 0
    kernel = next(tag for tag in train.Tags()["histograms"] if "kernel" in tag)
    assert train.Histograms(kernel)[2].histogram_value.num == 3


def test_event_files(tmp_path):
    # The check value of CRC-32C, from RFC 3720.
    crc = 0xE3069283
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    file = EventFile(tmp_path)
    values = rng.normal(size=1000)
    file.add(300, scalar("a/b", -2.5), histogram("h", values))
    file.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Scalars("a/b")
    assert (event.step, event.value) == (300, -2.5)
    found = events.Histograms("h")[0].histogram_value
    assert found.num == 1000 and sum(found.bucket) == 1000
    assert found.sum == pytest.approx(values.sum())


def test_the_bar_and_the_lines(capsys):
    fit(model(metrics=["mae"]), verbose=2, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2"
    assert lines[1].startswith("3/3 - ")
    assert " - loss: " in lines[1] and " - mae: " in lines[1]
    made = model()
    fit(made, verbose=1, epochs=1)
    made.evaluate(X, Y)
    made.predict(X)
    shown = capsys.readouterr().out
    assert "loss: " in shown and "3/3" in shown


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="make an object of it"):
        fit(model(), callbacks.TerminateOnNaN)
    with pytest.raises(TypeError, match="must hold Callback objects"):
        fit(model(), print)
    with pytest.raises(ValueError, match="verbose must be"):
        fit(model(), verbose=3)
    with pytest.raises(ValueError, match="factor must be below 1"):
        callbacks.ReduceLROnPlateau(factor=1.0)


def test_training_ends_with_the_average_of_the_weights():
    made = []
    for library in (recurrax, keras):
        one = library.Sequential([library.Input((3,)), library.layers.Dense(1)])
        one.set_weights([np.full((3, 1), 0.5, "float32"), np.zeros(1, "float32")])
        one.compile(library.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), "mse")
        fit(one)
        made.append(one)
    for a, b in zip(made[0].get_weights(), made[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_layers_are_not_asked_for_logs_of_layers():
    # A metric held by the model is one of its metrics, as in Keras.
    class Held(recurrax.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)
            self.size = recurrax.metrics.Mean(name="size")

        def call(self, x):
            y = self.dense(x)
            self.size.update_state(abs(y))
            return y

    made = Held()
    made.compile("sgd", "mse")
    history = fit(made, epochs=2)
    assert set(history.history) == {"loss", "size"}
    assert history.history["size"][0] > 0
