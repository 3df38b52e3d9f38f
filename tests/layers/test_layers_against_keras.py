"""Every other layer against Keras's: outputs, gradients, shapes, weights and configurations."""

import json

import keras
import numpy as np
import pytest
from tests.layers.against_keras import compare, draw, same_weights

import recurrax
from recurrax import registry

SEQUENCE, IMAGE, VECTOR = (2, 5, 4), (2, 6, 5, 3), (2, 4)
SAME = [SEQUENCE, SEQUENCE]

CASES = [
    ("Dense", {"units": 3, "activation": "relu"}, SEQUENCE),
    ("Dense", {"units": 3, "use_bias": False, "kernel_regularizer": "l2"}, VECTOR),
    (
        "EinsumDense",
        {"equation": "abc,cd->abd", "output_shape": (5, 3), "bias_axes": "d"},
        SEQUENCE,
    ),
    ("Activation", {"activation": "softmax"}, SEQUENCE),
    ("ReLU", {"negative_slope": 0.1, "max_value": 1.0}, SEQUENCE),
    ("LeakyReLU", {}, SEQUENCE),
    ("ELU", {"alpha": 0.5}, SEQUENCE),
    ("Softmax", {"axis": 1}, SEQUENCE),
    ("Flatten", {}, IMAGE),
    ("Reshape", {"target_shape": (4, 5)}, SEQUENCE),
    ("Reshape", {"target_shape": (-1, 2)}, SEQUENCE),
    ("RepeatVector", {"n": 3}, VECTOR),
    ("Permute", {"dims": (2, 1)}, SEQUENCE),
    ("Masking", {"mask_value": 0.5}, SEQUENCE),
    ("Add", {}, SAME),
    ("Add", {}, [SEQUENCE, (2, 1, 4), (2, 5, 1)]),
    ("Multiply", {}, SAME),
    ("Average", {}, SAME),
    ("Maximum", {}, SAME),
    ("Minimum", {}, SAME),
    ("Subtract", {}, SAME),
    ("Concatenate", {}, [SEQUENCE, (2, 5, 3)]),
    ("Concatenate", {"axis": 1}, [SEQUENCE, (2, 3, 4)]),
    ("Dot", {"axes": 2}, SAME),
    ("Dot", {"axes": (1, 2), "normalize": True}, [SEQUENCE, (2, 3, 5)]),
    ("Conv1D", {"filters": 3, "kernel_size": 2, "strides": 2, "activation": "tanh"}, SEQUENCE),
    ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}, SEQUENCE),
    ("Conv1D", {"filters": 4, "kernel_size": 2, "groups": 2, "use_bias": False}, SEQUENCE),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "padding": "same"}, IMAGE),
    ("MaxPooling1D", {}, SEQUENCE),
    ("MaxPooling1D", {"pool_size": 3, "strides": 1, "padding": "same"}, SEQUENCE),
    ("MaxPooling2D", {}, IMAGE),
    ("AveragePooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}, SEQUENCE),
    ("AveragePooling2D", {"pool_size": 2}, IMAGE),
    ("GlobalMaxPooling1D", {}, SEQUENCE),
    ("GlobalMaxPooling2D", {"keepdims": True}, IMAGE),
    ("GlobalAveragePooling1D", {"keepdims": True}, SEQUENCE),
    ("GlobalAveragePooling2D", {}, IMAGE),
    ("LayerNormalization", {}, SEQUENCE),
    ("LayerNormalization", {"axis": [1, 2], "scale": False, "epsilon": 1e-5}, SEQUENCE),
    ("BatchNormalization", {"momentum": 0.7}, SEQUENCE),
    ("BatchNormalization", {"axis": 1, "center": False}, SEQUENCE),
    ("Attention", {"use_scale": True}, SAME),
    ("Attention", {"score_mode": "concat"}, [SEQUENCE, (2, 3, 4), (2, 3, 4)]),
    ("AdditiveAttention", {}, SAME),
    ("Dropout", {"rate": 0.4, "seed": 3}, SEQUENCE),
    ("Dropout", {"rate": 0.4, "seed": 3, "noise_shape": (None, 1, 4)}, SEQUENCE),
    ("SpatialDropout1D", {"rate": 0.4, "seed": 3}, SEQUENCE),
    ("GaussianNoise", {"stddev": 0.3, "seed": 3}, SEQUENCE),
    ("ConvLSTM1D", {"filters": 3, "kernel_size": 2, "return_sequences": True}, (2, 3, 5, 2)),
    (
        "ConvLSTM1D",
        {
            "filters": 2,
            "kernel_size": 2,
            "dropout": 0.3,
            "recurrent_dropout": 0.2,
            "seed": 2,
            "return_state": True,
        },
        (2, 3, 5, 2),
    ),
    (
        "ConvLSTM2D",
        {
            "filters": 3,
            "kernel_size": 2,
            "strides": 2,
            "padding": "same",
            "return_state": True,
            "go_backwards": True,
        },
        (2, 3, 5, 4, 2),
    ),
    ("ConvLSTM3D", {"filters": 2, "kernel_size": 2, "dilation_rate": 2}, (2, 2, 4, 4, 4, 2)),
]
NAMES = [f"{name}-{index}" for index, (name, _, _) in enumerate(CASES)]


def _inputs(shape):
    if isinstance(shape, list):
        return [draw(one, i) for i, one in enumerate(shape)]
    return draw(shape)


def _pair(name, options):
    return getattr(recurrax.layers, name)(**options), getattr(keras.layers, name)(**options)


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=NAMES)
def test_outputs_and_gradients_agree(name, options, shape):
    ours, theirs = _pair(name, options)
    inputs = _inputs(shape)
    for layer in (ours, theirs):  # not called: Keras's recurrent layers draw masks at every call
        layer.build(shape)
    same_weights(ours, theirs)
    training = name in (
        "BatchNormalization",
        "Dropout",
        "SpatialDropout1D",
        "GaussianNoise",
        "ConvLSTM1D",
    )
    compare(ours, theirs, inputs, **({"training": True} if training else {}))


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=NAMES)
def test_shapes_with_unknown_sizes_agree(name, options, shape):
    ours, theirs = _pair(name, options)
    several = isinstance(shape, list)
    unknown = [(None, *one[1:]) for one in shape] if several else (None, *shape[1:])
    a = ours(
        [recurrax.Input(batch_shape=one) for one in unknown]
        if several
        else recurrax.Input(batch_shape=unknown)
    )
    b = theirs(
        [keras.Input(batch_shape=one) for one in unknown]
        if several
        else keras.Input(batch_shape=unknown)
    )
    a, b = (x if isinstance(x, list | tuple) else [x] for x in (a, b))
    assert [x.shape for x in a] == [x.shape for x in b]


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=NAMES)
def test_configurations_go_both_ways(name, options, shape):
    ours, theirs = _pair(name, options)
    mine, other = ours.get_config(), theirs.get_config()
    # What Keras has learnt of late, and older Keras does not take.
    late = {
        "quantization_config",
        "synchronized",
        "renorm",
        "renorm_clipping",
        "renorm_momentum",
        "rms_scaling",
    }
    assert set(mine) == set(other) - late
    for config in (mine, other):
        config["name"] = "again"
    read = type(theirs).from_config(json.loads(json.dumps(mine)))
    assert json.dumps(read.get_config()) == json.dumps(other)
    twin = type(ours).from_config(json.loads(json.dumps(other)))
    assert json.dumps(twin.get_config()) == json.dumps(mine)
    record = json.loads(json.dumps(registry.serialize(ours)))
    assert type(keras.saving.deserialize_keras_object(record)).__name__ == name


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention_agrees(causal):
    options = {"num_heads": 2, "key_dim": 3, "output_shape": 5}
    ours, theirs = _pair("MultiHeadAttention", options)
    query, value = draw((2, 5, 4)), draw((2, 3, 6), 1)
    mask = np.random.default_rng(0).random((2, 5, 3)) < 0.7
    for layer in (ours, theirs):
        layer(query, value)
    same_weights(ours, theirs)
    compare(ours, theirs, query, value=value, attention_mask=mask, use_causal_mask=causal)
    for layer in (ours, theirs):
        assert layer(query, value, return_attention_scores=True)[1].shape == (2, 2, 5, 3)
    theirs_config = theirs.get_config()
    new = {"sliding_window", "flash_attention", "use_gate"}
    assert set(ours.get_config()) == set(theirs_config) - new
    recurrax.layers.MultiHeadAttention.from_config(json.loads(json.dumps(theirs_config)))


def test_an_embedding_agrees_and_masks():
    ours, theirs = _pair("Embedding", {"input_dim": 7, "output_dim": 3, "mask_zero": True})
    ids = draw((2, 5), low=7)
    for layer in (ours, theirs):
        layer(ids)
    same_weights(ours, theirs)
    compare(ours, theirs, ids)
    np.testing.assert_array_equal(ours.compute_mask(ids), ids != 0)
    assert set(ours.get_config()) >= set(theirs.get_config()) - {"quantization_config"}


def test_a_quantized_layer_of_keras_is_refused():
    config = keras.layers.Dense(3).get_config() | {"lora_rank": 4}
    with pytest.raises(ValueError, match=r"lora_rank=4.*not offered here"):
        recurrax.layers.Dense.from_config(config)
    assert recurrax.layers.Dense.from_config(config | {"lora_rank": None}).units == 3


def test_lambda_runs_and_says_that_it_cannot_be_saved():
    layer = recurrax.layers.Lambda(lambda x, power: x**power, arguments={"power": 2})
    np.testing.assert_allclose(layer(np.array([3.0], np.float32)), [9.0])
    assert layer(recurrax.Input((None, 3))).shape == (None, None, 3)
    with pytest.raises(NotImplementedError, match=r"cannot be saved.*register_keras_serializable"):
        layer.get_config()
