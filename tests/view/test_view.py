"""Looking inside: values against the loop written out, pictures against what they must show."""

import json
import re

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

import recurrax as keras
from recurrax import layers, view

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def _x(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(shape, np.float32)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def model():
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.LSTM(4, return_sequences=True, name="lower"),
            layers.GRU(5, name="upper"),
            layers.Dense(2, "softmax"),
        ]
    )


def test_states_are_those_of_the_loop(model):
    x = _x(2, 6, 3)
    found = view.states(model, x)
    gates = ["input_gate", "forget_gate", "candidate", "output_gate"]
    assert list(found) == ["lower", "upper"]
    assert list(found["lower"]) == ["h", "c", *gates]
    assert list(found["upper"]) == ["h", "update_gate", "reset_gate", "candidate"]
    kernel, recurrent, bias = model.layers[0].get_weights()
    h = c = np.zeros((2, 4))
    for t in range(6):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=-1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        for name, value in zip(
            ["h", "c", *gates], [h, c, _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)],
            strict=True,
        ):  # fmt: skip
            np.testing.assert_allclose(found["lower"][name][:, t], value, atol=1e-5)


def test_a_cell_of_ones_own_names_its_values_and_runs_backwards():
    class Leaky(layers.Layer):
        state_size = output_size = 3

        def call(self, inputs, states):
            leak = self.record("leak", 0.5 * states[0])
            h = leak + inputs
            return h, [h]

    layer = layers.RNN(Leaky(), go_backwards=True, name="leaky")
    x = _x(1, 4, 3)
    found = view.states(layer, x)["leaky"]
    assert list(found) == ["h", "leak"]
    np.testing.assert_allclose(found["h"][:, 3], x[:, 3], atol=1e-6)
    np.testing.assert_allclose(found["leak"][:, 0], 0.5 * found["h"][:, 1], atol=1e-6)


def test_cells_in_a_stack_keep_their_values_apart():
    cells = [layers.GRUCell(4, name="lower"), layers.GRUCell(5, name="upper")]
    found = view.states(layers.RNN(cells, name="stack"), _x(1, 3, 2))["stack"]
    assert found["lower.update_gate"].shape == (1, 3, 4)
    assert found["upper.update_gate"].shape == (1, 3, 5)
    assert [found[name].shape for name in ("state_1", "state_2")] == [(1, 3, 4), (1, 3, 5)]


def test_states_need_a_recurrent_layer():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="no recurrent layer"):
        view.states(model, _x(1, 3))


def _labels(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def test_plot_states_and_gates(model):
    x = _x(2, 6, 3)
    figure = view.plot_states(model, x, tokens="a bcd ", layer="upper", sample=1)
    axes, bar = figure.axes
    np.testing.assert_array_equal(
        axes.images[0].get_array(), view.states(model, x)["upper"]["h"][1].T
    )
    assert _labels(axes) == list("a␣bcd␣")
    assert axes.get_ylabel() == "unit"
    assert axes.get_title(loc="left") == "h"
    assert bar.get_ylabel() == "value"

    figure = view.plot_gates(model, x, units=[3, 0])
    titles = [axes.get_title(loc="left") for axes in figure.axes[:-1]]
    assert titles == ["h", "c", "input gate", "forget gate", "candidate", "output gate"]
    assert {axes.images[0].get_clim() for axes in figure.axes[:-1]} == {(-1.0, 1.0)}
    assert figure.axes[0].images[0].get_array().shape == (2, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": "abc"}, "3 entries, but the sample has 6 steps"),
        ({"layer": "uper"}, "upper"),
        ({"value": "forget"}, "forget_gate"),
        ({"sample": 2}, "the batch has 2 samples"),
        ({"units": [0, 9]}, "There is no unit 9: layer 'lower' has units 0 to 3"),
    ],
)
def test_plot_states_says_what_is_wrong(model, options, message):
    with pytest.raises(ValueError, match=message):
        view.plot_states(model, _x(2, 6, 3), **options)


def test_gradient_flow_is_the_gradient_of_the_loss(model):
    import jax
    import jax.numpy as jnp

    x, y = _x(2, 6, 3), np.array([0, 1])

    def loss(y, prediction):
        return -jnp.log(prediction[jnp.arange(2), y])

    flow = view.gradient_flow(model, x, y, loss)
    values = [v.value for v in model.trainable_variables]

    def whole(x):
        return loss(y, model.stateless_call(values, [], x)[0]).sum()

    expected = np.linalg.norm(jax.grad(whole)(jnp.asarray(x)), axis=-1)
    np.testing.assert_allclose(flow["lower"], expected, rtol=1e-4)
    assert flow["upper"].shape == (2, 6)
    figure = view.plot_gradient_flow(model, x, y, loss, tokens="123456")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["lower", "upper"]
    assert _labels(axes) == list("123456")


def test_two_calls_of_a_layer_and_layers_of_different_lengths():
    long, short = keras.Input((None, 3)), keras.Input((None, 3))
    reader = layers.SimpleRNN(4, name="reader")
    writer = layers.SimpleRNN(4, return_sequences=True, name="writer")
    start = reader(long)
    both = keras.Model([long, short], [writer(short, initial_state=start), reader(short)])
    x = [_x(1, 6, 3), _x(1, 4, 3)]
    found = view.states(both, x)
    assert [(name, values["h"].shape) for name, values in found.items()] == [
        ("reader", (1, 6, 4)),
        ("writer", (1, 4, 4)),
        ("reader (2)", (1, 4, 4)),
    ]
    np.testing.assert_allclose(found["reader (2)"]["h"][:, -1], both(x)[1], atol=1e-6)

    def loss(_, outputs):
        return outputs[0].sum()

    flow = view.gradient_flow(both, x, None, loss)
    assert flow["reader"].all()
    assert not flow["reader (2)"].any()  # the loss does not look at it
    (axes,) = view.plot_gradient_flow(both, x, None, loss).axes
    assert [len(line.get_xdata()) for line in axes.get_lines()] == [6, 4, 4]
    with pytest.raises(ValueError, match=r"reader 6, writer 4, reader \(2\) 4"):
        view.plot_gradient_flow(both, x, None, loss, tokens="123456")


def test_plot_history_and_weights(model):
    figure = view.plot_history({"loss": [2, 1], "val_loss": [3, 2], "accuracy": [0.1, 0.2]})
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.get_lines()] == ["training", "validation"]
    assert len(accuracy.get_lines()) == 1
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy")
    with pytest.raises(ValueError, match="no epoch"):
        view.plot_history({})

    figure = view.plot_weights(model.layers[1])
    assert len(figure.axes) == 3 + 1
    assert figure.axes[0].get_title(loc="left").endswith("kernel (4, 15)")
    with pytest.raises(ValueError, match="no weights"):
        view.plot_weights(layers.Dense(2))


def _data(path):
    text = path.read_text("utf-8")
    assert not re.search(r"(src|href)\s*=|https?://|@import|url\(", text)  # nothing from elsewhere
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_page(model, tmp_path):
    texts = ["ab", "abc"]
    path = view.page(
        model,
        texts,
        tmp_path / "out.html",
        encode=lambda text: _x(len(text), 3),
        labels=["no", "yes"],
        title="</script>",
    )
    data = _data(path)
    assert data["title"] == "</script>"
    read = [[text["tokens"] for text in s["texts"]] for s in data["samples"]]
    assert read == [[["a", "b"]], [["a", "b", "c"]]]
    prediction = np.asarray(model(_x(3, 3)[None, :2]))[0]
    shown = data["samples"][1]["outputs"][0]["steps"][1]
    assert shown["shares"]
    assert shown["top"][0] == [int(prediction.argmax()), round(float(prediction.max()), 4)]
    assert next(iter(data["samples"][0]["layers"]["upper"]["values"])) == "h"
    with pytest.raises(ValueError, match="2 outputs"):
        view.page(model, texts, path, encode=lambda text: _x(len(text), 3), labels=["one"])
    with pytest.raises(ValueError, match="3 tokens"):
        view.page(model, ["abc"], path, encode=lambda text: _x(2, 3))
    with pytest.raises(ValueError, match="pass encode="):
        view.page(model, ["abc"], path)
    with pytest.raises(ValueError, match="at least one text"):
        view.page(model, [], path)
    with pytest.raises(ValueError, match="'en' and 'ko'"):
        view.page(model, [_x(2, 3)], path, language="fr")


def test_page_of_a_model_that_cannot_go_step_by_step(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4, go_backwards=True)])
    data = _data(view.page(model, [_x(3, 3)], tmp_path / "out.html"))
    (sample,) = data["samples"]
    (output,) = sample["outputs"]
    assert "steps" not in output
    assert not output["last"]["shares"]
    assert sample["texts"] == [{"name": None, "tokens": ["0", "1", "2"]}]


@pytest.fixture(scope="module")
def translator():
    source, target = (keras.Input((None,), dtype="int32", name=n) for n in ("source", "target"))
    letters = layers.Embedding(5, 4)
    _, state = layers.GRU(4, return_state=True, name="encoder")(letters(source))
    written = layers.GRU(4, return_sequences=True, name="decoder")(
        letters(target), initial_state=[state]
    )
    outputs = {"letter": layers.Dense(5, "softmax")(written), "long": layers.Dense(1)(state)}
    return keras.Model([source, target], outputs)


def _ids(text):
    return ["abcde".index(letter) for letter in text]


def test_page_of_a_model_with_two_inputs_and_two_outputs(translator, tmp_path):
    data = _data(
        view.page(
            translator,
            [("abc", "de"), ("ab", "ab")],
            tmp_path / "out.html",
            encode=lambda pair: {"target": _ids(pair[1]), "source": _ids(pair[0])},
            labels={"letter": "abcde"},
        )
    )
    for sample, pair in zip(data["samples"], [("abc", "de"), ("ab", "ab")], strict=True):
        assert sample["texts"] == [
            {"name": "source", "tokens": list(pair[0])},
            {"name": "target", "tokens": list(pair[1])},
        ]
        # Also where both are as long, the graph tells which layer reads what.
        assert {name: layer["over"] for name, layer in sample["layers"].items()} == {
            "encoder": 0,
            "decoder": 1,
        }
        expected = translator([np.array([_ids(text)]) for text in pair])
        letter, long = sample["outputs"]
        assert (letter["name"], letter["over"]) == ("letter", 1)
        for step, y in zip(letter["steps"], np.asarray(expected["letter"][0]), strict=True):
            assert step["top"][0] == [int(y.argmax()), round(float(y.max()), 4)]
        assert long["last"]["top"] == [[0, round(float(expected["long"][0, 0]), 4)]]
    assert data["labels"] == [list("abcde"), None]


def test_page_of_a_stream_with_two_inputs_and_of_a_pooled_sequence(tmp_path):
    a, b = keras.Input((None, 3)), keras.Input((None, 3))
    one = layers.Dense(2, name="one")(layers.SimpleRNN(4)(a))
    model = keras.Model([a, b], [one, layers.SimpleRNN(4)(b)])
    x = _x(2, 4, 3)
    (sample,) = _data(view.page(model, [list(x)], tmp_path / "out.html"))["samples"]
    expected = np.asarray(model([x[:1, :2], x[1:, :2]])[0])[0]
    first = sample["outputs"][0]
    assert (first["name"], first["over"]) == ("one", -1)
    np.testing.assert_allclose([v for _, v in first["steps"][1]["top"]], expected, atol=1e-4)
    assert [layer["over"] for layer in sample["layers"].values()] == [0, 1]

    model = keras.Sequential(
        [keras.Input((8, 3)), layers.MaxPooling1D(2), layers.GRU(4, name="reader")]
    )
    (sample,) = _data(view.page(model, [_x(8, 3)], tmp_path / "out.html"))["samples"]
    over = sample["layers"]["reader"]["over"]
    assert sample["texts"][over] == {"name": "", "tokens": ["0", "1", "2", "3"]}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (np.arange(3), {}, "Sample 0 is a ndarray: page.. expected one array for each input"),
        (([1], [2], [3]), {}, "tuple of 3: page.. expected .* source, target"),
        ({"sauce": [1]}, {}, "inputs sauce: page.. expected .* source, target"),
        (([1, 2], [3]), {"tokens": lambda _: ["ab"]}, "gave 1 lists for sample 0"),
        (([1, 2], [3]), {"tokens": lambda _: ["ab", "cd"]}, "1 steps in the input 'target', but 2"),
        (([1, 2], [3]), {"labels": "abcde"}, "outputs letter, long: .* dictionary"),
        (([1, 2], [3]), {"labels": {"leter": "abcde"}}, "keys leter, but .* letter, long"),
        (([1, 2], [3]), {"labels": {"letter": "abc"}}, "3 names, but the model has 5 outputs"),
    ],
)
def test_page_says_which_input_is_wrong(translator, tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        view.page(translator, [text], tmp_path / "out.html", **options)
