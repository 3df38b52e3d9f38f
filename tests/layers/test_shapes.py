"""The shapes in signatures, checked by beartype as the layers run."""

import os
import pathlib
import subprocess
import sys
import textwrap

import recurrax

PROGRAM = """
    import jaxtyping, jax.numpy as jnp
    with jaxtyping.install_import_hook("recurrax.layers", "beartype.beartype"):
        from recurrax import layers

    x = jnp.ones((2, 3))
    for cell in (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell):
        for options in ({}, {"use_bias": False, "dropout": 0.3, "recurrent_dropout": 0.2}):
            made = cell(4, **options)
            states = made.get_initial_state(2)
            y, states = made(x, states, training=True)
            assert y.shape == states[0].shape == (2, 4)
    try:
        made.call(x.astype(int), states)
    except jaxtyping.TypeCheckError:
        pass
    else:
        raise AssertionError("signatures are not checked")
    assert layers.GRU(4, dropout=0.3)(x[:, None], training=True).shape == (2, 4)
    for layer in (layers.Dense(4), layers.Dropout(0.5), layers.Activation("tanh")):
        for shape in ((2, 3), (2, 5, 3)):
            assert layer(jnp.ones(shape), training=True).shape[:-1] == shape[:-1]
    embed = layers.Embedding(5, 3)
    assert embed(jnp.ones((2, 4), int)).shape == embed(jnp.ones((2, 4))).shape == (2, 4, 3)
"""


def test_shapes_in_signatures_hold():
    source = str(pathlib.Path(recurrax.__file__).parents[1])
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
