"""Metrics against Keras's, over several batches."""

import jax
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurrax.layers.mask import set_mask
from recurrax.training import losses, metrics

rng = np.random.default_rng(1)


def batches(make_true, make_pred, count=3):
    return [(make_true(), make_pred()) for _ in range(count)]


def normal(*shape):
    return lambda: rng.normal(size=shape).astype("float32")


def positive(*shape):
    return lambda: rng.random(shape).astype("float32")


def bits(*shape):
    return lambda: (rng.random(shape) > 0.5).astype("float32")


def classes(n, *shape):
    return lambda: rng.integers(0, n, shape)


def one_hot(n, *shape):
    return lambda: np.eye(n, dtype="float32")[rng.integers(0, n, shape)]


NUMBERS = batches(normal(7, 3), normal(7, 3))
BINARY = batches(bits(9, 3), positive(9, 3))
MULTI = batches(one_hot(4, 8), positive(8, 4))
SPARSE = batches(classes(4, 8, 5), positive(8, 5, 4))
FLAT = batches(bits(20), positive(20))

IDS_OF_CLASSES = batches(classes(4, 8), lambda: rng.permuted(np.tile(np.arange(4), (8, 1)), axis=1))

CASES = [
    ("MeanSquaredError", {}, NUMBERS),
    ("RootMeanSquaredError", {}, NUMBERS),
    ("MeanAbsoluteError", {}, NUMBERS),
    ("MeanAbsolutePercentageError", {}, NUMBERS),
    ("MeanSquaredLogarithmicError", {}, NUMBERS),
    ("CosineSimilarity", {}, NUMBERS),
    ("LogCoshError", {}, NUMBERS),
    ("KLDivergence", {}, BINARY),
    ("Poisson", {}, BINARY),
    ("Hinge", {}, BINARY),
    ("SquaredHinge", {}, BINARY),
    ("CategoricalHinge", {}, MULTI),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, BINARY),
    ("CategoricalCrossentropy", {}, MULTI),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, SPARSE),
    ("Accuracy", {}, batches(classes(3, 9), classes(3, 9))),
    ("BinaryAccuracy", {"threshold": 0.3}, BINARY),
    ("CategoricalAccuracy", {}, MULTI),
    ("SparseCategoricalAccuracy", {}, SPARSE),
    ("SparseCategoricalAccuracy", {}, batches(classes(4, 8, 1), positive(8, 4))),
    ("TopKCategoricalAccuracy", {"k": 2}, MULTI),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, SPARSE),
    ("TruePositives", {}, BINARY),
    ("FalsePositives", {"thresholds": [0.2, 0.7]}, BINARY),
    ("TrueNegatives", {}, FLAT),
    ("FalseNegatives", {}, FLAT),
    ("Precision", {}, BINARY),
    ("Precision", {"thresholds": [0.0, 0.5, 1.0]}, FLAT),
    ("Precision", {"top_k": 2}, MULTI),
    # Of equal predictions only as many as top_k count.
    ("Precision", {"top_k": 2}, batches(bits(9, 4), bits(9, 4))),
    ("SparseTopKCategoricalAccuracy", {"k": 2, "from_sorted_ids": True}, IDS_OF_CLASSES),
    ("Recall", {"class_id": 1}, MULTI),
    ("Recall", {"thresholds": 0.4}, BINARY),
    ("AUC", {}, FLAT),
    ("AUC", {"curve": "PR", "num_thresholds": 50}, FLAT),
    ("AUC", {"curve": "PR", "summation_method": "majoring"}, FLAT),
    ("AUC", {"summation_method": "minoring", "thresholds": [0.3, 0.35, 0.9]}, FLAT),
    ("AUC", {"multi_label": True, "num_labels": 3, "label_weights": [1.0, 2.0, 0.5]}, BINARY),
    ("AUC", {"from_logits": True}, batches(bits(20), normal(20))),
    ("SensitivityAtSpecificity", {"specificity": 0.6}, FLAT),
    ("SpecificityAtSensitivity", {"sensitivity": 0.6, "num_thresholds": 30}, FLAT),
    ("PrecisionAtRecall", {"recall": 0.5}, FLAT),
    ("RecallAtPrecision", {"precision": 0.5}, FLAT),
    ("F1Score", {}, MULTI),
    ("F1Score", {"average": "macro", "threshold": 0.5}, BINARY),
    ("FBetaScore", {"average": "weighted", "beta": 2.0}, MULTI),
    ("FBetaScore", {"average": "micro", "beta": 0.5}, MULTI),
    ("R2Score", {}, NUMBERS),
    ("R2Score", {"class_aggregation": "variance_weighted_average", "num_regressors": 2}, NUMBERS),
]
IDS = [f"{name}-{arguments}" for name, arguments, _ in CASES]
UNWEIGHTED_SHAPES = {"FBetaScore", "F1Score", "R2Score"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "arguments", "data"), CASES, ids=IDS)
def test_result_is_keras(name, arguments, data, weighted):
    ours = getattr(metrics, name)(**arguments)
    theirs = getattr(keras.metrics, name)(**arguments)
    for y_true, y_pred in data:
        weight = rng.random(len(y_true)).astype("float32") if weighted else None
        ours.update_state(y_true, y_pred, weight)
        theirs.update_state(y_true, y_pred, weight)
    np.testing.assert_allclose(ours.result(), theirs.result(), rtol=2e-5, atol=1e-6)
    assert [v.shape for v in ours.variables] == [v.shape for v in theirs.variables]
    ours.reset_state()
    assert all(not v.numpy().any() for v in ours.variables)


@pytest.mark.parametrize(("name", "arguments", "data"), CASES, ids=IDS)
def test_stateless_update_and_config_give_the_same(name, arguments, data):
    metric = getattr(metrics, name)(**arguments)
    again = metrics.deserialize(metrics.serialize(metric))
    for y_true, y_pred in data:
        again.update_state(y_true, y_pred)
    metric.update_state(*data[0])
    metric.reset_state()
    values = metric.stateless_reset_state()
    for y_true, y_pred in data:
        values = metric.stateless_update_state(values, y_true, y_pred)
    np.testing.assert_allclose(metric.stateless_result(values), again.result(), rtol=1e-6)
    assert all(not v.numpy().any() for v in metric.variables)


@settings(deadline=None, max_examples=30)
@given(
    kind=st.sampled_from(["Mean", "Sum"]),
    shape=st.sampled_from([(), (4,), (4, 3), (4, 3, 2)]),
    weight=st.sampled_from([None, "sample", "step", "all"]),
    seed=st.integers(0, 99),
)
def test_mean_and_sum_weigh_as_keras(kind, shape, weight, seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=shape).astype("float32")
    rank = {None: None, "sample": 1, "step": 2, "all": len(shape)}[weight]
    given_weight = None
    if rank is not None:
        given_weight = random.random(shape[:rank]).astype("float32")
    ours, theirs = getattr(metrics, kind)(), getattr(keras.metrics, kind)()
    for _ in range(2):
        ours.update_state(values, given_weight)
        theirs.update_state(values, given_weight)
    np.testing.assert_allclose(ours.result(), theirs.result(), rtol=1e-5, atol=1e-6)


def test_masks_and_weights_that_end_in_a_column():
    y_true, y_pred = classes(4, 8, 5)(), positive(8, 5, 4)()
    y_pred /= y_pred.sum(-1, keepdims=True)
    weight, mask = rng.random((8, 5)).astype("float32"), rng.random((8, 5)) > 0.4
    results = []
    for weights in (weight, weight[..., None]):
        metric, masked = metrics.SparseCategoricalAccuracy(), jax.numpy.asarray(y_pred)
        set_mask(masked, mask)
        metric.update_state(y_true, masked, weights)
        results.append(float(metric.result()))
    hits = y_pred.argmax(-1) == y_true
    wanted = (hits * weight * mask).sum() / (weight * mask).sum()
    assert results == pytest.approx([wanted, wanted])
    # What a mask leaves out, `ignore_class` leaves out too.
    ignoring = metrics.SparseCategoricalCrossentropy(ignore_class=2)
    loss = losses.SparseCategoricalCrossentropy(ignore_class=2)
    for true in (y_true, y_true[..., None]):
        ignoring.update_state(true, y_pred)
        assert float(ignoring.result()) == pytest.approx(float(loss(true, y_pred)))


def test_lists_of_labels_and_weights_of_each_decision():
    (y_true, y_pred), *_ = MULTI
    metric = metrics.CategoricalAccuracy()
    metric.update_state(y_true.tolist(), y_pred.tolist())
    hits = y_true.argmax(-1) == y_pred.argmax(-1)
    assert float(metric.result()) == pytest.approx(hits.mean())
    weight = rng.random(8).astype("float32")
    results = []
    for weights in (weight, weight[:, None], np.tile(weight[:, None], 4)):
        score = metrics.F1Score(average="micro")
        score.update_state(y_true, y_pred, weights)
        results.append(float(score.result()))
    assert results[1:] == pytest.approx(results[:-1])


def test_a_function_is_a_metric():
    def spread(y_true, y_pred):
        return abs(y_true - y_pred).max(-1)

    ours = metrics.MeanMetricWrapper(spread)
    assert ours.name == "spread"
    (y_true, y_pred), *_ = NUMBERS
    assert float(ours(y_true, y_pred)) == pytest.approx(abs(y_true - y_pred).max(-1).mean())


def test_a_metric_of_your_own_keeps_its_state_in_variables():
    class Largest(metrics.Metric):
        def __init__(self, name="largest"):
            super().__init__(name=name)
            self.best = self.add_weight(name="best", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.best.assign(max(float(self.best.numpy()), float(y_pred.max())))

        def result(self):
            return self.best.value

    largest = Largest()
    largest.update_state(None, np.array([1.0, 7.0]))
    largest.update_state(None, np.array([3.0]))
    assert float(largest.result()) == 7.0
    assert [v.path for v in largest.variables] == ["largest/best"]


def test_names_and_errors():
    for name in ("mse", "MAE", "AUC", "auc", "sparse_categorical_accuracy", "F1Score", "bce"):
        assert type(metrics.get(name)).__name__ == type(keras.metrics.get(name)).__name__
    with pytest.raises(ValueError, match="Did you mean 'precision'"):
        metrics.get("precison")
    with pytest.raises(ValueError, match="top_k=5 needs at least as many classes, but there are 4"):
        metrics.Recall(top_k=5).update_state(*MULTI[0])
    with pytest.raises(ValueError, match="from 0 to 1"):
        metrics.Precision(thresholds=1.5)
    with pytest.raises(ValueError, match="curve must be"):
        metrics.AUC(curve="XY")
    with pytest.raises(ValueError, match="2 variables, but 1 values"):
        metrics.Mean().stateless_result([0.0])
    with pytest.raises(ValueError, match="needs y_true and y_pred of shape"):
        metrics.F1Score().update_state(np.zeros(3), np.zeros(3))
