"""`fit`, `evaluate` and `predict` against Keras's, number by number."""

import jax
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recurrax
from recurrax import layers

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 7, 3)).astype("float32")
Y = rng.integers(0, 4, 50)
WEIGHT = rng.random(50).astype("float32")


# Keras's own reading of its variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def same_models(units=4, recurrent=False, **kwargs):
    """The same model in both libraries, with the same weights."""
    made = [
        library.Sequential(
            [
                library.Input((7, 3)),
                library.layers.LSTM(5) if recurrent else library.layers.Flatten(),
                library.layers.Dense(units, **kwargs),
            ]
        )
        for library in (recurrax, keras)
    ]
    made[1].set_weights(made[0].get_weights())
    return made


def same_weights(ours, theirs, rtol=1e-4, atol=2e-5):
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def same_history(ours, theirs, rtol=2e-5):
    assert set(ours.history) == set(theirs.history)
    for name, values in ours.history.items():
        np.testing.assert_allclose(values, theirs.history[name], rtol=rtol, atol=1e-6, err_msg=name)


def test_fit_is_keras_with_an_incomplete_last_batch():
    ours, theirs = same_models(recurrent=True, activation="softmax")
    histories = []
    for model in (ours, theirs):
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        histories.append(
            model.fit(X, Y, batch_size=16, epochs=3, shuffle=False, verbose=0, validation_split=0.2)
        )
    same_history(*histories)
    same_weights(ours, theirs)
    np.testing.assert_allclose(
        ours.evaluate(X, Y, verbose=0), theirs.evaluate(X, Y, verbose=0), rtol=2e-5
    )
    np.testing.assert_allclose(
        ours.predict(X, verbose=0), theirs.predict(X, verbose=0), rtol=1e-4, atol=1e-6
    )


@settings(max_examples=3)
@given(
    optimizer=st.sampled_from(["sgd", "rmsprop", "adamw"]),
    weighting=st.sampled_from(["none", "sample", "class"]),
    logits=st.booleans(),
    batch_size=st.sampled_from([13, 25, 64]),
    weighted_metrics=st.booleans(),
)
def test_combinations_are_keras(optimizer, weighting, logits, batch_size, weighted_metrics):
    ours, theirs = same_models(activation=None if logits else "softmax")
    arguments = {}
    if weighting == "sample":
        arguments["sample_weight"] = WEIGHT
    elif weighting == "class":
        arguments["class_weight"] = {0: 2.0, 3: 0.5}
    histories = []
    for model, library in ((ours, recurrax), (theirs, keras)):
        loss = library.losses.SparseCategoricalCrossentropy(from_logits=logits)
        metrics = {"weighted_metrics" if weighted_metrics else "metrics": ["acc"]}
        model.compile(optimizer, loss, **metrics)
        histories.append(
            model.fit(X, Y, batch_size=batch_size, epochs=2, shuffle=False, verbose=0, **arguments)
        )
    same_history(*histories)
    same_weights(ours, theirs)


def test_steps_of_a_sequence_with_masks_and_weights_are_keras():
    tokens = rng.integers(0, 6, (20, 9))
    targets = rng.integers(0, 5, (20, 9))
    weights = rng.random((20, 9)).astype("float32")
    made = []
    for library in (recurrax, keras):
        made.append(
            library.Sequential(
                [
                    library.Input((9,), dtype="int32"),
                    library.layers.Embedding(6, 4, mask_zero=True),
                    library.layers.GRU(5, return_sequences=True),
                    library.layers.Dense(5, activation="softmax"),
                ]
            )
        )
    ours, theirs = made
    theirs.set_weights(ours.get_weights())
    histories = []
    for model in made:
        model.compile("sgd", "sparse_categorical_crossentropy")
        histories.append(
            model.fit(
                tokens,
                targets,
                batch_size=8,
                epochs=2,
                shuffle=False,
                verbose=0,
                sample_weight=weights,
            )
        )
    same_history(*histories)
    same_weights(ours, theirs)


def test_masks_weigh_metrics():
    # Keras on JAX loses the mask between its loss and its metrics; its documentation counts it.
    tokens = rng.integers(0, 3, (20, 9))
    tokens[:, 0] = 1
    targets = rng.integers(0, 5, (20, 9))
    model = recurrax.Sequential(
        [
            layers.Embedding(6, 4, mask_zero=True),
            layers.GRU(5, return_sequences=True),
            layers.Dense(5, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    _, accuracy = model.evaluate(tokens, targets, verbose=0, batch_size=20)
    hits = model.predict(tokens, verbose=0).argmax(-1) == targets
    kept = tokens != 0
    assert accuracy == pytest.approx((hits * kept).mean(1).sum() / kept.mean(1).sum(), rel=1e-5)


def two_headed(library):
    a, b = library.Input((7, 3), name="a"), library.Input((6,), name="b")
    h = library.layers.Dense(6)(library.layers.Flatten()(a)) + b
    return {
        "kind": library.layers.Dense(4, activation="softmax", name="kind")(h),
        "size": library.layers.Dense(1, name="size", kernel_regularizer="l2")(h),
    }, [a, b]


@pytest.mark.parametrize("form", ["dict", "list"])
def test_several_outputs_are_keras(form):
    data = [X, rng.normal(size=(50, 6)).astype("float32")]
    size = rng.normal(size=(50, 1)).astype("float32")
    made = []
    for library in (recurrax, keras):
        outputs, inputs = two_headed(library)
        outputs = outputs if form == "dict" else list(outputs.values())
        made.append(library.Model(inputs, outputs))
    ours, theirs = made
    theirs.set_weights(ours.get_weights())
    histories, results = [], []
    for model in made:
        if form == "dict":
            model.compile(
                "adam",
                {"kind": "sparse_categorical_crossentropy", "size": "mse"},
                loss_weights={"kind": 0.5, "size": 2.0},
                metrics={"kind": ["accuracy"], "size": ["mae"]},
            )
            y = {"kind": Y, "size": size}
        else:
            model.compile(
                "adam",
                ["sparse_categorical_crossentropy", "mse"],
                loss_weights=[0.5, 2.0],
                metrics=[["accuracy"], ["mae"]],
            )
            y = [Y, size]
        histories.append(model.fit(data, y, epochs=2, shuffle=False, verbose=0))
        results.append(model.evaluate(data, y, verbose=0, return_dict=form == "dict"))
    same_history(*histories)
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    assert ours.metrics_names == theirs.metrics_names
    same_weights(ours, theirs)


def test_single_batches_are_keras():
    ours, theirs = same_models(1)
    y = rng.normal(size=(50, 1)).astype("float32")
    for model in (ours, theirs):
        model.compile("adam", "mse", metrics=["mae"])
    for start in (0, 20):
        part = slice(start, start + 20)
        np.testing.assert_allclose(
            ours.train_on_batch(X[part], y[part], WEIGHT[part]),
            theirs.train_on_batch(X[part], y[part], WEIGHT[part]),
            rtol=1e-4,
        )
    assert ours.test_on_batch(X, y, return_dict=True) == pytest.approx(
        theirs.test_on_batch(X, y, return_dict=True), rel=1e-4
    )
    np.testing.assert_allclose(
        ours.predict_on_batch(X), theirs.predict_on_batch(X), rtol=1e-4, atol=1e-6
    )


def test_losses_of_layers_count():
    made = []
    for library in (recurrax, keras):
        made.append(
            library.Sequential(
                [
                    library.Input((7, 3)),
                    library.layers.LSTM(
                        5,
                        kernel_regularizer=library.regularizers.L2(0.1),
                        activity_regularizer=library.regularizers.L1(0.1),
                    ),
                    library.layers.Dense(1),
                ]
            )
        )
    made[1].set_weights(made[0].get_weights())
    histories = []
    for model in made:
        model.compile("sgd", "mse")
        histories.append(model.fit(X, Y, epochs=2, shuffle=False, verbose=0))
    same_history(*histories)
    same_weights(*made)


def test_several_steps_at_once_are_the_same_as_one_by_one():
    results = []
    for count in (1, 3):
        recurrax.utils.set_random_seed(3)
        model, _ = same_models(activation="softmax")
        model.compile(
            "adam",
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=count,
        )
        history = model.fit(X, Y, batch_size=6, epochs=2, verbose=0)
        results.append((history.history, model.get_weights()))
    for name, values in results[0][0].items():
        np.testing.assert_allclose(values, results[1][0][name], rtol=1e-5)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_eager_steps_give_the_same_and_compile_no_step():
    histories, seen = [], []

    class Model(recurrax.Model):
        def __init__(self):
            super().__init__()
            self.lstm, self.dense = layers.LSTM(5), layers.Dense(1)

        def call(self, x):
            seen.append(isinstance(x, jax.core.Tracer))
            return self.dense(self.lstm(x))

    for eager in (False, True):
        recurrax.utils.set_random_seed(5)
        model = Model()
        model.compile("sgd", "mse", run_eagerly=eager)
        seen.clear()
        histories.append(model.fit(X, Y, epochs=2, verbose=0).history["loss"])
        assert model.run_eagerly == eager
    np.testing.assert_allclose(*histories, rtol=1e-5)


def test_a_seed_makes_training_reproducible():
    losses = []
    for _ in range(2):
        recurrax.utils.set_random_seed(11)
        model = recurrax.Sequential(
            [layers.LSTM(5, dropout=0.3), layers.Dropout(0.2), layers.Dense(1)]
        )
        model.compile("adam", "mse")
        losses.append(model.fit(X, Y, epochs=2, verbose=0).history["loss"])
    assert losses[0] == losses[1]


def test_a_step_is_compiled_once_for_each_shape(monkeypatch):
    model, _ = same_models(activation="softmax")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X, Y, batch_size=16, verbose=0, validation_data=(X, Y))
    with jax.log_compiles(False):
        counts = []
        jax.monitoring.register_event_duration_secs_listener(
            lambda name, *_, **__: counts.append(name) if "backend_compile" in name else None
        )
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0, validation_data=(X, Y))
    assert not counts


def test_a_stateful_model_keeps_its_states():
    def make():
        model = recurrax.Sequential(
            [recurrax.Input(batch_shape=(10, 7, 3)), layers.LSTM(5, stateful=True), layers.Dense(1)]
        )
        model.compile(recurrax.optimizers.SGD(0.0), "mse")
        return model

    recurrax.utils.set_random_seed(1)
    model = make()
    layer = model.layers[0]
    model.fit(X[:20], Y[:20], batch_size=10, shuffle=False, verbose=0)
    after_fit = [np.asarray(state) for state in layer.states]
    model.reset_states()
    for start in (0, 10):
        model.predict_on_batch(X[start : start + 10])
    for a, b in zip(after_fit, layer.states, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    model.evaluate(X[:10], Y[:10], batch_size=10, verbose=0)
    assert not np.allclose(after_fit[0], layer.states[0])


def test_history_of_a_second_fit_goes_on():
    model, _ = same_models(1)
    model.compile("adam", "mse")
    first = model.fit(X, Y, verbose=0)
    second = model.fit(X, Y, initial_epoch=1, epochs=3, verbose=0)
    assert first.epoch == [0]
    assert second.epoch == [1, 2]
    assert model.history is second
    assert second.history["loss"][-1] < first.history["loss"][0]


def test_a_part_of_the_validation_is_the_same_each_time():
    """As Keras documents: with `validation_steps`, each evaluation starts at the beginning."""
    model, _ = same_models()
    model.compile(recurrax.optimizers.SGD(0.0), "mse")
    targets = rng.normal(size=(50, 4)).astype("float32")
    history = model.fit(
        X,
        targets,
        batch_size=50,
        epochs=3,
        verbose=0,
        validation_data=(X, targets),
        validation_batch_size=20,
        validation_steps=2,
    ).history
    assert len(set(history["val_loss"])) == 1


def test_one_loss_of_two_outputs_is_shown_once():
    results = []
    for library in (recurrax, keras):
        x = library.Input((3,))
        outputs = [library.layers.Dense(1, name=name)(x) for name in "ab"]
        model = library.Model(x, outputs)
        model.compile("sgd", [None, "mse"], metrics=[None, ["mae"]])
        model.set_weights([np.ones((3, 1)), np.zeros(1)] * 2)
        data = (X[:, 0], [Y[:, None].astype("float32")] * 2)
        results.append(model.evaluate(*data, verbose=0, return_dict=True))
    assert results[0] == pytest.approx(results[1], rel=1e-5)
