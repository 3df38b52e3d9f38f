"""Cells from the literature in plain `jax.numpy`: natively, forward and backward."""

import functools

import interpreter
import jax
import pytest
from direct import Loops
from named_weights import values_and_gradients
from published_cells import CELLS, convolutional
from recurrences import assert_same

import recurrax

REFUSED = {convolutional: ["`conv_general_dilated`", "`conv_general_dilated`"]}


@pytest.mark.parametrize("step", CELLS, ids=lambda step: step.__name__)
def test_values_and_gradients(step):
    native = Loops()
    ours = interpreter.run(
        functools.partial(values_and_gradients, recurrax.scan, step), loops=native
    )
    theirs = interpreter.run(functools.partial(values_and_gradients, jax.lax.scan, step))
    assert_same(ours, theirs)
    refused = REFUSED.get(step, [])
    assert native.taken == 2 - len(refused) == 2 - len(native.refused)
    assert all(word in why for word, why in zip(refused, native.refused, strict=True))
