"""What a cell takes besides its input, and what it returns, of any structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.layers.against_keras import draw

import recurrax as keras
from recurrax import layers
from recurrax.layers.mask import get_mask

BATCH, STEPS, FEATURES = 3, 4, 5
X = draw((BATCH, STEPS, FEATURES))
BIAS = draw((BATCH, FEATURES), 4)
MASK = np.arange(STEPS)[None] < np.array([[4], [2], [1]])


@keras.saving.register_keras_serializable("tests")
class Biased(layers.Layer):
    """Adds up its inputs and a constant."""

    state_size = FEATURES

    def call(self, inputs, states, constants):
        (bias,) = constants
        new = inputs + states[0] + bias
        return new, [new]


@keras.saving.register_keras_serializable("tests")
class BiasedDense(layers.Layer):
    """Feeds a constant to a layer inside, which is built by a step on shapes."""

    state_size = 4

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def call(self, inputs, states, constants):
        new = jnp.tanh(self.dense(jnp.concatenate([inputs, *constants], axis=-1)) + states[0])
        return new, [new]


@keras.saving.register_keras_serializable("tests")
class Several(layers.Layer):
    """Outputs of several sizes, as a list, a tuple or a dictionary; none of them is the state."""

    state_size = 7

    def __init__(self, structure="list", output_size=None, **kwargs):
        super().__init__(**kwargs)
        self.structure = structure
        if output_size is not None:
            self.output_size = output_size

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 7), name="kernel")

    def call(self, inputs, states):
        new = jnp.tanh(inputs @ self.kernel.value + states[0])
        wide = jnp.concatenate([new, new[:, :1]], axis=-1)
        outputs = {
            "list": [2 * new, wide],
            "tuple": (2 * new, wide),
            "dict": {"a": 2 * new, "b": {"c": wide}},
            "one": wide,
            "matrix": new[:, :, None] * wide[:, None, :],
            "integer": jnp.argmax(new, axis=-1)[:, None],
        }
        return outputs[self.structure], [new]


class TestConstants:
    def test_one_array_is_a_list_of_one(self):
        expected = X.sum(axis=1) + STEPS * BIAS
        layer = layers.RNN(Biased())
        for constants in (BIAS, jnp.asarray(BIAS), [BIAS], (BIAS,)):
            np.testing.assert_allclose(layer(X, constants=constants), expected, rtol=1e-5)

    @pytest.mark.parametrize("cell", [Biased, BiasedDense])
    def test_in_a_model_and_its_file(self, cell, tmp_path):
        inputs, constant = keras.Input((None, FEATURES)), keras.Input((FEATURES,))
        layer = layers.RNN(cell())
        model = keras.Model([inputs, constant], layer(inputs, constants=constant))
        assert model.output_shape == (None, layer.cell.state_size)
        together = layer(X, constants=BIAS)
        np.testing.assert_allclose(model([X, BIAS]), together, rtol=1e-6)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(again([X, BIAS]), together, rtol=1e-6)
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        np.testing.assert_allclose(clone([X, BIAS]), together, rtol=1e-6)

    def test_a_stack_gives_them_to_the_cells_that_take_them(self):
        stacked = layers.RNN([layers.GRUCell(FEATURES), Biased()])
        below = layers.RNN(stacked.cell.cells[0], return_sequences=True)
        expected = layers.RNN(Biased())(below(X), constants=BIAS)
        np.testing.assert_allclose(stacked(X, constants=BIAS), expected, rtol=1e-5)

    def test_a_cell_that_takes_none(self):
        for cell in (layers.LSTMCell(4), [layers.LSTMCell(4), layers.GRUCell(3)]):
            with pytest.raises(ValueError, match="takes none: define"):
                layers.RNN(cell)(X, constants=BIAS)
            with pytest.raises(ValueError, match="takes none: define"):
                layers.RNN(cell)(keras.Input((None, FEATURES)), constants=keras.Input((4,)))


def _shapes(tree):
    return jax.tree.map(lambda x: tuple(x.shape), tree)


def _unknown(shapes, *sizes):
    """The shapes, with the first sizes unknown."""
    return jax.tree.map(
        lambda s: tuple(None if n in sizes else n for n in s),
        shapes,
        is_leaf=lambda s: isinstance(s, tuple) and all(isinstance(n, int) for n in s),
    )


class TestOutputs:
    @pytest.mark.parametrize("output_size", [None, 7, [7, 8], (7, 8), [(7,), (8,)]])
    @pytest.mark.parametrize("structure", ["list", "tuple", "dict", "one", "matrix", "integer"])
    @pytest.mark.parametrize(("sequences", "state"), [(True, True), (False, False)])
    def test_symbolic_ones_are_like_real_ones(self, structure, output_size, sequences, state):
        """Whatever a cell declares, or does not."""
        options = {"return_sequences": sequences, "return_state": state}
        layer = layers.RNN(Several(structure, output_size), **options)
        shapes = layer.compute_output_shape((None, None, FEATURES))  # before it is built
        symbolic, real = layer(keras.Input((None, FEATURES))), layer(X)
        assert jax.tree.structure(symbolic) == jax.tree.structure(real)
        assert shapes == _shapes(symbolic) == _unknown(_shapes(real), BATCH, STEPS)
        assert jax.tree.map(lambda t: t.dtype, symbolic) == jax.tree.map(
            lambda t: t.dtype.name, real
        )
        assert layer.cell.kernel.path == f"{layer.name}/{layer.cell.name}/kernel"

    @pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
    @pytest.mark.parametrize("structure", ["list", "dict"])
    def test_in_both_directions(self, structure, merge_mode):
        inner = layers.RNN(Several(structure), return_sequences=True, return_state=True)
        layer = layers.Bidirectional(inner, merge_mode=merge_mode)
        symbolic, real = layer(keras.Input((None, FEATURES))), layer(X)
        assert _shapes(symbolic) == _unknown(_shapes(real), BATCH, STEPS)
        assert _shapes(symbolic) == layer.compute_output_shape((None, None, FEATURES))
        forward, backward = layer.forward_layer(X)[0], layer.backward_layer(X)[0]
        backward = jax.tree.map(lambda y: y[:, ::-1], backward)
        expected = {
            "concat": lambda: [jax.tree.map(lambda *y: jnp.concatenate(y, -1), forward, backward)],
            "sum": lambda: [jax.tree.map(jnp.add, forward, backward)],
            None: lambda: [forward, backward],
        }[merge_mode]()
        for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(real[:-2]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)

    def test_a_model_of_them_trains_and_comes_back_from_its_file(self, tmp_path):
        inputs = keras.Input((None, FEATURES))
        a, b = layers.RNN(Several(output_size=[7, 8]), return_sequences=True)(inputs)
        last = layers.RNN(Several("tuple"))(layers.Concatenate()([a, b]))
        model = keras.Model(inputs, [layers.Dense(2)(last[1]), a])
        model.compile("sgd", "mse")
        model.fit(X, [draw((BATCH, 2)), draw((BATCH, STEPS, 7))], verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(
            tmp_path / "model.keras", custom_objects={"Several": Several}
        )
        assert again.output_shape == model.output_shape == [(None, 2), (None, None, 7)]
        for one, other in zip(model(X), again(X), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)

    def test_the_next_cell_of_a_stack_gets_them(self):
        class Joins(layers.GRUCell):
            def build(self, input_shapes):
                super().build((None, sum(shape[-1] for shape in input_shapes)))

            def call(self, inputs, states, training=False):
                return super().call(jnp.concatenate(inputs, axis=-1), states, training)

        layer = layers.RNN([Several(output_size=[7, 8]), Joins(3), Several("list")])
        symbolic = layer(keras.Input((None, FEATURES)))
        assert _shapes(symbolic) == [(None, 7), (None, 8)]
        assert _shapes(layer(X)) == [(BATCH, 7), (BATCH, 8)]

    def test_a_stack_of_convolutions_knows_its_shapes(self):
        cells = [layers.ConvLSTM1D(2, 2).cell, layers.ConvLSTM1D(3, 2).cell]
        layer = layers.RNN(cells, return_sequences=True)
        assert layer(keras.Input((None, 6, 2))).shape == (None, None, 4, 3)
        assert layer(draw((2, 3, 6, 2))).shape == (2, 3, 4, 3)

    def test_a_layer_with_a_call_or_shapes_of_its_own_answers_for_itself(self):
        class Renamed(layers.GRU):
            def call(self, inputs, training=False):
                return super().call(inputs, training=training)

        class Halved(layers.GRU):
            def call(self, sequences, mask=None):
                return super().call(sequences)[:, ::2]

            def compute_output_shape(self, sequences_shape):
                return sequences_shape[0], self.units // 2

        class Squeezed(layers.Bidirectional):
            def call(self, sequences, mask=None):
                return super().call(sequences)[:, :1]

            def compute_output_shape(self, sequences_shape):
                return sequences_shape[0], 1

        for layer, size in (
            (Renamed(4), 4),
            (Halved(4), 2),
            (Squeezed(layers.GRU(4)), 1),
        ):
            assert layer(keras.Input((None, FEATURES))).shape == (None, size)
            assert layer(X).shape == (BATCH, size)

    def test_each_has_the_mask_and_the_states_have_none(self):
        masking = layers.Masking()
        x = np.where(MASK[..., None], X, 0)
        for layer in (
            layers.RNN(Several(), return_sequences=True, return_state=True),
            layers.RNN([layers.LSTMCell(3), Several()], return_sequences=True, return_state=True),
            layers.Bidirectional(
                layers.RNN(Several("dict"), return_sequences=True, return_state=True),
                merge_mode=None,
            ),
        ):
            real = layer(masking(x))
            symbolic = layer(masking(keras.Input((None, FEATURES))))
            count = 4 if isinstance(layer, layers.Bidirectional) else 2
            masked = [True] * count + [False] * (len(jax.tree.leaves(real)) - count)
            assert [get_mask(y) is not None for y in jax.tree.leaves(real)] == masked
            assert [t._keras_mask is not None for t in jax.tree.leaves(symbolic)] == masked
            for y in jax.tree.leaves(real)[:count]:
                np.testing.assert_array_equal(get_mask(y), MASK)
