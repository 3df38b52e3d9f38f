"""Regularizers against Keras's."""

import keras
import numpy as np
import pytest

from recurrax import regularizers

W = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")

CASES = [
    ("L1", {"l1": 0.2}),
    ("L2", {}),
    ("L1L2", {"l1": 0.1, "l2": 0.3}),
    ("OrthogonalRegularizer", {"factor": 0.5}),
]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_penalty_and_config_are_keras(name, arguments):
    ours = getattr(regularizers, name)(**arguments)
    theirs = getattr(keras.regularizers, name)(**arguments)
    np.testing.assert_allclose(ours(W), theirs(W), rtol=1e-6)
    assert ours.get_config() == pytest.approx(theirs.get_config())
    again = regularizers.deserialize(regularizers.serialize(ours))
    assert again.get_config() == ours.get_config()


@pytest.mark.parametrize("name", ["l1", "l2", "L2", "L1L2", "l1l2", "orthogonal_regularizer"])
def test_names_are_keras(name):
    ours, theirs = regularizers.get(name), keras.regularizers.get(name)
    assert ours.get_config() == pytest.approx(theirs.get_config())


def test_columns_are_the_rows_of_the_transpose():
    rows = regularizers.OrthogonalRegularizer(0.5)
    columns = regularizers.OrthogonalRegularizer(0.5, mode="columns")
    np.testing.assert_allclose(columns(W), rows(W.T), rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="Did you mean 'l1_l2'"):
        regularizers.get("l1_l3")
    with pytest.raises(ValueError, match="l2 must be a finite number"):
        regularizers.L2(-1.0)
    with pytest.raises(ValueError, match="mode must be"):
        regularizers.OrthogonalRegularizer(mode="both")
    with pytest.raises(ValueError, match="needs a matrix"):
        regularizers.OrthogonalRegularizer()(np.zeros(3))
    assert regularizers.get(None) is None
