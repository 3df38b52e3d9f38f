"""Cells of every kind, stacks of them, both directions, every step."""

import jax
import jax.numpy as jnp
import keras as real
import numpy as np
import pytest
from tests.layers.against_keras import assert_close, compare, draw, same_weights

import recurrax as keras
from recurrax import layers, ops

BATCH, STEPS, FEATURES = 3, 4, 5
X = draw((BATCH, STEPS, FEATURES))


def _stack(k, **options):
    return [k.layers.LSTMCell(4), k.layers.GRUCell(3, **options), k.layers.SimpleRNNCell(2)]


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_stacked_cells_agree_with_keras(sequences, training):
    options = {"dropout": 0.3, "recurrent_dropout": 0.2, "seed": 4} if training else {}
    ours, theirs = (
        k.layers.RNN(_stack(k, **options), return_sequences=sequences, return_state=True)
        for k in (keras, real)
    )
    for layer in (ours, theirs):
        layer.build(X.shape)
    same_weights(ours, theirs)
    compare(ours, theirs, X, training=training)
    assert ours.cell.state_size == theirs.cell.state_size
    assert ours.cell.output_size == theirs.cell.output_size
    shapes = ours.compute_output_shape((None, None, FEATURES))
    steps = (None,) if sequences else ()
    assert shapes == ((None, *steps, 2), [(None, 4), (None, 4)], (None, 3), (None, 2))


@pytest.mark.parametrize(
    ("merge_mode", "sequences", "state"),
    [
        ("concat", True, True),
        ("concat", False, False),
        ("sum", True, False),
        ("mul", False, True),
        ("ave", True, False),
        (None, True, True),
        (None, False, False),
    ],
)
def test_bidirectional_agrees_with_keras(merge_mode, sequences, state):
    ours, theirs = (
        k.layers.Bidirectional(
            k.layers.LSTM(4, return_sequences=sequences, return_state=state, name="lstm"),
            merge_mode=merge_mode,
        )
        for k in (keras, real)
    )
    for layer in (ours, theirs):
        layer.build(X.shape)
    assert [v.path.split("/", 1)[1] for v in ours.weights] == [
        v.path.split("/", 1)[1] for v in theirs.weights
    ]
    same_weights(ours, theirs)
    mask = np.arange(STEPS)[None] < np.array([[4], [2], [1]])
    compare(ours, theirs, X, mask=mask)
    given = [draw((BATCH, 4), i) for i in range(4)]
    assert_close(ours(X, initial_state=given), theirs(X, initial_state=given))
    unknown = (None, None, FEATURES)
    shapes = ours.compute_output_shape(unknown)
    assert jax.tree.leaves(shapes) == jax.tree.leaves(theirs.compute_output_shape(unknown))


def test_a_backward_layer_of_its_own():
    backward = layers.GRU(2, go_backwards=True, return_sequences=True)
    layer = layers.Bidirectional(layers.LSTM(3, return_sequences=True), backward_layer=backward)
    assert layer(X).shape == (BATCH, STEPS, 5)
    assert layer.backward_layer is backward
    np.testing.assert_allclose(layer(X)[..., 3:], backward(X)[:, ::-1], rtol=1e-6)
    twin = layers.Bidirectional.from_config(layer.get_config())
    assert type(twin.backward_layer) is layers.GRU
    assert twin.compute_output_shape((2, None, 5)) == (2, None, 5)


@pytest.mark.parametrize("use_cudnn", [False, True, "auto"])
def test_both_directions_and_their_files_keep_use_cudnn(use_cudnn):
    layer = layers.Bidirectional(layers.LSTM(3, use_cudnn=use_cudnn))
    again = layers.Bidirectional.from_config(layer.get_config())
    for both in (layer, again):
        assert both.forward_layer.use_cudnn == both.backward_layer.use_cudnn == use_cudnn
    config = again.forward_layer.get_config()
    assert real.layers.LSTM.from_config(config).use_cudnn == use_cudnn


MIXED = {
    "Bidirectional": lambda k, d: k.layers.Bidirectional(k.layers.LSTM(4), dtype=d),
    "sequences": lambda k, d: k.layers.Bidirectional(
        k.layers.GRU(4, return_sequences=True), merge_mode=None, dtype=d
    ),
    "float32 outside": lambda k, d: k.layers.Bidirectional(k.layers.GRU(4, dtype=d)),
    "TimeDistributed": lambda k, d: k.layers.TimeDistributed(k.layers.Dense(4), dtype=d),
    "Dense inside": lambda k, d: k.layers.TimeDistributed(k.layers.Dense(4, dtype=d)),
    "RNN": lambda k, d: k.layers.RNN(k.layers.GRUCell(4), dtype=d),
    "stacked": lambda k, d: k.layers.RNN([k.layers.LSTMCell(4), k.layers.GRUCell(3)], dtype=d),
}


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", MIXED)
def test_the_dtype_of_a_layer_around_layers_is_that_of_its_outputs(name, dtype):
    ours, theirs = (MIXED[name](k, dtype) for k in (keras, real))
    for layer in (ours, theirs):
        layer.build(X.shape)
    same_weights(ours, theirs)
    mine, other = ours(X), theirs(X)
    symbolic = ours(keras.Input((STEPS, FEATURES)))
    dtypes = [[t.dtype for t in jax.tree.leaves(tree)] for tree in (mine, other, symbolic)]
    assert dtypes[0] == dtypes[1] == dtypes[2]
    assert_close(mine, other, rtol=0.03, atol=0.01)


def test_each_cell_of_a_stack_has_a_dtype_of_its_own():
    cells = [layers.LSTMCell(4, dtype="mixed_bfloat16"), layers.GRUCell(3)]
    for dtype in ("float32", "mixed_float16"):
        layer = layers.RNN(layers.StackedRNNCells(cells, dtype=dtype), dtype=dtype)
        assert layer(X).dtype == layer(keras.Input((None, FEATURES))).dtype == layer.compute_dtype


def test_the_two_directions_begin_with_weights_of_their_own():
    layer = layers.Bidirectional(layers.LSTM(3))
    layer(X)
    forward, backward = layer.forward_layer.get_weights(), layer.backward_layer.get_weights()
    assert not np.allclose(forward[0], backward[0])
    assert not np.allclose(forward[1], backward[1])


class TestTimeDistributed:
    @pytest.mark.parametrize("inner", ["Dense", "LSTM", "BatchNormalization", "Dropout"])
    def test_agrees_with_keras(self, inner):
        arguments = {"BatchNormalization": (), "Dropout": (0.0,)}.get(inner, (4,))
        x = draw((2, 3, 4, 5)) if inner == "LSTM" else X
        ours, theirs = (
            k.layers.TimeDistributed(getattr(k.layers, inner)(*arguments)) for k in (keras, real)
        )
        for layer in (ours, theirs):
            layer.build(x.shape)
        same_weights(ours, theirs)
        compare(ours, theirs, x, training=True)
        shape = (None, None, *x.shape[2:])
        assert ours.compute_output_shape(shape) == theirs.compute_output_shape(shape)

    def test_a_layer_of_ones_own_sees_one_step_at_a_time(self):
        class Centre(layers.Layer):
            def call(self, inputs):
                return inputs - inputs.mean(axis=0)

        expected = X - X.mean(axis=0)
        np.testing.assert_allclose(layers.TimeDistributed(Centre())(X), expected, atol=1e-6)

    def test_a_whole_model_at_every_step(self):
        inner = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(3), layers.Dense(2)])
        assert layers.TimeDistributed(inner)(X).shape == (BATCH, STEPS, 2)

    def test_too_few_axes(self):
        with pytest.raises(ValueError, match="at least 3 axes"):
            layers.TimeDistributed(layers.Dense(2))(X[:, 0])


class NestedCell(layers.Layer):
    """Inputs, states and outputs of two tensors, one of them a matrix for each sample."""

    def __init__(self, one, two, three, **kwargs):
        self.sizes = (one, two, three)
        self.state_size = [(one,), (two, three)]
        self.output_size = [(one,), (two, three)]
        super().__init__(**kwargs)

    def build(self, input_shapes):
        (_, i1), (_, i2, i3) = input_shapes
        one, two, three = self.sizes
        self.vector = self.add_weight((i1, one), name="vector")
        self.matrix = self.add_weight((i2, i3, two, three), name="matrix")

    def call(self, inputs, states):
        first, second = keras.tree.flatten(inputs)
        one = ops.matmul(first, self.vector) + states[0]
        two = ops.einsum("bij,ijkl->bkl", second, self.matrix) + states[1]
        return (one, two), (one, two)


def test_a_cell_of_nested_structures():
    a, b = draw((BATCH, STEPS, 3)), draw((BATCH, STEPS, 2, 4), 1)
    layer = layers.RNN(NestedCell(5, 2, 3), return_sequences=True, return_state=True)
    (one, two), s1, s2 = layer((a, b))
    assert (one.shape, two.shape) == ((BATCH, STEPS, 5), (BATCH, STEPS, 2, 3))
    vector, matrix = layer.get_weights()
    np.testing.assert_allclose(one, np.cumsum(a @ vector, axis=1), rtol=1e-4, atol=1e-5)
    expected = np.cumsum(np.einsum("btij,ijkl->btkl", b, matrix), axis=1)
    np.testing.assert_allclose(two, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(s1, one[:, -1])
    np.testing.assert_allclose(s2, two[:, -1])
    inputs = keras.Input((None, 3)), keras.Input((None, 2, 4))
    model = keras.Model(inputs, layers.RNN(NestedCell(5, 2, 3))(inputs))
    assert model.output_shape == ((None, 5), (None, 2, 3))
    model.compile("sgd", "mse")
    model.fit([a, b], [draw((BATCH, 5)), draw((BATCH, 2, 3))], verbose=0)


class Plain:
    """A cell that is no layer and has no weights."""

    state_size = FEATURES

    def call(self, inputs, states):
        return inputs + states[0], [inputs + states[0]]


def test_a_plain_cell_without_weights():
    np.testing.assert_allclose(layers.RNN(Plain())(X), X.sum(axis=1), rtol=1e-5, atol=1e-6)
    stacked = layers.RNN([Plain(), layers.LSTMCell(2)])
    assert stacked(X).shape == (BATCH, 2)


class WithConstants(layers.Layer):
    state_size = FEATURES

    def call(self, inputs, states, constants):
        (bias,) = constants
        new = inputs + states[0] + bias
        return new, [new]


def test_constants_are_the_same_at_every_step():
    bias = draw((BATCH, FEATURES), 4)
    expected = X.sum(axis=1) + STEPS * bias
    result = layers.RNN(WithConstants())(X, constants=[bias])
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    inputs, constant = keras.Input((None, FEATURES)), keras.Input((FEATURES,))
    model = keras.Model(
        [inputs, constant], layers.RNN(WithConstants())(inputs, constants=[constant])
    )
    np.testing.assert_allclose(model([X, bias]), expected, rtol=1e-5, atol=1e-5)


class Deep(layers.Layer):
    """A cell that is a whole stack of layers, one of which keeps statistics."""

    state_size = output_size = 4

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stack = [layers.Dense(6, "tanh"), layers.BatchNormalization(), layers.Dense(4)]
        self.drop = layers.Dropout(0.5, seed=1)

    def call(self, inputs, states, training=False):
        x = jnp.concatenate([inputs, states[0]], axis=-1)
        for layer in self.stack:
            x = layer(x, training=training)
        return self.drop(x, training=training), [jnp.tanh(x)]


def test_a_cell_that_is_a_whole_stack_of_layers():
    layer = layers.RNN(Deep())
    layer.build((None, None, FEATURES))
    assert len(layer.weights) == 8
    assert len(layer.trainable_weights) == 6
    moving = layer.cell.stack[1].moving_mean
    layer(X)
    assert not np.asarray(moving).any()
    first = np.asarray(layer(X, training=True))
    assert np.asarray(moving).any()
    assert not np.array_equal(layer(X, training=True), first)
    gradient = jax.grad(
        lambda t: layer.stateless_call(t, [v.value for v in layer.non_trainable_variables], X)[
            0
        ].sum()
    )([v.value for v in layer.trainable_variables])
    assert all(np.asarray(g).any() for g in gradient)


class DropsItself(layers.DropoutRNNCell, layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1)
        self.dropout = self.recurrent_dropout = 0.5
        self.state_size = FEATURES

    def call(self, inputs, states, training=False):
        if training:
            inputs = inputs * self.get_dropout_mask(inputs)
        return inputs, [states[0] + inputs]


def test_a_cell_with_dropout_of_its_own_drops_the_same_at_every_step():
    layer = layers.RNN(DropsItself(), return_sequences=True)
    outputs = np.asarray(layer(np.ones_like(X), training=True))
    np.testing.assert_array_equal(outputs, np.repeat(outputs[:, :1], STEPS, axis=1))
    assert set(np.unique(outputs)) == {0.0, 2.0}
    assert not np.array_equal(layer(np.ones_like(X), training=True), outputs)
    np.testing.assert_array_equal(layer(X), X)


class TestErrors:
    def test_what_is_no_cell(self):
        class NoSize(layers.Layer):
            def call(self, inputs, states):
                return inputs, states

        class NoCall:
            state_size = 3

        class NoStart(NoSize):
            def __init__(self):
                self.state_size = 3

        cell = NoSize()
        with pytest.raises(ValueError, match="no attribute state_size"):
            layers.RNN(cell)
        cell.state_size = "3"
        with pytest.raises(ValueError, match="must be a number of features"):
            layers.RNN(cell)
        with pytest.raises(RuntimeError, match=r"did not call super\(\).__init__"):
            layers.RNN(NoStart())
        with pytest.raises(ValueError, match=r"a method call\(inputs, states\)"):
            layers.RNN([layers.LSTMCell(2), NoCall()])
        with pytest.raises(ValueError, match="got the class LSTMCell"):
            layers.RNN(layers.LSTMCell)
        with pytest.raises(ValueError, match="at least one cell"):
            layers.StackedRNNCells([])

    @pytest.mark.parametrize(
        ("new", "message"),
        [
            (lambda s: [s, s], "number, shape and dtype"),
            (lambda s: [s[:, :1]], "number, shape and dtype"),
            (lambda s: [s.astype(jnp.bfloat16)], r"Cast them with \.astype"),
        ],
    )
    def test_new_states_that_differ(self, new, message):
        class Cell(layers.Layer):
            state_size = 3

            def call(self, inputs, states):
                return states[0], new(states[0])

        with pytest.raises(ValueError, match=message):
            layers.RNN(Cell())(X)

    def test_bidirectional(self):
        with pytest.raises(ValueError, match="recurrent layer, but got"):
            layers.Bidirectional(layers.Dense(3))
        with pytest.raises(ValueError, match="merge_mode to be one of"):
            layers.Bidirectional(layers.GRU(3), merge_mode="max")
        with pytest.raises(ValueError, match="different directions"):
            layers.Bidirectional(layers.GRU(3), backward_layer=layers.GRU(3))
        with pytest.raises(ValueError, match="agree in return_sequences"):
            layers.Bidirectional(
                layers.GRU(3, return_sequences=True),
                backward_layer=layers.GRU(3, go_backwards=True),
            )
