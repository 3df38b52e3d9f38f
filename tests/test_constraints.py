"""Constraints against Keras's."""

import keras
import numpy as np
import pytest

from recurrax import constraints

W = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32") * 2

CASES = [
    ("MaxNorm", {"max_value": 1.5}),
    ("MaxNorm", {"axis": [0, 1]}),
    ("NonNeg", {}),
    ("UnitNorm", {"axis": 1}),
    ("MinMaxNorm", {"min_value": 2.0, "max_value": 3.0, "rate": 0.7}),
]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_projection_and_config_are_keras(name, arguments):
    ours = getattr(constraints, name)(**arguments)
    theirs = getattr(keras.constraints, name)(**arguments)
    np.testing.assert_allclose(ours(W), theirs(W), rtol=1e-5, atol=1e-6)
    assert ours.get_config() == theirs.get_config()
    again = constraints.deserialize(constraints.serialize(ours))
    assert again.get_config() == ours.get_config()


@pytest.mark.parametrize("name", ["max_norm", "NonNeg", "unit_norm", "min_max_norm"])
def test_names_are_keras(name):
    assert constraints.get(name).get_config() == keras.constraints.get(name).get_config()


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'max_norm'"):
        constraints.get("maxnorm")
