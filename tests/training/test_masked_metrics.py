"""What the mask of the predictions leaves out counts in no metric."""

import inspect

import keras as real
import numpy as np
import pytest

import recurrax as keras
from recurrax import layers
from recurrax.layers.mask import set_mask
from recurrax.training import metrics
from recurrax.training.metrics.base import Metric

rng = np.random.default_rng(5)
MASK = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
SHAPE = (4, 5, 3)
OPTIONS = {
    "SensitivityAtSpecificity": {"specificity": 0.4},
    "SpecificityAtSensitivity": {"sensitivity": 0.4},
    "PrecisionAtRecall": {"recall": 0.4},
    "RecallAtPrecision": {"precision": 0.4},
    "TopKCategoricalAccuracy": {"k": 2},
    "SparseTopKCategoricalAccuracy": {"k": 2},
    "R2Score": {"num_regressors": 2},
    "MeanMetricWrapper": {"fn": metrics.binary_accuracy},
}
METRICS = [
    name
    for name, cls in vars(metrics).items()
    if inspect.isclass(cls) and issubclass(cls, Metric) and cls is not Metric
]
CASES = [(name, OPTIONS.get(name, {})) for name in METRICS] + [
    ("AUC", {"from_logits": True, "curve": "PR"}),
    ("AUC", {"multi_label": True, "label_weights": [1.0, 2.0, 3.0]}),
    ("Precision", {"top_k": 2}),
    ("Recall", {"class_id": 1, "thresholds": [0.2, 0.6]}),
    ("FBetaScore", {"average": "weighted", "threshold": 0.5}),
]


def _data(name):
    """Truth and predictions of three batches, (batch, steps, classes) or (entries, classes)."""
    batches = []
    for _ in range(3):
        y_true = np.eye(3, dtype="float32")[rng.integers(0, 3, SHAPE[:2])]
        y_pred, mask = rng.random(SHAPE, "float32"), MASK
        if name in ("FBetaScore", "F1Score", "R2Score"):
            y_true, y_pred, mask = y_true.reshape(-1, 3), y_pred.reshape(-1, 3), MASK.reshape(-1)
        if name.startswith("Sparse"):
            y_true = y_true.argmax(axis=-1)
        batches.append((y_true, y_pred, mask))
    return batches


def _update(metric, y_true, y_pred, weight=None):
    if isinstance(metric, metrics.Sum | metrics.Mean) and type(metric).__name__ in ("Sum", "Mean"):
        metric.update_state(y_pred, sample_weight=weight)
    else:
        metric.update_state(y_true, y_pred, sample_weight=weight)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_result_is_that_of_what_the_mask_leaves(name, options, weighed):
    together, left = getattr(metrics, name)(**options), getattr(metrics, name)(**options)
    for y_true, y_pred, mask in _data(name):
        weight = rng.random(mask.shape, "float32") if weighed else None
        masked = keras.ops.convert_to_tensor(y_pred)
        set_mask(masked, mask)
        _update(together, y_true, masked, weight)
        _update(left, y_true[mask], y_pred[mask], None if weight is None else weight[mask])
    np.testing.assert_allclose(together.result(), left.result(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["Precision", "Recall", "AUC", "TruePositives", "MeanSquaredError"]
)
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 5), (4, 5, 1)])
def test_weights_of_every_shape_are_those_of_keras_times_the_mask(name, shape):
    ours, theirs = getattr(metrics, name)(), getattr(real.metrics, name)()
    for y_true, y_pred, mask in _data(name):
        weight = rng.random(shape, "float32")
        masked = keras.ops.convert_to_tensor(y_pred)
        set_mask(masked, mask)
        ours.update_state(y_true, masked, weight)
        joint = weight.reshape(shape[0], *shape[1:2], *(1,) * (2 - len(shape[:2]))) * mask
        theirs.update_state(y_true, y_pred, joint)
    np.testing.assert_allclose(ours.result(), theirs.result(), rtol=1e-4)


def test_a_model_evaluates_all_of_them_without_its_padding():
    """Padding changes nothing: neither in training nor in evaluation, weighed or not."""
    asked = ["accuracy", "Precision", "Recall", "AUC", "RootMeanSquaredError", "FalsePositives"]
    ids = rng.integers(1, 9, (6, 5))
    lengths = np.array([5, 3, 1, 2, 4, 5])
    kept = np.arange(5) < lengths[:, None]
    y = rng.integers(0, 2, (6, 5, 1)).astype("float32")
    results = []
    for steps in (5, 9):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                layers.Embedding(9, 4, mask_zero=True),
                layers.GRU(4, return_sequences=True),
                layers.Dense(1, activation="sigmoid"),
            ]
        )
        model.compile("sgd", "binary_crossentropy", metrics=asked, weighted_metrics=asked)
        padded = np.zeros((6, steps), int)
        padded[:, :5] = np.where(kept, ids, 0)
        # What stands beyond the end is called positive or not as chance will have it.
        truth = rng.integers(0, 2, (6, steps, 1)).astype("float32")
        truth[:, :5][kept] = y[kept]
        trained = model.fit(padded, truth, epochs=1, verbose=0, sample_weight=np.arange(6.0))
        evaluated = model.evaluate(padded, truth, verbose=0, sample_weight=np.arange(6.0))
        results.append([*evaluated[1:], *(v[0] for k, v in trained.history.items() if k != "loss")])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)
