"""Helpers for data and seeds, against Keras's."""

import random

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurrax import utils

sequences = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(
    sequences,
    st.sampled_from([None, 1, 3, 8]),
    st.sampled_from(["pre", "post"]),
    st.sampled_from(["pre", "post"]),
    st.sampled_from([0, 7]),
)
def test_pad_sequences_is_keras(lists, maxlen, padding, truncating, value):
    arguments = {"padding": padding, "truncating": truncating, "value": value}
    ours = utils.pad_sequences(lists, maxlen, **arguments)
    theirs = keras.utils.pad_sequences(lists, maxlen, **arguments)
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


def test_pad_sequences_of_vectors_and_its_errors():
    vectors = [np.ones((2, 3)), np.zeros((4, 3))]
    np.testing.assert_array_equal(
        utils.pad_sequences(vectors, dtype="float32"),
        keras.utils.pad_sequences(vectors, dtype="float32"),
    )
    with pytest.warns(UserWarning, match="pass dtype='float32'"):
        utils.pad_sequences([[1], [0.5, 2]])
    with pytest.raises(ValueError, match="steps of sequence 1 have shape"):
        utils.pad_sequences([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(ValueError, match="entry 1 is 5"):
        utils.pad_sequences([[1], 5])
    with pytest.raises(ValueError, match="padding must be"):
        utils.pad_sequences([[1]], padding="left")
    with pytest.raises(ValueError, match="dtype=object"):
        utils.pad_sequences([["a"]], value="x")


def test_to_categorical_is_keras():
    for x in (np.array([0, 2, 1]), [[1], [3]], np.array([[0, 1], [2, 2]]), 2):
        np.testing.assert_array_equal(utils.to_categorical(x), keras.utils.to_categorical(x))
    np.testing.assert_array_equal(
        utils.to_categorical(jnp.array([0, 2]), 4), utils.to_categorical([0, 2], 4)
    )
    with pytest.raises(ValueError, match="class 3, but num_classes=3"):
        utils.to_categorical([0, 3], 3)
    with pytest.raises(ValueError, match="needs num_classes"):
        utils.to_categorical(jnp.array([0, 2]))


def test_normalize_is_keras():
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(utils.normalize(x), keras.utils.normalize(x))


def test_windows_of_a_series():
    data = np.arange(100)
    dataset = utils.timeseries_dataset_from_array(
        data, data + 1000, 5, sequence_stride=2, sampling_rate=3, batch_size=4
    )
    windows, targets = (np.concatenate(part) for part in zip(*dataset, strict=True))
    starts = np.arange(0, 100 - 12, 2)
    np.testing.assert_array_equal(windows, starts[:, None] + np.arange(0, 15, 3))
    np.testing.assert_array_equal(targets, starts + 1000)
    assert len(dataset) == -(-len(starts) // 4)
    for window, target in dataset.take(1):  # as Keras's forecasting example looks at them
        np.testing.assert_array_equal(window.numpy(), windows[:4])
        assert type(target.numpy()) is np.ndarray
    assert (len(list(dataset.take(3))), len(list(dataset.take(-1)))) == (3, len(dataset))


def test_windows_between_indices_without_targets_or_batches():
    data = np.arange(60).reshape(30, 2)
    dataset = utils.timeseries_dataset_from_array(
        data, None, 4, batch_size=None, start_index=5, end_index=12
    )
    np.testing.assert_array_equal(list(dataset), [data[s : s + 4] for s in range(5, 9)])


def test_shuffled_windows_are_the_same_windows_in_another_order_each_epoch():
    data = np.arange(50)
    dataset = utils.timeseries_dataset_from_array(data, data, 3, batch_size=8, shuffle=True, seed=1)
    first, second = (np.concatenate([y for _, y in dataset]) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(48))
    assert not np.array_equal(first, second)
    for windows, targets in dataset:
        np.testing.assert_array_equal(windows[:, 0], targets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequence_length": 99}, "does not fit"),
        ({"sequence_length": 3, "sampling_rate": 0}, "sampling_rate must be"),
        ({"sequence_length": 3, "sequence_stride": 20}, "sequence_stride must be"),
        ({"sequence_length": 3, "start_index": 30}, "start_index must be"),
        ({"sequence_length": 3, "start_index": 5, "end_index": 4}, "end_index must be"),
    ],
)
def test_windows_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        utils.timeseries_dataset_from_array(np.arange(20), None, **arguments)


def test_a_seed_fixes_python_and_numpy():
    draws = []
    for _ in range(2):
        utils.set_random_seed(7)
        draws.append((random.random(), np.random.random()))
    assert draws[0] == draws[1]
    with pytest.raises(ValueError, match="must be an integer"):
        utils.set_random_seed("seven")


@pytest.mark.parametrize(
    ("left", "right"),
    [(0.8, None), (None, 0.3), (4, None), (None, 3), (0.5, 0.2), (2, 3), (0.33, 5)],
)
def test_split_dataset_has_keras_sizes(left, right):
    data = (np.arange(20).reshape(10, 2), np.arange(10) * 10)
    first, second = utils.split_dataset(data, left, right)
    before, after = keras.src.utils.dataset_utils._rescale_dataset_split_sizes(left, right, 10)
    for array, one, other in zip(data, first, second, strict=True):
        np.testing.assert_array_equal(one, array[:before])
        np.testing.assert_array_equal(other, array[10 - after :])


def test_split_dataset_shuffles_and_keeps_the_structure():
    data = {"x": np.arange(10), "y": np.arange(10) * 2}
    left, right = utils.split_dataset(data, 0.7, shuffle=True, seed=1)
    again, _ = utils.split_dataset(data, 0.7, shuffle=True, seed=1)
    np.testing.assert_array_equal(left["x"], again["x"])
    np.testing.assert_array_equal(left["y"], left["x"] * 2)
    assert sorted([*left["x"], *right["x"]]) == list(range(10)) != [*left["x"], *right["x"]]


@pytest.mark.parametrize(
    ("data", "sizes", "error", "text"),
    [
        (np.zeros(10), {}, ValueError, "needs left_size, right_size or both"),
        (np.zeros(10), {"left_size": 10}, ValueError, "from 1 to 9, .* but it is 10"),
        (np.zeros(10), {"right_size": 1.5}, ValueError, "right_size must be .* but it is 1.5"),
        (np.zeros(10), {"left_size": 6, "right_size": 0.5}, ValueError, "would be 6 and 5"),
        (np.zeros(10), {"left_size": 0.01}, ValueError, "would be 0 and 10"),
        ((np.zeros(3), np.zeros(2)), {"left_size": 1}, ValueError, r"but they have \[2, 3\]"),
        ([1, 2, 3], {"left_size": 1}, TypeError, "got 1 of type int: pass np.asarray"),
    ],
)
def test_split_dataset_refuses(data, sizes, error, text):
    with pytest.raises(error, match=text):
        utils.split_dataset(data, **sizes)
