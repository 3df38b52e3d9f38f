"""A padded batch gives each sample what it gives alone, unpadded."""

import jax.numpy as jnp
import numpy as np
import pytest
from tests.layers.against_keras import draw

import recurrax as keras
from recurrax import layers
from recurrax.layers.mask import get_mask

LENGTHS = (5, 2, 3, 1)
BATCH, STEPS, FEATURES = len(LENGTHS), 5, 3
X = draw((BATCH, STEPS, FEATURES))
PADDED = np.arange(STEPS)[None] < np.array(LENGTHS)[:, None]
HOLES = np.random.default_rng(2).random((BATCH, STEPS)) < 0.5
HOLES[:, 1] = True


class LeakyCell(layers.Layer):
    """Its output is not its state."""

    state_size, output_size = 4, 2

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 4), name="kernel")

    def call(self, inputs, states):
        state = 0.5 * states[0] + jnp.tanh(inputs @ self.kernel.value)
        return state[:, :2] * 3, [state]


RECURRENT = {
    "LSTM": lambda **o: layers.LSTM(4, **o),
    "GRU": lambda **o: layers.GRU(4, **o),
    "SimpleRNN": lambda **o: layers.SimpleRNN(4, **o),
    "stacked": lambda **o: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], **o),
    "own cell": lambda **o: layers.RNN(LeakyCell(), **o),
    "concat": lambda **o: layers.Bidirectional(layers.LSTM(4, **o)),
    "sum": lambda **o: layers.Bidirectional(layers.GRU(4, **o), merge_mode="sum"),
}


def _leaves(x):
    flat = []
    for item in x if isinstance(x, list | tuple) else [x]:
        flat += _leaves(item) if isinstance(item, list | tuple) else [np.asarray(item)]
    return flat


@pytest.mark.parametrize("mask", [PADDED, HOLES], ids=["padded", "holes"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_each_sample_gives_what_it_gives_alone(name, sequences, mask):
    layer = RECURRENT[name](return_sequences=sequences, return_state=True)
    together = _leaves(layer(X, mask=mask))
    for sample in range(BATCH):
        kept = mask[sample]
        alone = _leaves(layer(X[sample : sample + 1, kept]))
        for one, all_ in zip(alone, together, strict=True):
            mine = all_[sample][kept] if sequences and one.ndim == 3 else all_[sample]
            np.testing.assert_allclose(mine, one[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["LSTM", "own cell"])
def test_masked_steps_hold_the_output_or_are_zero(name):
    held = RECURRENT[name](return_sequences=True)
    outputs = np.asarray(held(X, mask=PADDED))
    np.testing.assert_array_equal(outputs[1, 2:], np.repeat(outputs[1, 1:2], 3, axis=0))
    zero = RECURRENT[name](return_sequences=True, zero_output_for_mask=True)
    assert not np.asarray(zero(X, mask=PADDED))[1, 2:].any()


def test_go_backwards_skips_padding():
    layer = layers.GRU(4, go_backwards=True)
    np.testing.assert_allclose(layer(X, mask=PADDED)[1], layer(X[1:2, :2])[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda **o: layers.GRU(4, go_backwards=True, **o),
        lambda **o: layers.RNN([layers.LSTMCell(4), LeakyCell()], go_backwards=True, **o),
        lambda **o: layers.Bidirectional(layers.GRU(4, **o)),
        lambda **o: layers.Bidirectional(layers.GRU(4, go_backwards=True, **o)),
        lambda **o: layers.Bidirectional(
            layers.LSTM(4, go_backwards=True, **o), backward_layer=layers.GRU(2, **o)
        ),
        lambda **o: layers.Bidirectional(
            layers.GRU(4, go_backwards=True, **o), merge_mode=None, name="both"
        ),
    ],
)
def test_the_mask_that_goes_on_stands_as_the_outputs(make, functional):
    """Turned where they come reversed (in Keras it is not)."""
    layer, after = make(return_sequences=True), layers.SimpleRNN(3)

    def run(x):
        outputs = layer(x)
        last = outputs[-1] if isinstance(outputs, tuple) else outputs
        return after(last)

    masking = layers.Masking(9.0)
    padded = np.where(HOLES[..., None], X, np.float32(9))
    inputs = keras.Input((None, FEATURES))
    model = keras.Model(inputs, run(masking(inputs)))
    together = model(padded) if functional else run(masking(padded))
    for sample, kept in enumerate(HOLES):
        alone = run(X[sample : sample + 1, kept])
        np.testing.assert_allclose(together[sample], alone[0], rtol=1e-5, atol=1e-6)


def test_a_mask_travels_from_embedding_to_the_end():
    ids = np.where(PADDED, np.random.default_rng(0).integers(1, 9, (BATCH, STEPS)), 0)
    model = keras.Sequential(
        [
            layers.Embedding(9, 3, mask_zero=True),
            layers.Dropout(0.5),
            layers.TimeDistributed(layers.Dense(4)),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(2),
        ]
    )
    together = model(ids)
    for sample, length in enumerate(LENGTHS):
        alone = model(ids[sample : sample + 1, :length])
        np.testing.assert_allclose(together[sample], alone[0], rtol=1e-6, atol=1e-6)


def test_a_functional_graph_hands_masks_through_merges_and_operators():
    inputs = keras.Input((None, FEATURES))
    x = layers.Masking(-1.0)(inputs)
    both = layers.Concatenate()([layers.Dense(2)(x), x])
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(both))
    padded = np.where(PADDED[..., None], X, -1.0)
    together = model(padded)
    for sample, length in enumerate(LENGTHS):
        alone = model(X[sample : sample + 1, :length])
        np.testing.assert_allclose(together[sample], alone[0], rtol=1e-6, atol=1e-6)


def test_compute_mask_by_hand_on_arrays_and_symbols():
    embedding = layers.Embedding(9, 3, mask_zero=True)
    ids = np.array([[3, 4, 0]])
    vectors = embedding(ids)
    np.testing.assert_array_equal(get_mask(vectors), ids != 0)
    np.testing.assert_array_equal(vectors._keras_mask, ids != 0)
    inputs = keras.Input((None,), dtype="int32")
    mask = embedding.compute_mask(inputs)
    assert (mask.shape, mask.dtype) == ((None, None), "bool")
    lstm = layers.LSTM(2)
    model = keras.Model(inputs, lstm(embedding(inputs), mask=mask))
    np.testing.assert_allclose(model(ids), lstm(embedding(ids[:, :2])), rtol=1e-6, atol=1e-6)


def test_a_loop_behind_an_embedding_runs_over_its_integers():
    """It multiplies the table; whatever stands in between, it runs over vectors."""
    for between, looks_up in (([], 1), ([layers.LayerNormalization()], 0)):
        model = keras.Sequential(
            [layers.Embedding(5, 3, mask_zero=True), *between, layers.GRU(4, name="gru")]
        )
        ids = np.array([[3, 4, 0], [1, 0, 0], [2, 2, 2], [1, 4, 3]])
        together = model(ids)
        assert model.explain()["gru"].inside.get("gather", 0) == looks_up
        alone = [model(sample[sample > 0][None]) for sample in ids]
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_pooling_over_time_leaves_padding_out():
    for name in ("GlobalMaxPooling1D", "GlobalAveragePooling1D"):
        layer = getattr(layers, name)()
        together = layer(X, mask=PADDED)
        for sample, length in enumerate(LENGTHS):
            np.testing.assert_allclose(
                together[sample], layer(X[sample : sample + 1, :length])[0], rtol=1e-6
            )
        assert np.isfinite(layer(X, mask=np.zeros((BATCH, STEPS), bool))).all()


def test_attention_sees_no_padding():
    ids = np.array([[1, 2, 0, 0], [3, 4, 5, 6]])
    embedding = layers.Embedding(9, 3, mask_zero=True)
    attention = layers.Attention()
    vectors = embedding(ids)
    short = embedding(ids[:1, :2])
    np.testing.assert_allclose(
        attention([vectors, vectors])[0, :2], attention([short, short])[0], rtol=1e-6, atol=1e-6
    )
    heads = layers.MultiHeadAttention(2, 3)
    np.testing.assert_allclose(
        heads(vectors, vectors)[0, :2], heads(short, short)[0], rtol=1e-5, atol=1e-6
    )


def test_a_layer_that_does_not_know_masks_warns():
    class Blind(layers.Layer):
        def call(self, inputs):
            return inputs * 2

    with pytest.warns(UserWarning, match="does not support masking"):
        Blind()(layers.Masking()(X))


@pytest.mark.parametrize("shape", [(BATCH, STEPS + 1), (BATCH + 1, STEPS), (BATCH,)])
def test_a_mask_of_another_shape_is_an_error(shape):
    mask = np.ones(shape, bool)
    for make in RECURRENT.values():
        with pytest.raises(ValueError, match=r"mask of shape \(batch, timesteps\)"):
            make()(X, mask=mask)
    with pytest.raises(ValueError, match=r"pass np\.asarray\(mask\)"):
        layers.GRU(4)(X, mask=mask.tolist())
    with pytest.raises(ValueError, match="mask"):
        layers.TimeDistributed(layers.Dense(2))(X, mask=mask)


def test_a_layer_of_ones_own_gets_its_mask_where_the_graph_is_made():
    """As in Keras's guide to masking: `call` may rely on it, also in a layer within a layer."""

    class Share(keras.Layer):
        supports_masking = True

        def call(self, inputs, mask=None):
            assert mask is not None
            return inputs / keras.ops.sum(keras.ops.cast(mask, "float32"), 1)[:, None, None]

    class Outer(keras.Layer):
        supports_masking = True

        def __init__(self):
            super().__init__()
            self.inner, self.dense = Share(), layers.Dense(2)

        def call(self, inputs):
            return self.inner(self.dense(inputs))

    inputs = keras.Input((None,), dtype="int32")
    vectors = layers.Embedding(9, 3, mask_zero=True)(inputs)
    hidden = layers.Dense(3)(vectors)
    assert (hidden._keras_mask.shape, hidden._keras_mask.dtype) == ((None, None), "bool")
    assert layers.Flatten()(hidden)._keras_mask is None
    outer = Outer()
    model = keras.Model(inputs, outer(hidden))
    ids = np.array([[3, 4, 0]])
    plain = keras.Model(inputs, outer.dense(hidden))
    np.testing.assert_allclose(model(ids), plain(ids) / 2, rtol=1e-6)


class TestStepsMadeOfSteps:
    """`TimeDistributed` around a layer over time: sentences of words."""

    WORDS = 6
    X = draw((BATCH, STEPS, WORDS, FEATURES))
    LAYERS = (
        lambda: layers.GlobalAveragePooling1D(),
        lambda: layers.GlobalMaxPooling1D(data_format="channels_first"),
        lambda: layers.LSTM(4),
        lambda: layers.Bidirectional(layers.GRU(4, return_sequences=True)),
        lambda: layers.BatchNormalization(),
        lambda: keras.Sequential([layers.GRU(4)]),
    )

    @pytest.mark.parametrize("make", LAYERS)
    def test_a_masked_step_is_masked_as_a_whole(self, make):
        layer = layers.TimeDistributed(make())
        together = layer(self.X, mask=PADDED, training=True)
        np.testing.assert_array_equal(get_mask(together), PADDED)
        for sample, length in enumerate(LENGTHS):
            if type(layer.layer).__name__ != "BatchNormalization":
                alone = layer(self.X[sample : sample + 1, :length])
                np.testing.assert_allclose(together[sample, :length], alone[0], atol=1e-5)

    def test_padding_is_no_part_of_what_a_batch_is_normalised_by(self):
        layer = layers.TimeDistributed(layers.BatchNormalization(momentum=0.0))
        layer(self.X, mask=PADDED, training=True)
        # Step by step, so the last one counts: one sample has it.
        mean = layer.layer.moving_mean.numpy()
        np.testing.assert_allclose(mean, self.X[0, -1].mean(axis=0), atol=1e-5)

    @pytest.mark.parametrize("make", LAYERS[2:3] + LAYERS[5:])
    def test_documents_of_sentences_of_words(self, make):
        """A sentence is real if it has a word; each document gives what it gives alone."""
        words = np.array([[3, 1, 0, 0], [2, 6, 4, 0], [1, 0, 0, 0], [5, 2, 0, 0]])
        kept = np.arange(self.WORDS) < words[..., None]
        ids = np.where(kept, np.random.default_rng(0).integers(1, 9, kept.shape), 0)
        inner, last = layers.TimeDistributed(make()), layers.SimpleRNN(3)
        embedding = layers.Embedding(9, FEATURES, mask_zero=True)
        inputs = keras.Input((None, self.WORDS), dtype="int32")
        hidden = inner(embedding(inputs))
        assert (hidden._keras_mask.shape, hidden._keras_mask.dtype) == ((None, None), "bool")
        model = keras.Model(inputs, last(hidden))
        together = model(ids)
        for sample in range(BATCH):
            real = kept[sample].any(axis=1)
            alone = model(ids[sample : sample + 1, real])
            np.testing.assert_allclose(together[sample], alone[0], rtol=1e-5, atol=1e-6)
        eager = last(inner(embedding(ids)))
        np.testing.assert_allclose(eager, together, rtol=1e-6)

    @pytest.mark.parametrize("shape", [(BATCH, STEPS, WORDS + 1), (BATCH, STEPS + 1, WORDS)])
    def test_a_mask_of_another_shape_is_an_error_in_the_users_own_shapes(self, shape):
        layer = layers.TimeDistributed(layers.GlobalAveragePooling1D(), name="outer")
        with pytest.raises(ValueError, match=r"'outer' expected a mask of shape .*\(4, 5"):
            layer(self.X, mask=np.ones(shape, bool))

    def test_a_layer_of_ones_own_gets_the_mask_of_a_step_as_it_is(self):
        class Seen(layers.Layer):
            supports_masking = True

            def call(self, inputs, mask=None):
                assert mask.shape == (BATCH,)
                return jnp.where(mask[:, None, None], inputs, 0)

        outputs = np.asarray(layers.TimeDistributed(Seen())(self.X, mask=PADDED))
        np.testing.assert_array_equal(outputs, np.where(PADDED[..., None, None], self.X, 0))
