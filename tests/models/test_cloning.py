"""clone_model with functions of one's own, against Keras's."""

import keras
import numpy as np
import pytest

import recurrax

# Keras's own reading of its variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LIBRARIES = (recurrax, keras)


def same(layer):
    return type(layer).from_config(layer.get_config())


def graph(k):
    """Two inputs, a layer called twice, a model inside, states, operators."""
    x, y = k.Input((4, 3), name="x"), k.Input((4, 3), name="y")
    shared = k.layers.Dense(5, name="shared")
    inner = k.Sequential([k.Input((4, 5)), k.layers.GRU(4, name="deep")], name="inner")
    steps, state = k.layers.GRU(5, return_sequences=True, return_state=True, name="gru")(
        shared(x) + shared(y)
    )
    outputs = [inner(steps * 2.0), k.layers.Dense(1, name="last")(state)]
    return k.Model({"x": x, "y": y}, outputs, name="graph")


def test_a_graph_is_cloned_layer_by_layer():
    rng = np.random.default_rng(0)
    data = {name: rng.normal(size=(2, 4, 3)).astype("float32") for name in "xy"}
    called, orders = [], []
    for library in LIBRARIES:
        model = graph(library)
        seen = []
        called.append(seen)

        def keep(layer, seen=seen):
            seen.append(layer.name)
            return same(layer)

        twin = library.models.clone_model(model, clone_function=keep)
        assert twin.get_layer("shared") is not model.get_layer("shared")
        twin.set_weights(model.get_weights())
        for a, b in zip(model(data), twin(data), strict=True):
            np.testing.assert_allclose(a, b)
        orders.append([layer.name for layer in twin.layers])
        deep = library.models.clone_model(model, clone_function=keep, recursive=True)
        assert "deep" in seen and deep.count_params() == model.count_params()
    assert orders[0] == orders[1]
    # Keras hands operators over too.
    assert sorted(set(called[0])) == ["deep", "gru", "inner", "last", "shared"]
    assert set(called[0]) <= set(called[1])


def test_further_layers_are_called_between_those_that_stay():
    names = []
    for library in LIBRARIES:
        model = graph(library)

        def call(layer, *args, library=library, **kwargs):
            outputs = layer(*args, **kwargs)
            return (
                library.layers.Dropout(0.5, name="drop")(outputs)
                if layer.name == "last"
                else outputs
            )

        twin = library.models.clone_model(model, None, lambda layer: layer, call)
        assert twin.get_layer("shared") is model.get_layer("shared")
        names.append([layer.name for layer in twin.layers])
    assert names[0] == names[1] and "drop" in names[0]


def test_a_sequential_gets_other_layers():
    for library in LIBRARIES:
        model = library.Sequential(
            [library.Input((4, 3)), library.layers.LSTM(4), library.layers.Dense(3)], name="plain"
        )

        def both_ways(layer, library=library):
            recurrent = isinstance(layer, library.layers.LSTM)
            return library.layers.Bidirectional(same(layer)) if recurrent else same(layer)

        twin = library.models.clone_model(model, clone_function=both_ways)
        assert [tuple(w.shape) for w in twin.weights][-2:] == [(8, 3), (3,)]
        assert twin.name == "plain"
        inputs = library.Input((7, 3))
        assert library.models.clone_model(model, inputs).input_shape == (None, 7, 3)


def test_a_graph_begins_with_other_tensors():
    for library in LIBRARIES:
        model = graph(library)
        x, y = library.Input((4, 3), name="x"), library.Input((4, 3), name="y")
        twin = library.models.clone_model(model, {"x": x, "y": y})
        assert twin.inputs[0] is x and twin.inputs[1] is y
        assert [tuple(y.shape) for y in twin.outputs] == [(None, 4), (None, 1)]


def test_what_cannot_be_cloned_is_said():
    model = recurrax.Sequential([recurrax.Input((3,)), recurrax.layers.Dense(1, name="only")])
    clone = recurrax.models.clone_model
    with pytest.raises(ValueError, match=r"must return a layer, but for 'only' it returned None"):
        clone(model, clone_function=lambda layer: None)
    with pytest.raises(ValueError, match="for each of 2 inputs of model 'graph', but it holds 1"):
        clone(graph(recurrax), recurrax.Input((4, 3)))
    with pytest.raises(ValueError, match="call_function is for functional models"):
        clone(model, call_function=lambda layer, x: layer(x))
    with pytest.raises(ValueError, match="must return 2 tensors"):
        clone(graph(recurrax), call_function=lambda layer, *args, **k: args[0])

    class Own(recurrax.Model):
        pass

    with pytest.raises(ValueError, match=r"is a Own: leave the functions out"):
        clone(Own(), clone_function=same)
