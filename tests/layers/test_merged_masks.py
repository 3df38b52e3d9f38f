"""Inputs with masks, merged: the values and the mask that Keras gives."""

import itertools

import keras
import numpy as np
import pytest
from tests.layers.against_keras import assert_close, draw

import recurrax
from recurrax.layers.mask import get_mask

MASKS = [
    None,
    np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool),
    np.array([[1, 0, 1, 0], [0, 1, 1, 0]], bool),
]
MERGES = [
    ("Add", {}, 3),
    ("Multiply", {}, 3),
    ("Average", {}, 3),
    ("Maximum", {}, 3),
    ("Minimum", {}, 3),
    ("Subtract", {}, 2),
    ("Concatenate", {"axis": -1}, 3),
    ("Concatenate", {"axis": 2}, 3),
    ("Concatenate", {"axis": 1}, 3),
    ("Dot", {"axes": 1}, 2),
    ("Dot", {"axes": 2, "normalize": True}, 2),
]


def _merged(library, name, options, inputs, masks):
    """What a merge makes of `inputs` at whose masked steps every feature is 9."""
    tensors = [
        library.ops.convert_to_tensor(x)
        if mask is None
        else library.layers.Masking(9.0)(np.where(mask[..., None], x, np.float32(9)))
        for x, mask in zip(inputs, masks, strict=True)
    ]
    return getattr(library.layers, name)(**options)(tensors)


def _assert_merge_agrees(name, options, inputs, masks):
    ours = _merged(recurrax, name, options, inputs, masks)
    theirs = _merged(keras, name, options, inputs, masks)
    assert_close(ours, theirs)
    mask, expected = get_mask(ours), getattr(theirs, "_keras_mask", None)
    assert (mask is None) == (expected is None)
    if mask is not None:
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("name", "options", "count"), MERGES, ids=[f"{m[0]}{m[1]}" for m in MERGES]
)
def test_values_and_masks_agree_whichever_inputs_have_one(name, options, count):
    inputs = [draw((2, 4, 3), seed) for seed in range(count)]
    for masks in itertools.product(MASKS, repeat=count):
        _assert_merge_agrees(name, options, inputs, masks)


@pytest.mark.parametrize("name", ["Add", "Multiply", "Maximum", "Minimum"])
def test_inputs_that_broadcast(name):
    wide, narrow, flat = draw((2, 4, 3)), draw((2, 4, 1), 1), draw((2, 3), 2)
    for masks in itertools.product(MASKS, repeat=2):
        _assert_merge_agrees(name, {}, [wide, narrow], masks)
        _assert_merge_agrees(name, {}, [narrow, wide, flat], [*masks, None])


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_masks_of_more_axes_are_concatenated_along_any_of_them(axis):
    """Sentences of words: their mask has an axis for each."""
    ids = [draw((2, 3, 4), seed, low=3) for seed in range(2)]
    tables = [draw((3, 5), seed) for seed in range(3)]

    def merged(library):
        tensors = []
        for one, table in zip(ids, tables, strict=False):
            embedding = library.layers.Embedding(3, 5, mask_zero=True)
            embedding.build((2, 3, 4))
            embedding.set_weights([table])
            tensors.append(embedding(one))
        tensors.append(library.ops.convert_to_tensor(draw((2, 3, 4, 5))))
        return library.layers.Concatenate(axis)(tensors)

    ours, theirs = merged(recurrax), merged(keras)
    assert_close(ours, theirs)
    np.testing.assert_array_equal(get_mask(ours), theirs._keras_mask)


@pytest.mark.parametrize("name", ["Add", "Multiply", "Maximum", "Concatenate"])
def test_a_functional_model_reads_the_merged_steps(name):
    """Its recurrent layer sees the joint mask, compiled or not."""

    def model(library):
        layers = library.layers
        a, b = library.Input((4, 3)), library.Input((4, 3))
        both = getattr(layers, name)()([layers.Masking(9.0)(a), layers.Masking(9.0)(b)])
        return library.Model([a, b], layers.GRU(4, return_sequences=True)(both))

    ours, theirs = model(recurrax), model(keras)
    values = [draw(w.shape, 20 + i) for i, w in enumerate(theirs.weights)]
    ours.set_weights(values)
    theirs.set_weights(values)
    inputs = [
        np.where(mask[..., None], draw((2, 4, 3), seed), np.float32(9))
        for seed, mask in enumerate(MASKS[1:])
    ]
    assert_close(ours(inputs), theirs(inputs))
    assert_close(ours.predict(inputs, verbose=0), theirs.predict(inputs, verbose=0))
