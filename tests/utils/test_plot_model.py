"""Pictures of models."""

import shutil

import pytest

import recurrax as keras
from recurrax import layers, utils


def _model():
    x = keras.Input((None, 8), name="x")
    h, c, s = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(x)
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2, "relu", name="deep")], name="in")
    return keras.Model(x, inner(layers.GRU(4, name="gru")(h, initial_state=c) + s))


def test_the_graph_names_layers_shapes_and_edges():
    model = _model()
    text = utils.model_to_dot(
        model, show_shapes=True, show_layer_names=True, show_dtype=True, show_trainable=True
    )
    assert text.startswith("digraph")
    assert "lstm (LSTM)" in text
    assert "(None, None, 4), (None, 4), (None, 4)" in text
    ids = {layer.name.rstrip("_0123456789"): id(layer) for layer in model.operations}
    edges = {line.strip() for line in text.splitlines() if "->" in line}
    pairs = [("x", "lstm"), ("lstm", "gru"), ("lstm", "add"), ("gru", "add"), ("add", "in")]
    assert edges == {f'"{ids[start]}" -> "{ids[end]}";' for start, end in pairs}
    assert "subgraph" not in text
    nested = utils.model_to_dot(model, expand_nested=True, show_layer_activations=True)
    assert "subgraph" in nested
    assert "activation: relu" in nested


def test_a_dot_file_needs_no_program(tmp_path):
    path = utils.plot_model(_model(), tmp_path / "model.dot")
    assert path.read_text().startswith("digraph")


def test_without_graphviz_the_error_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ImportError, match="install the package graphviz"):
        utils.plot_model(_model(), tmp_path / "model.png")


def test_graphviz_is_given_the_graph(tmp_path, monkeypatch):
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\nprintf "%s " "$@" > "$3"\ncat >> "$3"\n')
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    path = utils.plot_model(_model(), tmp_path / "model.svg")
    written = path.read_text()
    assert written.startswith("-Tsvg -o")
    assert "digraph model {" in written


def test_a_model_that_is_not_built():
    with pytest.raises(ValueError, match="not built"):
        utils.plot_model(keras.Sequential([layers.Dense(2)]))
