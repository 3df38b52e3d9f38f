"""What Keras's guide "Working with RNNs" shows, written anew; only the import is ours."""

import os

import numpy as np
import pytest
from sklearn.datasets import load_digits

import recurrax as keras
from recurrax import layers, ops

RNG = np.random.default_rng(0)


def test_a_sequential_model_counts_its_weights():
    model = keras.Sequential()
    model.add(layers.Embedding(input_dim=1000, output_dim=64))
    model.add(layers.LSTM(128))
    model.add(layers.Dense(10))
    lines = []
    model.summary(print_fn=lines.append)
    assert "Total params: 164,106" in lines
    assert [layer.count_params() for layer in model.layers] == [64000, 98816, 1290]
    assert model(RNG.integers(0, 1000, (3, 7))).shape == (3, 10)


def test_layers_on_top_of_each_other():
    model = keras.Sequential()
    model.add(layers.Embedding(input_dim=1000, output_dim=64))
    model.add(layers.GRU(256, return_sequences=True))
    model.add(layers.SimpleRNN(128))
    model.add(layers.Dense(10))
    assert model.count_params() == 361866
    assert model.layers[1].output.shape == (None, None, 256)
    assert model.output_shape == (None, 10)


def test_encoder_and_decoder():
    encoder_vocab, decoder_vocab = 1000, 2000
    encoder_input = layers.Input(shape=(None,))
    encoder_embedded = layers.Embedding(input_dim=encoder_vocab, output_dim=64)(encoder_input)
    output, state_h, state_c = layers.LSTM(64, return_state=True, name="encoder")(encoder_embedded)
    encoder_state = [state_h, state_c]
    decoder_input = layers.Input(shape=(None,))
    decoder_embedded = layers.Embedding(input_dim=decoder_vocab, output_dim=64)(decoder_input)
    decoder_output = layers.LSTM(64, name="decoder")(decoder_embedded, initial_state=encoder_state)
    output = layers.Dense(10)(decoder_output)
    model = keras.Model([encoder_input, decoder_input], output)
    assert model.count_params() == 258698
    lines = []
    model.summary(print_fn=lines.append)
    decoder = next(line for line in lines if line.startswith("decoder (LSTM)"))
    assert decoder.split()[4] == "33024"
    source = RNG.integers(0, encoder_vocab, (2, 5))
    target = RNG.integers(0, decoder_vocab, (2, 3))
    assert model([source, target]).shape == (2, 10)
    other = model([source[:, ::-1], target])
    assert not np.allclose(other, model([source, target]))


def test_an_rnn_around_a_cell_is_the_layer():
    x = RNG.standard_normal((2, 5, 3)).astype("float32")
    for name in ("LSTM", "GRU", "SimpleRNN"):
        layer = getattr(layers, name)(4)
        unfused = layers.RNN(getattr(layers, f"{name}Cell")(4))
        expected = layer(x)
        unfused(x)
        unfused.set_weights(layer.get_weights())
        np.testing.assert_allclose(unfused(x), expected, rtol=1e-6, atol=1e-6)


def test_state_across_batches():
    paragraphs = [RNG.random((20, 10, 50)).astype("float32") for _ in range(3)]
    lstm_layer = layers.LSTM(64, stateful=True)
    for paragraph in paragraphs:
        output = lstm_layer(paragraph)
    whole = layers.LSTM(64)
    whole(paragraphs[0])
    whole.set_weights(lstm_layer.get_weights())
    np.testing.assert_allclose(
        output, whole(np.concatenate(paragraphs, axis=1)), rtol=1e-5, atol=1e-6
    )
    lstm_layer.reset_states()
    np.testing.assert_allclose(
        lstm_layer(paragraphs[0]), whole(paragraphs[0]), rtol=1e-5, atol=1e-6
    )


def test_states_are_reused():
    paragraphs = [RNG.random((20, 10, 50)).astype("float32") for _ in range(3)]
    lstm_layer = layers.LSTM(64, stateful=True)
    for paragraph in paragraphs:
        lstm_layer(paragraph)
    existing_state = lstm_layer.states
    new_lstm_layer = layers.LSTM(64)
    new_output = new_lstm_layer(paragraphs[2], initial_state=existing_state)
    assert new_output.shape == (20, 64)
    assert not np.allclose(new_output, new_lstm_layer(paragraphs[2]))


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional_layers(merge_mode):
    model = keras.Sequential()
    model.add(keras.Input(shape=(5, 10)))
    model.add(layers.Bidirectional(layers.LSTM(64, return_sequences=True)))
    last = layers.Bidirectional(layers.LSTM(32), merge_mode=merge_mode)
    if merge_mode is None:
        inputs = keras.Input((5, 10))
        outputs = last(model(inputs))
        assert [y.shape for y in outputs] == [(None, 32), (None, 32)]
        return
    model.add(last)
    model.add(layers.Dense(10))
    assert model.layers[0].output.shape == (None, 5, 128)
    assert model.layers[1].output.shape == (None, 64 if merge_mode == "concat" else 32)
    if merge_mode == "concat":
        assert model.count_params() == 38400 + 41216 + 650


@pytest.mark.parametrize("allow_cudnn_kernel", [True, False])
def test_row_by_row_digits(allow_cudnn_kernel):
    keras.utils.set_random_seed(2)  # before the layers, whose initializers take their seeds at once
    data = load_digits()
    x_train, y_train = data.images.astype("float32") / 16, data.target
    keras.utils.set_random_seed(1)  # layers draw the seeds of their weights where they are made
    if allow_cudnn_kernel:
        lstm_layer = layers.LSTM(64, input_shape=(None, 8))
    else:
        lstm_layer = layers.RNN(layers.LSTMCell(64), input_shape=(None, 8))
    model = keras.models.Sequential([lstm_layer, layers.BatchNormalization(), layers.Dense(10)])
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer="sgd",
        metrics=["accuracy"],
    )
    history = model.fit(
        x_train[:1500],
        y_train[:1500],
        validation_data=(x_train[1500:], y_train[1500:]),
        batch_size=64,
        epochs=3,
        verbose=0,
    )
    assert history.history["accuracy"][-1] > 0.6
    assert model.predict(x_train[:4], verbose=0).argmax(axis=-1).shape == (4,)


@keras.saving.register_keras_serializable(package="guide")
class NestedCell(keras.Layer):
    def __init__(self, unit_1, unit_2, unit_3, **kwargs):
        self.unit_1 = unit_1
        self.unit_2 = unit_2
        self.unit_3 = unit_3
        self.state_size = [(unit_1,), (unit_2, unit_3)]
        self.output_size = [(unit_1,), (unit_2, unit_3)]
        super().__init__(**kwargs)

    def build(self, input_shapes):
        i1 = input_shapes[0][1]
        i2 = input_shapes[1][1]
        i3 = input_shapes[1][2]
        self.kernel_1 = self.add_weight(
            shape=(i1, self.unit_1), initializer="uniform", name="kernel_1"
        )
        self.kernel_2_3 = self.add_weight(
            shape=(i2, i3, self.unit_2, self.unit_3), initializer="uniform", name="kernel_2_3"
        )

    def call(self, inputs, states):
        input_1, input_2 = keras.tree.flatten(inputs)
        s1, s2 = states
        output_1 = ops.matmul(input_1, self.kernel_1)
        output_2_3 = ops.einsum("bij,ijkl->bkl", input_2, self.kernel_2_3)
        state_1 = s1 + output_1
        state_2_3 = s2 + output_2_3
        return (output_1, output_2_3), (state_1, state_2_3)

    def get_config(self):
        return {"unit_1": self.unit_1, "unit_2": self.unit_2, "unit_3": self.unit_3}


def test_a_nested_cell_is_trained(tmp_path):
    unit_1, unit_2, unit_3, i1, i2, i3 = 10, 20, 30, 32, 64, 32
    batch_size, timestep = 16, 8
    cell = NestedCell(unit_1, unit_2, unit_3)
    rnn = keras.layers.RNN(cell)
    input_1 = keras.Input((None, i1))
    input_2 = keras.Input((None, i2, i3))
    outputs = rnn((input_1, input_2))
    model = keras.models.Model([input_1, input_2], outputs)
    model.compile(optimizer="adam", loss="mse", metrics=["accuracy", "accuracy"])
    input_data = [
        RNG.random((2 * batch_size, timestep, i1)),
        RNG.random((2 * batch_size, timestep, i2, i3)),
    ]
    target_data = [
        RNG.random((2 * batch_size, unit_1)),
        RNG.random((2 * batch_size, unit_2, unit_3)),
    ]
    history = model.fit(input_data, target_data, batch_size=batch_size, epochs=3, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
    path = os.path.join(tmp_path, "nested.keras")
    model.save(path)
    again = keras.models.load_model(path)
    for a, b in zip(again(input_data), model(input_data), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
