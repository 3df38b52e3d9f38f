"""ONNX graphs give onnxruntime the model's own numbers, at every batch size and length."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

import recurrax as rx

RNG = np.random.default_rng(0)
L = rx.layers


class NormedCell(L.Layer):
    """A cell that nobody has seen: two states, a norm, a gate of its own, an output apart."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, units]
        self.output_size = 2

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 2 * self.units), name="kernel")
        self.recurrent = self.add_weight((self.units, 2 * self.units), name="recurrent")
        self.out = self.add_weight((self.units, 2), name="out")

    def call(self, inputs, states):
        h, m = states
        z = inputs @ self.kernel.value + h @ self.recurrent.value
        z = (z - z.mean(-1, keepdims=True)) / jnp.sqrt(z.var(-1, keepdims=True) + 1e-3)
        gate, new = jax.nn.sigmoid(z[:, : self.units]), jax.nn.gelu(z[:, self.units :])
        h = jnp.where(gate > 0.1, gate * h + (1 - gate) * new, h)
        return jax.nn.softmax(h @ self.out.value), [h, jnp.maximum(m, h)]


def sequential(*layers, shape=(None, 3), dtype="float32"):
    return rx.Sequential([rx.Input(shape, dtype=dtype), *layers])


def encoder_decoder():
    a, b = rx.Input((None, 3), name="source"), rx.Input((None, 2), name="target")
    _, h, c = L.LSTM(4, return_state=True)(a)
    y = L.LSTM(4, return_sequences=True)(b, initial_state=[h, c])
    return rx.Model([a, b], [L.Dense(2, name="scores")(y), h])


def residual():
    a, b = rx.Input((None, 3)), rx.Input((None, 3))
    y = L.Concatenate()([L.Add()([a, b]), L.GRU(3, return_sequences=True)(a)])
    return rx.Model({"a": a, "b": b}, L.Bidirectional(L.SimpleRNN(2))(y))


def attention():
    a = rx.Input((None, 4))
    y = L.MultiHeadAttention(2, 4)(a, a, use_causal_mask=True)
    return rx.Model(a, L.LayerNormalization()(L.Attention(use_scale=True)([y, a])))


MODELS = {
    **{
        name: lambda name=name: sequential(getattr(L, name)(4))
        for name in ("LSTM", "GRU", "SimpleRNN")
    },
    "sequences": lambda: sequential(
        L.LSTM(4, return_sequences=True, go_backwards=True),
        L.GRU(3, return_sequences=True, reset_after=False),
        L.SimpleRNN(3, return_sequences=True, activation="relu", use_bias=False),
        L.GRU(2, use_bias=False, return_sequences=True, go_backwards=True),
        L.LSTM(2, use_bias=False, recurrent_activation="hard_sigmoid", activation="softsign"),
    ),
    "an activation that ONNX's nodes lack": lambda: sequential(L.LSTM(4, activation="gelu")),
    "bidirectional": lambda: sequential(
        L.Bidirectional(L.LSTM(3, return_sequences=True)),
        L.Bidirectional(L.GRU(2), "ave"),
        L.Dense(1),
    ),
    "tokens": lambda: sequential(
        L.Embedding(7, 3), L.GRU(4), L.Dense(3, "softmax"), shape=(None,), dtype="int32"
    ),
    "masked": lambda: sequential(
        L.Embedding(7, 3, mask_zero=True),
        L.LSTM(4, return_sequences=True),
        L.Bidirectional(L.GRU(2)),
        shape=(None,),
        dtype="int32",
    ),
    "a cell": lambda: sequential(
        L.RNN(NormedCell(4), return_sequences=True), L.RNN(NormedCell(3), go_backwards=True)
    ),
    "stacked cells": lambda: sequential(L.RNN([L.LSTMCell(3), NormedCell(2), L.GRUCell(2)])),
    "over time": lambda: sequential(
        L.BatchNormalization(),
        L.TimeDistributed(L.Dense(4, "elu")),
        L.Conv1D(3, 3, padding="causal", activation="swish"),
        L.Dropout(0.3),
        L.LayerNormalization(),
        L.GlobalAveragePooling1D(),
    ),
    "shapes": lambda: sequential(
        L.Reshape((3, 5)),
        L.Permute((2, 1)),
        L.Flatten(),
        L.RepeatVector(4),
        L.LSTM(2),
        shape=(5, 3),
    ),
    "encoder and decoder": encoder_decoder,
    "residual": residual,
    "attention": attention,
}


def data(model, batch, time):
    """Inputs by name; sequences of one model may differ in length where it lets them."""
    found = {}
    for i, tensor in enumerate(model.inputs):
        steps = time + 2 * i * (tensor.name in ("source", "target"))
        shape = [
            {0: batch, 1: steps}.get(a, 3) if n is None else n for a, n in enumerate(tensor.shape)
        ]
        if tensor.dtype == "int32":
            found[tensor.name] = RNG.integers(0, 7, shape).astype("int32")
        else:
            found[tensor.name] = RNG.normal(size=shape).astype("float32")
    return found


def exported(model, path):
    for variable in model.weights:
        variable.assign(RNG.uniform(0.1, 0.7, variable.shape) * RNG.choice([-1, 1], variable.shape))
    model.export(path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_gives_the_same_numbers(name, tmp_path):
    model = MODELS[name]()
    session = exported(model, tmp_path / "m.onnx")
    for batch, time in [(2, 5), (1, 1), (3, 8)]:
        inputs = data(model, batch, 5 if name == "shapes" else time)
        structured = [inputs[t.name] for t in model.inputs]
        expected = model(structured if len(structured) > 1 else structured[0])
        for got, wanted in zip(session.run(None, inputs), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_built_in_layers_are_nodes_and_cells_are_scans(tmp_path):
    exported(MODELS["sequences"](), tmp_path / "a.onnx")
    found = operators(tmp_path / "a.onnx")
    assert [found.count(op) for op in ("LSTM", "GRU", "RNN", "Scan")] == [2, 2, 1, 0]
    exported(MODELS["bidirectional"](), tmp_path / "b.onnx")
    assert operators(tmp_path / "b.onnx").count("LSTM") == 2
    exported(MODELS["a cell"](), tmp_path / "c.onnx")
    assert operators(tmp_path / "c.onnx").count("Scan") == 2


def test_the_graph_says_its_names_and_open_axes(tmp_path):
    model = encoder_decoder()
    session = exported(model, tmp_path / "m.onnx")
    shapes = {x.name: x.shape for x in session.get_inputs()}
    assert shapes == {"source": ["batch", "time", 3], "target": ["batch", "time_1", 2]}
    names = {c.name for c in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert {v.path for v in model.weights} <= names


def test_a_model_computes_as_before_after_its_export(tmp_path):
    model = MODELS["sequences"]()
    x = RNG.normal(size=(2, 5, 3)).astype("float32")
    exported(model, tmp_path / "m.onnx")
    before = model(x)
    model.export(tmp_path / "m.onnx")
    np.testing.assert_array_equal(model(x), before)
    assert all(layer.runner is None and "call" not in vars(layer) for layer in model.layers)


def test_what_cannot_be_exported_says_so(tmp_path):
    path = tmp_path / "m.onnx"
    stateful = rx.Sequential([rx.Input(batch_shape=(2, 3, 1)), L.LSTM(2, stateful=True)])
    with pytest.raises(ValueError, match=r"stateful.*return_state=True"):
        stateful.export(path)

    class Odd(L.Layer):
        def call(self, inputs):
            return jnp.sort(inputs)

    with pytest.raises(ValueError, match=r"not exported to ONNX: .*other operations"):
        rx.Sequential([rx.Input((3, 3)), Odd()]).export(path)
    with pytest.raises(ValueError, match="does not know its inputs"):
        rx.Sequential([L.Dense(1)]).export(path)
    with pytest.raises(ValueError, match="format='tf'"):
        MODELS["LSTM"]().export(path, format="tf")
    assert not path.exists()


def test_without_the_package_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        MODELS["LSTM"]().export(tmp_path / "m.onnx")
