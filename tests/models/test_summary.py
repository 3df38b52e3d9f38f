"""The tables that summary() prints."""

import pytest

import recurrax as keras
from recurrax import layers


def _lines(model, **options):
    lines = []
    model.summary(print_fn=lines.append, **options)
    return lines


def _rows(lines):
    return [
        line.split(maxsplit=1)[1] for line in lines if "(" in line and "Layer (type)" not in line
    ]


@pytest.mark.parametrize(
    ("stack", "rows", "total"),
    [
        (
            [layers.Embedding(1000, 64), layers.LSTM(128), layers.Dense(10)],
            [
                "(Embedding)        (None, None, 64)          64000",
                "(LSTM)                  (None, 128)               98816",
                "(Dense)                (None, 10)                1290",
            ],
            "164,106",
        ),
        (
            [
                layers.Embedding(1000, 64),
                layers.GRU(256, return_sequences=True),
                layers.SimpleRNN(128),
                layers.Dense(10),
            ],
            [
                "(Embedding) (None, None, 64) 64000",
                "(GRU) (None, None, 256) 247296",
                "(SimpleRNN) (None, 128) 49280",
                "(Dense) (None, 10) 1290",
            ],
            "361,866",
        ),
    ],
)
def test_the_tables_of_the_guide(stack, rows, total):
    model = keras.Sequential(stack)
    lines = _lines(model)
    assert [" ".join(row.split()) for row in _rows(lines)] == [" ".join(r.split()) for r in rows]
    assert lines[1] == "_" * 65
    assert lines[3] == "=" * 65
    assert lines[2].split() == ["Layer", "(type)", "Output", "Shape", "Param", "#"]
    assert f"Total params: {total}" in lines
    assert f"Trainable params: {total}" in lines
    assert "Non-trainable params: 0" in lines


def test_a_graph_says_what_each_layer_is_connected_to():
    x = keras.Input((None, 8), name="x")
    h, c, s = layers.LSTM(4, return_sequences=True, return_state=True, name="encoder")(x)
    y = layers.GRU(4, name="decoder")(h, initial_state=c)
    model = keras.Model(x, layers.Add(name="sum")([y, s]), name="graph")
    lines = _lines(model)
    assert lines[0] == 'Model: "graph"'
    assert len(lines[1]) == 98
    assert lines[2].endswith("Connected to")
    text = "\n".join(lines)
    assert "x (InputLayer)                  [(None, None, 8)]    0" in text
    row = next(line for line in lines if line.startswith("encoder (LSTM)"))
    assert row.split()[-2:] == ["208", "x[0][0]"]
    row = next(line for line in lines if line.startswith("decoder (GRU)"))
    assert row.endswith("encoder[0][0], encoder[0][1]")
    row = next(line for line in lines if line.startswith("sum (Add)"))
    assert row.endswith("decoder[0][0], encoder[0][2]")
    assert "Total params: 328" in lines


def test_nested_models_and_what_trains():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="deep")], name="inner")
    inner.trainable = False
    model = keras.Sequential([inner, layers.Dense(3)])
    lines = _lines(model, expand_nested=True, show_trainable=True)
    deep = next(line for line in lines if line.startswith("| deep"))
    assert deep.split()[-2:] == ["10", "N"]
    assert "Trainable params: 9" in lines
    assert "Non-trainable params: 10" in lines


def test_a_range_of_layers():
    model = keras.Sequential(
        [keras.Input((4,)), *(layers.Dense(2, name=f"d{i}") for i in range(5))]
    )
    for names, shown in (
        (("d1", "d3"), ["d1", "d2", "d3"]),
        (["d[34]", "d."], ["d3", "d4"]),
        (("d3", "d2"), ["d2", "d3"]),
    ):
        lines = _lines(model, layer_range=names)
        assert [line.split()[0] for line in lines if "(Dense)" in line] == shown
        assert "Total params: 34" in lines
    with pytest.raises(ValueError, match=r"'e3', which no layer .* Its layers: d0, d1"):
        model.summary(layer_range=("d1", "e3"))
    with pytest.raises(ValueError, match="must be the names of two layers"):
        model.summary(layer_range="d1")
