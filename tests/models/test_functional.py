"""Models of the graph that calls on symbolic tensors leave behind."""

import json

import jax
import keras as real
import numpy as np
import pytest
from tests.layers.against_keras import assert_close, draw, same_weights

import recurrax as keras
from recurrax import layers, ops

X, S = draw((2, 5, 8)), draw((2, 4), 1)


def wide(k):
    """Several inputs and outputs, a shared layer, states between layers, operators."""
    x, s = k.Input((None, 8), name="x"), k.Input((4,), name="s")
    shared = k.layers.Dense(4, name="shared")
    h, _, c = k.layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(x)
    g = k.layers.GRU(4, name="gru")(h, initial_state=s)
    pooled = k.ops.mean(h, axis=1) + g * 2.0
    merged = k.layers.Concatenate(name="cat")([shared(g), shared(shared(s)), pooled[:, :2]])
    outputs = {"merged": merged, "state": c, "both": [g - s, k.ops.tanh(g)]}
    return k.Model([x, s], outputs, name="wide")


def nested(k):
    """A model as a layer, called twice, and a Sequential as a layer."""
    i = k.Input((8,), name="i")
    inner = k.Model(i, k.layers.Dense(8, name="d")(i), name="inner")
    chain = k.Sequential([k.layers.Dense(3, name="e")], name="chain")
    x = k.Input((8,), name="x")
    return k.Model(x, [chain(inner(inner(x))), inner(x)], name="nested")


def structured(k):
    """A dictionary in, a tuple out; a layer that takes a list; an input used only late."""
    a, b, late = (k.Input((3,), name=name) for name in ("a", "b", "late"))
    x = k.layers.Add(name="sum")([k.layers.Dense(3, name="p")(a), b])
    y = k.layers.Dense(2, name="q")(k.layers.Multiply(name="times")([x, late]))
    return k.Model({"a": a, "b": b, "late": late}, (x, y), name="structured")


INPUTS = {
    wide: [X, S],
    nested: X[:, 0],
    structured: {"a": X[:, 0, :3], "b": X[:, 1, :3], "late": X[:, 2, :3]},
}


@pytest.mark.parametrize("make", INPUTS, ids=lambda f: f.__name__)
class TestAgainstKeras:
    def test_layers_weights_and_outputs_agree(self, make):
        ours, theirs = make(keras), make(real)
        assert [x.name for x in ours.layers] == [x.name for x in theirs.layers]
        same_weights(ours, theirs)
        assert_close(ours(INPUTS[make]), theirs(INPUTS[make]))
        assert jax.tree.structure(ours(INPUTS[make])) == jax.tree.structure(theirs(INPUTS[make]))
        assert jax.tree.leaves(ours.output_shape) == jax.tree.leaves(theirs.output_shape)
        assert ours.count_params() == theirs.count_params()

    def test_configurations_go_both_ways(self, make):
        for k in (keras, real):  # so that operations are numbered alike
            k.utils.clear_session()
        ours, theirs = make(keras), make(real)
        same_weights(ours, theirs)
        expected = theirs(INPUTS[make])
        mine, other = (json.loads(json.dumps(m.get_config())) for m in (ours, theirs))
        assert [x["name"] for x in mine["layers"]] == [x["name"] for x in other["layers"]]
        for key in ("name", "trainable", "input_layers", "output_layers"):
            assert mine[key] == other[key]
        for a, b in zip(mine["layers"], other["layers"], strict=True):
            assert a["class_name"] == b["class_name"]
            assert [c["args"] for c in a["inbound_nodes"]] == [
                c["args"] for c in b["inbound_nodes"]
            ]
        for model in (
            keras.Model.from_config(mine),
            keras.Model.from_config(other),
            type(theirs).from_config(mine),
        ):
            model.set_weights([np.array(w.value) for w in theirs.weights])
            assert_close(model(INPUTS[make]), expected)


def test_inputs_by_name_in_order_and_of_a_fitting_rank():
    model = wide(keras)
    expected = model([X, S])
    assert_close(model({"s": S, "x": X}), expected)
    assert_close(model((X, S)), expected)
    scalar = keras.Input((1,))
    doubled = keras.Model(scalar, scalar * 2)
    assert doubled(np.ones(3)).shape == (3, 1)


@pytest.mark.parametrize(
    "function",
    [
        lambda k, x: x + 1,
        lambda k, x: 1 - x,
        lambda k, x: -x / 2,
        lambda k, x: abs(x) ** 2,
        lambda k, x: x @ k.ops.ones((3, 2)),
        lambda k, x: x[:, -1],
        lambda k, x: x[..., None],
        lambda k, x: k.ops.where(x > 0, x, 0.0),
        lambda k, x: k.ops.concatenate([x, x * 2], axis=1),
        lambda k, x: k.ops.stack([x, x], axis=1),
        lambda k, x: k.ops.expand_dims(x, 1),
        lambda k, x: k.ops.transpose(x, (0, 2, 1)),
        lambda k, x: k.ops.reshape(x, (-1, 15)),
        lambda k, x: k.ops.sum(x, axis=[1, 2], keepdims=True),
        lambda k, x: k.ops.max(x, axis=-1),
        lambda k, x: k.ops.softmax(x, axis=1),
        lambda k, x: k.ops.relu(x),
        lambda k, x: k.ops.cast(x, "int32"),
        lambda k, x: k.ops.einsum("bij,bkj->bik", x, x),
        lambda k, x: k.ops.clip(x, -0.5, 0.5),
        lambda k, x: k.ops.flip(x, axis=1),
        lambda k, x: k.ops.split(x, [1], axis=-1)[1],
    ],
)
def test_operations_on_symbolic_tensors(function):
    data = draw((2, 5, 3))
    ours, theirs = (k.Input((5, 3), name="x") for k in (keras, real))
    a, b = keras.Model(ours, function(keras, ours)), real.Model(theirs, function(real, theirs))
    assert_close(a(data), b(data))
    assert a.output_shape == b.output_shape
    config = json.loads(json.dumps(a.get_config()))
    assert_close(real.Model.from_config(config)(data), b(data))
    config = json.loads(json.dumps(b.get_config()))
    assert_close(keras.Model.from_config(config)(data), b(data))


def test_a_model_of_inner_tensors():
    model = wide(keras)
    part = keras.Model(model.input, model.get_layer("gru").output)
    np.testing.assert_allclose(part([X, S]) - S, model([X, S])["both"][0], rtol=1e-6)
    middle = keras.Model(model.get_layer("shared").input, model.get_layer("shared").output)
    np.testing.assert_allclose(middle(S), model.get_layer("shared")(S), rtol=1e-6)
    sequential = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    features = keras.Model(sequential.inputs, [layer.output for layer in sequential.layers])
    assert [y.shape for y in features(np.ones((5, 3)))] == [(5, 4), (5, 2)]


def test_shapes_of_a_layer_that_says_nothing_about_its_shape():
    class Halves(layers.Layer):
        def call(self, inputs):
            first, second = ops.split(inputs, 2, axis=-1)
            return {"sum": first.sum(axis=1), "flat": second.reshape(second.shape[0], -1)}

    outputs = Halves()(keras.Input((None, 6)))
    assert (outputs["sum"].shape, outputs["flat"].shape) == ((None, 3), (None, None))


class TestSubclasses:
    def test_a_model_with_its_own_call(self):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.lstm = layers.LSTM(4, dropout=0.5)
                self.heads = {"a": layers.Dense(2), "b": [layers.Dense(3)]}

            def call(self, inputs, training=False):
                x = self.lstm(inputs, training=training)
                return self.heads["a"](x), self.heads["b"][0](x)

        net = Net()
        net.build((None, 5, 8))
        assert len(net.weights) == 7
        assert [y.shape for y in net(X)] == [(2, 2), (2, 3)]
        assert net.layers[0] is net.lstm
        assert not np.allclose(net(X, training=True)[0], net(X, training=True)[0])
        as_layer = keras.Model(i := keras.Input((5, 8)), net(i))
        assert_close(as_layer(X), net(X))
        assert net.compute_output_shape((None, 5, 8)) == ((None, 2), (None, 3))

    def test_a_subclass_that_is_a_graph(self):
        class Net(keras.Model):
            def __init__(self, units, **kwargs):
                inputs = keras.Input((8,))
                super().__init__(inputs=inputs, outputs=layers.Dense(units)(inputs), **kwargs)
                self.units = units

        net = Net(3, name="net")
        assert (net.name, net.output_shape, net(X[:, 0]).shape) == ("net", (None, 3), (2, 3))
        assert isinstance(net, keras.models.Functional)

    def test_an_eager_model_compiles_its_layers_once(self):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.lstm = layers.LSTM(4)
                self.seen = []

            def call(self, inputs):
                self.seen.append(type(inputs))
                return self.lstm(inputs)

        net = Net()
        net(X)
        compiled = net.lstm.__dict__["_compiled"]
        net(X)
        assert compiled._cache_size() == 1
        assert not any(issubclass(kind, jax.core.Tracer) for kind in net.seen)


def test_training_given_in_the_graph_stays():
    inputs = keras.Input((50,))
    always = keras.Model(inputs, layers.Dropout(0.5)(inputs, training=True))
    never = keras.Model(inputs, layers.Dropout(0.5)(inputs, training=False))
    open_ = keras.Model(inputs, layers.Dropout(0.5)(inputs))
    ones = np.ones((1, 50), np.float32)
    assert not np.array_equal(always(ones), ones)
    np.testing.assert_array_equal(never(ones, training=True), ones)
    np.testing.assert_array_equal(open_(ones), ones)
    assert not np.array_equal(open_(ones, training=True), ones)


def test_frozen_layers_do_not_train():
    model = wide(keras)
    model.get_layer("shared").trainable = False
    assert len(model.trainable_weights) == len(model.weights) - 2
    model.trainable = False
    assert not model.trainable_weights
    unbuilt = layers.Dense(3, trainable=False)
    whole = keras.Model(i := keras.Input((2,)), layers.Dense(1)(unbuilt(i)))
    assert len(whole.trainable_weights) == 2


def test_a_sequential_of_a_structure():
    class Sum(layers.Layer):
        def call(self, inputs):
            return inputs["a"] + inputs["b"]

    model = keras.Sequential([Sum(), layers.Dense(2)])
    assert not hasattr(model, "input_shape")
    model.build({"a": (None, 3), "b": (None, 3)})
    assert model.input_shape == {"a": (None, 3), "b": (None, 3)}
    assert model({"a": np.ones((4, 3)), "b": np.ones((4, 3))}).shape == (4, 2)


class TestErrors:
    def test_a_graph_that_is_not_connected(self):
        x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y")
        with pytest.raises(ValueError, match=r"not connected.*name=y.*add it"):
            keras.Model(x, layers.Add()([x, y]))

    def test_what_is_no_symbolic_tensor(self):
        x = keras.Input((3,))
        with pytest.raises(ValueError, match="symbolic tensors as outputs, but got an array of"):
            keras.Model(x, np.ones(3))
        with pytest.raises(ValueError, match="symbolic and holds no values"):
            jax.numpy.tanh(x)
        with pytest.raises(ValueError, match="expected a list of layers"):
            keras.Sequential(layers.Dense(2))
        with pytest.raises(TypeError, match=r"symbolic and holds no values.*recurrax\.ops"):
            np.asarray(x)
        with pytest.raises(TypeError, match="no truth value"):
            bool(x > 0)
        with pytest.raises(TypeError, match="cannot be iterated"):
            list(x)

    def test_two_layers_of_one_name(self):
        x = keras.Input((3,))
        with pytest.raises(ValueError, match="Two layers of the model are named 'd'"):
            keras.Model(x, layers.Dense(2, name="d")(layers.Dense(2, name="d")(x)))

    def test_inputs_that_do_not_fit(self):
        model = wide(keras)
        with pytest.raises(ValueError, match=r"expected 2 inputs.*got 1"):
            model([X])
        with pytest.raises(ValueError, match=r"\['s'\] are missing"):
            model({"x": X})
        with pytest.raises(ValueError, match=r"input 's' to have shape \(None, 4\).*\(2, 3\)"):
            model([X, S[:, :3]])

    def test_a_sequential_has_one_input(self):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
        assert model([S]).shape == (2, 2)
        with pytest.raises(ValueError, match="has one input, but got 2 arrays"):
            model([S, S])

    def test_a_layer_used_before_it_is_built(self):
        with pytest.raises(ValueError, match="before it is built"):
            layers.Dense(3).count_params()
        with pytest.raises(ValueError, match="never called in a model"):
            _ = layers.Dense(3).output
        with pytest.raises(ValueError, match="is not built"):
            keras.Sequential([layers.Dense(2)]).summary()

    def test_ids_outside_an_embedding_behind_an_input(self):
        inputs = keras.Input((None,), dtype="int32")
        model = keras.Model(inputs, layers.LSTM(2)(layers.Embedding(5, 3)(inputs)))
        with pytest.raises(ValueError, match="input_dim=5"):
            model(np.array([[1, 9]]))

    def test_a_layer_that_is_not_there(self):
        with pytest.raises(ValueError, match=r"no layer 'gruu'.*Did you mean 'gru'"):
            wide(keras).get_layer("gruu")
