"""Losses against Keras's, values and gradients."""

import jax
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurrax.training import losses

rng = np.random.default_rng(0)


def distribution(*shape):
    p = rng.random(shape).astype("float32") + 0.05
    return p / p.sum(-1, keepdims=True)


NUMBERS = (rng.normal(size=(6, 5)).astype("float32"), rng.normal(size=(6, 5)).astype("float32"))
CLASSES = rng.integers(0, 5, (6, 4))
PROBABILITIES = distribution(6, 4, 5)
LOGITS = rng.normal(size=(6, 4, 5)).astype("float32")
ONE_HOT = np.eye(5, dtype="float32")[CLASSES]
BITS = (rng.random((6, 5)) > 0.5).astype("float32")

CASES = [
    ("MeanSquaredError", {}, NUMBERS),
    ("MeanAbsoluteError", {}, NUMBERS),
    ("MeanAbsolutePercentageError", {}, NUMBERS),
    ("MeanSquaredLogarithmicError", {}, tuple(map(np.abs, NUMBERS))),
    ("Huber", {}, NUMBERS),
    ("Huber", {"delta": 0.3}, NUMBERS),
    ("LogCosh", {}, NUMBERS),
    ("CosineSimilarity", {}, NUMBERS),
    ("CosineSimilarity", {"axis": 0}, NUMBERS),
    ("KLDivergence", {}, (distribution(6, 5), distribution(6, 5))),
    ("Poisson", {}, tuple(map(np.abs, NUMBERS))),
    ("Hinge", {}, (BITS, NUMBERS[0])),
    ("SquaredHinge", {}, (BITS * 2 - 1, NUMBERS[0])),
    ("CategoricalHinge", {}, (ONE_HOT, LOGITS)),
    ("BinaryCrossentropy", {}, (BITS, distribution(6, 5))),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, (BITS, NUMBERS[0])),
    ("BinaryFocalCrossentropy", {}, (BITS, distribution(6, 5))),
    (
        "BinaryFocalCrossentropy",
        {"apply_class_balancing": True, "gamma": 1.5, "from_logits": True},
        (BITS, NUMBERS[0]),
    ),
    ("CategoricalCrossentropy", {}, (ONE_HOT, PROBABILITIES)),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, (ONE_HOT, LOGITS)),
    ("CategoricalFocalCrossentropy", {"alpha": 0.4}, (ONE_HOT, PROBABILITIES)),
    ("CategoricalFocalCrossentropy", {"from_logits": True}, (ONE_HOT, LOGITS)),
    (
        "CategoricalFocalCrossentropy",
        {"alpha": [0.1, 0.2, 0.3, 0.4, 0.5]},
        (ONE_HOT, PROBABILITIES),
    ),
    ("SparseCategoricalCrossentropy", {}, (CLASSES, PROBABILITIES)),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, (CLASSES, LOGITS)),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2}, (CLASSES, PROBABILITIES)),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, (CLASSES[..., None], LOGITS)),
    ("Dice", {}, (BITS, distribution(6, 5))),
    ("Tversky", {"alpha": 0.3, "beta": 0.7, "axis": 1}, (BITS, distribution(6, 5))),
]
IDS = [f"{name}-{arguments}" for name, arguments, _ in CASES]


@pytest.mark.parametrize(("name", "arguments", "data"), CASES, ids=IDS)
def test_value_and_gradient_are_keras(name, arguments, data):
    y_true, y_pred = data
    ours = getattr(losses, name)(**arguments)
    theirs = getattr(keras.losses, name)(**arguments)
    value, gradient = jax.value_and_grad(lambda y: ours(y_true, y))(y_pred)
    wanted, wanted_gradient = jax.value_and_grad(lambda y: theirs(y_true, y))(y_pred)
    np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-5, atol=1e-6)
    assert ours.name == theirs.name


@pytest.mark.parametrize(("name", "arguments", "data"), CASES, ids=IDS)
def test_config_makes_the_same_loss(name, arguments, data):
    ours = getattr(losses, name)(**arguments, reduction="sum", name="mine")
    again = losses.deserialize(losses.serialize(ours))
    assert type(again) is type(ours)
    assert again.get_config() == ours.get_config()
    assert float(again(*data)) == float(ours(*data))


@settings(deadline=None, max_examples=40)
@given(
    reduction=st.sampled_from(["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight"]),
    weight=st.sampled_from([None, (6, 4), (6, 1), ()]),
    masked=st.booleans(),
    sparse=st.booleans(),
    seed=st.integers(0, 99),
)
def test_weights_masks_and_reductions_are_keras(reduction, weight, masked, sparse, seed):
    random = np.random.default_rng(seed)
    name = "SparseCategoricalCrossentropy" if sparse else "CategoricalCrossentropy"
    y_true = CLASSES if sparse else ONE_HOT
    if weight is not None:
        weight = random.random(weight).astype("float32")
    mask = random.random((6, 4)) > 0.4 if masked else None
    y_pred = keras.ops.convert_to_tensor(PROBABILITIES)
    ours = getattr(losses, name)(reduction=reduction)(y_true, PROBABILITIES, weight, mask=mask)
    if masked:
        y_pred = keras.ops.copy(y_pred)
        keras.src.backend.set_keras_mask(y_pred, mask)
    theirs = getattr(keras.losses, name)(reduction=reduction)(y_true, y_pred, weight)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_a_weight_a_sample_counts_for_each_step():
    weight = np.arange(6, dtype="float32")
    loss = losses.SparseCategoricalCrossentropy()
    steps = np.repeat(weight[:, None], 4, axis=1)
    assert float(loss(CLASSES, PROBABILITIES, weight)) == pytest.approx(
        float(loss(CLASSES, PROBABILITIES, steps)), rel=1e-6
    )


def test_weights_of_classes_go_along_the_axis_of_classes():
    data, alpha = [np.moveaxis(a, -1, 1) for a in (ONE_HOT, PROBABILITIES)], [0.1, 0.2, 0.3, 0.4, 1]
    along = losses.CategoricalFocalCrossentropy(alpha, axis=1)(*data)
    assert along == pytest.approx(
        float(losses.CategoricalFocalCrossentropy(alpha)(ONE_HOT, PROBABILITIES))
    )


def test_ctc_is_keras():
    y_true = np.array([[1, 2, 2], [3, 1, 0]])
    y_pred = rng.normal(size=(2, 8, 5)).astype("float32")
    np.testing.assert_allclose(
        losses.CTC()(y_true, y_pred), keras.losses.CTC()(y_true, y_pred), rtol=1e-5
    )
    with pytest.raises(ValueError, match="shape"):
        losses.ctc(y_true[0], y_pred)


@pytest.mark.parametrize("name", ["mse", "MAE", "kld", "categorical_crossentropy", "Huber", "bce"])
def test_names_stand_for_what_keras_means(name):
    ours, theirs = losses.get(name), keras.losses.get(name)
    assert getattr(ours, "__name__", type(ours).__name__) == getattr(
        theirs, "__name__", type(theirs).__name__
    )


def test_errors_name_the_mend():
    with pytest.raises(ValueError, match=r"one number for each of 5 classes, but it is \[1, 2\]"):
        losses.CategoricalFocalCrossentropy([1, 2])(ONE_HOT, PROBABILITIES)
    with pytest.raises(ValueError, match="Did you mean 'categorical_crossentropy'"):
        losses.get("categorical_crosentropy")
    with pytest.raises(ValueError, match="reduction must be one of"):
        losses.MeanSquaredError(reduction="average")
    with pytest.raises(TypeError, match="The loss must be"):
        losses.get(3)
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
        losses.CategoricalCrossentropy()(CLASSES, PROBABILITIES)
    with pytest.raises(ValueError, match="one-hot"):
        losses.SparseCategoricalCrossentropy()(ONE_HOT, PROBABILITIES)
    with pytest.raises(ValueError, match="hold class 5, but the output has 5 classes"):
        losses.SparseCategoricalCrossentropy().check_targets(CLASSES + 1, (None, 4, 5))
    with pytest.raises(ValueError, match=r"hold 0.5, but sparse classes are integers"):
        losses.SparseCategoricalCrossentropy().check_targets(np.full((3, 4), 0.5), (None, 4, 5))


@pytest.mark.parametrize(
    ("targets", "outputs", "mend"),
    [
        ((8, 2), (8, 1), "as many units"),
        ((8, 10, 1), (8, 1), "return_sequences=True"),
        ((8, 1), (8, 10, 1), "leave return_sequences out"),
    ],
)
def test_targets_that_are_repeated_to_fit_are_warned_of(targets, outputs, mend):
    """As in Keras, the numbers come out; nearly always a layer or a shape is wrong."""
    with pytest.warns(UserWarning, match=mend):
        losses.MeanSquaredError().check_targets(np.zeros(targets), outputs)


def test_targets_that_do_not_fit_are_refused():
    for targets, outputs in (((8,), (8, 5)), ((8, 4), (8, 5)), ((8, 10, 3), (8, 1))):
        with pytest.raises(ValueError, match="must be equal"):
            losses.MeanAbsoluteError().check_targets(np.zeros(targets), outputs)
    for targets, outputs in (((8,), (8, 1)), ((8, 1), (8,)), ((8, 10), (8, 10, 1))):
        losses.MeanAbsoluteError().check_targets(np.zeros(targets), outputs)
