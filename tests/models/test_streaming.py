"""Streams against the model on the whole sequence."""

import concurrent.futures
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as keras
from recurrax import layers
from recurrax.loop.native.unsupported import Unsupported
from recurrax.loop.runners import straight
from recurrax.models import host_step, native_step, streaming


def _x(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def _last(model, x):
    y = np.asarray(model(x))
    return y[:, -1] if y.ndim == 3 else y


def _streamed(model, x):
    stream = model.stream(batch_size=len(x))
    return [stream.step(x[:, t]) for t in range(x.shape[1])], stream


@pytest.fixture
def without_native(monkeypatch):
    """No step has a native form."""

    def refuse(*_):
        raise Unsupported("refused")

    monkeypatch.setattr(native_step, "compile_step", refuse)


class Counter(layers.Layer):
    """A running mean whose number of steps is a weight that the step itself changes."""

    state_size = output_size = 3

    def build(self, input_shape):
        self.seen = self.add_weight((), "zeros", trainable=False, name="seen")

    def call(self, inputs, states):
        self.seen.assign(self.seen + 1)
        mean = states[0] + (inputs - states[0]) / self.seen.value
        return mean * 2, [mean]


LAYERS = {
    "LSTM": lambda: layers.LSTM(5),
    "LSTM of sequences": lambda: layers.LSTM(5, return_sequences=True, activation="relu"),
    "GRU": lambda: layers.GRU(5),
    "GRU of sequences": lambda: layers.GRU(5, reset_after=False, return_sequences=True),
    "SimpleRNN": lambda: layers.SimpleRNN(5, activation="softsign"),
    "stateful": lambda: layers.LSTM(5, stateful=True),
    "a cell that counts": lambda: layers.RNN(Counter(), return_sequences=True),
}


def _assert_equals_the_whole_sequence(layer, runner):
    model = keras.Sequential([keras.Input(batch_shape=(2, None, 3)), layer()])
    x = _x(2, 6, 3)
    model(x)
    model.reset_states()
    for variable in model.non_trainable_variables:
        variable.assign(np.zeros(variable.shape))
    steps, stream = _streamed(model, x)
    assert stream.runner == runner
    np.testing.assert_allclose(steps[-1], _last(model, x), atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_equals_the_whole_sequence(layer):
    _assert_equals_the_whole_sequence(layer, "native")


@pytest.mark.parametrize("name", ["GRU of sequences", "a cell that counts"])
def test_equals_the_whole_sequence_in_numpy(name, without_native):
    _assert_equals_the_whole_sequence(LAYERS[name], "numpy (refused)")


def _assert_deep_model_with_masks(rows, runner):
    model = keras.Sequential(
        [
            layers.Embedding(9, 4, mask_zero=True),
            layers.GRU(5, return_sequences=True),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.LSTM(6),
            layers.Dense(3, "softmax"),
        ]
    )
    ids = np.random.default_rng(0).integers(0, 9, (rows, 7))
    ids[0, [0, 3, 6]] = 0
    steps, stream = _streamed(model, ids)
    assert stream.runner == runner
    for t, y in list(enumerate(steps))[::3]:
        np.testing.assert_allclose(y, model(ids[:, : t + 1]), atol=1e-6)
    with pytest.raises(ValueError, match="integers from 0 to 8"):
        stream.step(np.full(rows, 9))


@pytest.mark.parametrize("rows", [1, 40])
def test_a_deep_model_with_masks(rows):
    _assert_deep_model_with_masks(rows, "native")


@pytest.mark.parametrize(("rows", "runner"), [(1, "numpy"), (40, "xla")])
def test_a_deep_model_with_masks_on_the_other_runners(rows, runner, without_native):
    _assert_deep_model_with_masks(rows, f"{runner} (refused)")


def test_an_embedding_beside_a_look_up_that_numpy_has_no_form_for():
    """Then machine code looks up both, and reads the table."""

    class First(layers.Layer):
        state_size = output_size = 4

        def call(self, inputs, states):
            first = jnp.argmax(inputs > 0, axis=1, keepdims=True)
            h = jnp.tanh(states[0] + inputs * jnp.take_along_axis(inputs, first, axis=1))
            return h, [h]

    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), layers.Embedding(9, 4), layers.RNN(First())]
    )
    ids = np.random.default_rng(0).integers(0, 9, (2, 5))
    steps, stream = _streamed(model, ids)
    assert stream.runner == "native"
    np.testing.assert_allclose(steps[-1], model(ids), atol=1e-6)


def test_what_neither_machine_code_nor_numpy_does_is_compiled_by_xla():
    class Sorting(layers.Layer):
        state_size = output_size = 3

        def call(self, inputs, states):
            h = jnp.sort(inputs + states[0])
            return h, [h]

    model = keras.Sequential([keras.Input((None, 3)), layers.RNN(Sorting())])
    x = _x(1, 4, 3)
    steps, stream = _streamed(model, x)
    assert stream.runner == "xla (operation sort)"
    np.testing.assert_allclose(steps[-1], model(x), atol=1e-6)
    limit = streaming.NATIVE_ROWS
    assert model.stream(limit + 1).runner == f"xla (more than {limit} rows)"


def test_several_inputs_and_outputs():
    a, b = keras.Input((None, 3)), keras.Input((None, 2))
    h, *states = layers.LSTM(4, return_state=True, name="memory")(layers.Concatenate()([a, b]))
    model = keras.Model([a, b], [layers.Dense(2)(h), states])
    xs = [_x(1, 5, 3), _x(1, 5, 2)]
    stream = model.stream()
    outputs = None
    for t in range(5):
        outputs = stream.step([x[:, t] for x in xs])
    y, (_, c) = outputs
    expected, (_, expected_c) = model(xs)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_allclose(c, expected_c, atol=1e-6)
    before = stream.state
    for wrong in ([xs[0][:, 0]], [xs[0][:, 0], xs[0][:, 0]], [x[:, 0] for x in (*xs, xs[1])]):
        with pytest.raises(ValueError, match=r"shape \(1, 3\), \(1, 2\)"):
            stream.step(wrong)
    np.testing.assert_array_equal(stream.state["memory"], before["memory"])


def test_the_weights_are_those_of_the_stream_s_making():
    model = keras.Sequential([keras.Input((None, 3)), layers.GRU(4)])
    x = _x(1, 2, 3)
    stream = model.stream()
    y = stream.step(x[:, 0])
    stream.reset()
    model.set_weights([weight + 1 for weight in model.get_weights()])
    np.testing.assert_array_equal(stream.step(x[:, 0]), y)
    np.testing.assert_allclose(model.stream().step(x[:, 0]), model(x[:, :1]), atol=1e-6)


def test_copies_run_side_by_side(monkeypatch):
    monkeypatch.setattr(straight, "_LONG_STEP", 0)  # Python's lock is given up
    model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(64)])
    x = _x(1, 200, 3)
    streams = [model.stream()]
    streams += [streams[0].copy() for _ in range(3)]

    def last(stream):
        return [stream.step(x[:, t]) for t in range(x.shape[1])][-1]

    alone = last(streams[0].copy())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for y in pool.map(last, streams):
            np.testing.assert_array_equal(y, alone)


def test_a_long_stream_keeps_its_memory_and_fades_to_zero():
    weak = keras.initializers.Orthogonal(0.1, seed=0)
    memory = layers.LSTM(4, recurrent_initializer=weak, name="memory")
    model = keras.Sequential([keras.Input((None, 3)), memory])
    stream, x = model.stream(), _x(1, 3)
    stream.step(x)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10_000):
            stream.step(x)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000  # bytes
    for _ in range(1000):
        stream.step(np.zeros((1, 3)))
    np.testing.assert_array_equal(stream.state["memory"], 0)  # no denormal numbers, which are slow


def test_a_stateful_layer_keeps_its_own_states():
    model = keras.Sequential([keras.Input(batch_shape=(2, None, 3)), layers.GRU(4, stateful=True)])
    x = _x(2, 3, 3)
    model(x)
    before = np.asarray(model.layers[0].states[0])
    steps, _ = _streamed(model, x[:1])
    np.testing.assert_array_equal(model.layers[0].states[0], before)
    np.testing.assert_allclose(steps[-1], before[:1], atol=1e-6)


def test_state_reset_and_copy():
    model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4, name="memory")])
    x = _x(1, 3, 3)
    stream = model.stream()
    first = stream.step(x[:, 0])
    fork = stream.copy()
    second = stream.step(x[:, 1])
    np.testing.assert_array_equal(fork.step(x[:, 1]), second)
    saved = stream.state
    assert [s.shape for s in saved["memory"]] == [(1, 4), (1, 4)]
    third = stream.step(x[:, 2])
    second[:] = 0  # what the caller does to an output does not reach the state
    stream.state = saved
    np.testing.assert_array_equal(stream.step(x[:, 2]), third)
    stream.reset()
    np.testing.assert_array_equal(stream.step(x[:, 0]), first)
    with pytest.raises(ValueError, match="expected a state like"):
        stream.state = {"memory": [np.zeros((1, 4))]}


def test_the_number_of_steps_of_an_input_does_not_matter():
    x = keras.Input((4, 3))
    model = keras.Model(x, layers.GRU(2)(x))
    data = _x(2, 4, 3)
    np.testing.assert_allclose(_streamed(model, data)[0][-1], _last(model, data), atol=1e-6)


def test_models_that_need_several_steps_are_refused():
    def model(*middle):
        return keras.Sequential([keras.Input((None, 3)), *middle])

    with pytest.raises(ValueError, match="from the last step to the first"):
        model(layers.LSTM(4, go_backwards=True)).stream()

    class Mean(layers.Layer):
        def call(self, inputs):
            return jnp.mean(inputs, axis=1)

    with pytest.raises(ValueError, match="looks at several steps"):
        model(layers.LSTM(4, return_sequences=True), Mean()).stream()
    x, lstm = keras.Input((None, 3)), layers.LSTM(3, return_sequences=True)
    with pytest.raises(ValueError, match="is called more than once"):
        keras.Model(x, lstm(lstm(x))).stream()
    with pytest.raises(ValueError, match="before its input's shape is known"):
        keras.Sequential([layers.Dense(3)]).stream()
    with pytest.raises(ValueError, match="positive batch_size"):
        model(layers.LSTM(4)).stream(0)
    stream = model(layers.LSTM(4)).stream()
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        stream.step(np.zeros((1, 1, 3)))


def test_numpy_text_of_many_operations():
    import jax

    def step(table, x, ids):
        rows = jnp.take(table, ids, axis=0, mode="clip")
        y = jnp.where(x > 0, x**2, jnp.log1p(jnp.abs(x))) @ jnp.exp(table[:3].T)
        y = jax.nn.softmax(y) + jax.nn.gelu(y) - jax.nn.softplus(-y)
        y = y * jax.lax.rsqrt(jnp.var(y, axis=-1, keepdims=True) + 1e-3)
        parts = jnp.split(jnp.concatenate([y, rows], -1), 2, axis=-1)
        low = jnp.minimum(parts[0], parts[1][:, ::-1]).max(axis=0)
        return [y, low, jnp.argmax(y, -1), (ids != 0).astype(jnp.float32), jnp.ones(3) * 1e38 * 10]

    table, x, ids = _x(5, 3), _x(4, 3), np.array([0, 1, 7, 2], np.int32)
    program = host_step.compile_step(jax.make_jaxpr(step)(table, x, ids), [table])
    for ours, theirs in zip(program(x, ids), step(table, x, ids), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-6)


def test_numpy_text_of_whole_numbers():
    """They wrap, and floats become what XLA makes of them, NaN and infinity too."""
    import jax

    x = np.float32([[1.5, -2, np.nan], [np.inf, -np.inf, 3e9]])
    dtypes = (np.int8, np.uint8, np.int16, np.int32, np.uint32)

    def step(x, *whole):
        sums = [jax.lax.reduce_sum(n, axes=(1,)) for n in whole]
        powers = [jax.lax.pow(jnp.abs(x), jnp.clip(n, 0, 3)) for n in whole]
        return [*sums, *powers, *(x.astype(d) for d in dtypes)]

    whole = [np.random.default_rng(0).integers(-(2**31), 2**31, x.shape).astype(d) for d in dtypes]
    program = host_step.compile_step(jax.make_jaxpr(step)(x, *whole), [])
    for ours, theirs in zip(program(x, *whole), jax.jit(step)(x, *whole), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=2e-6)
    product = jax.make_jaxpr(lambda n: jax.lax.dot(n, n.T, preferred_element_type=jnp.int32))
    with pytest.raises(Unsupported, match="another dtype than its operands"):
        host_step.compile_step(product(whole[0]), [])
