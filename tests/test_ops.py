"""Operations: the names and results of `keras.ops`, and what only ours take."""

import keras
import numpy as np
import pytest

from recurrax import ops
from recurrax.ops import dispatch
from recurrax.variable import Variable

rng = np.random.default_rng(0)
A = rng.random((3, 4)).astype("float32") + 0.1
B = rng.random((3, 4)).astype("float32") + 0.1
M = rng.random((4, 4)).astype("float32") + 4 * np.eye(4, dtype="float32")
IDS = np.array([2, 0, 3])

UNARY = [
    "absolute",
    "arccos",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctanh",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "erfinv",
    "exp",
    "expm1",
    "floor",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log1p",
    "log2",
    "negative",
    "reciprocal",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "softmax",
    "log_softmax",
    "relu",
    "relu6",
    "elu",
    "selu",
    "silu",
    "softplus",
    "softsign",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "gelu",
    "log_sigmoid",
    "leaky_relu",
    "celu",
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "std",
    "var",
    "argmax",
    "argmin",
    "all",
    "any",
    "cumsum",
    "cumprod",
    "flip",
    "ravel",
    "transpose",
    "ones_like",
    "zeros_like",
    "logsumexp",
    "norm",
    "sort",
    "argsort",
    "size",
    "ndim",
    "shape",
    "amax",
    "amin",
    "median",
    "count_nonzero",
    "normalize",
    "nan_to_num",
]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "power",
    "maximum",
    "minimum",
    "arctan2",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "mod",
    "floor_divide",
    "logaddexp",
    "divide_no_nan",
    "isclose",
    "binary_crossentropy",
    "categorical_crossentropy",
    "vdot",
]


@pytest.mark.parametrize("name", UNARY)
def test_one_array(name):
    x = A / 2 if name in ("arcsin", "arccos", "arctanh", "erfinv") else A
    ours, theirs = getattr(ops, name)(x), getattr(keras.ops, name)(x)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(ours, getattr(ops, name)(Variable(x)))


@pytest.mark.parametrize("name", BINARY)
def test_two_arrays(name):
    np.testing.assert_allclose(
        getattr(ops, name)(A, B), getattr(keras.ops, name)(A, B), rtol=2e-6, atol=1e-6
    )


CALLS = {
    "all": lambda o: o.all(A > 0.5, -1, True),
    "append": lambda o: o.append(A, B, axis=0),
    "arange": lambda o: o.arange(2, 9, 3),
    "broadcast_to": lambda o: o.broadcast_to(A, (2, 3, 4)),
    "cast": lambda o: o.cast(A * 3, "int32"),
    "cholesky": lambda o: o.cholesky(M @ M.T),
    "clip": lambda o: o.clip(A, 0.3, 0.6),
    "concatenate": lambda o: o.concatenate([A, B], axis=1),
    "cond": lambda o: o.cond(o.sum(A) > 0, lambda: A, lambda: B),
    "cross": lambda o: o.cross(A[:, :3], B[:, :3]),
    "det": lambda o: o.det(M),
    "diag": lambda o: o.diag(M),
    "diff": lambda o: o.diff(A),
    "dot": lambda o: o.dot(A, M),
    "einsum": lambda o: o.einsum("bi,ij->bj", A, M),
    "expand_dims": lambda o: o.expand_dims(A, 1),
    "eye": lambda o: o.eye(3),
    "fori_loop": lambda o: o.fori_loop(0, 5, lambda i, x: x + i, np.float32(1)),
    "full": lambda o: o.full((2, 2), 7.0),
    "full_like": lambda o: o.full_like(A, 2),
    "in_top_k": lambda o: o.in_top_k(IDS, A, 2),
    "inv": lambda o: o.inv(M),
    "argmax": lambda o: o.argmax(A, -1, True),
    "full_of_floats": lambda o: o.full((2,), 3) / 2,
    "logsumexp": lambda o: o.logsumexp(A, -1, True),
    "max": lambda o: o.max(A, 1, True, 0.9),
    "mean": lambda o: o.mean(A, -1, True),
    "nan_to_num": lambda o: o.nan_to_num(np.float32([np.nan, 1]), 3.0),
    "quantile": lambda o: o.quantile(A, 0.4, -1, "lower", True),
    "take_of_a_list": lambda o: o.take(A, [0, 2], 1),
    "linspace": lambda o: o.linspace(0.0, 1.0, 5),
    "map": lambda o: o.map(lambda x: x * 2, A),
    "matmul": lambda o: o.matmul(A, M),
    "moments": lambda o: o.moments(A, axes=[0])[1],
    "moveaxis": lambda o: o.moveaxis(A, 0, 1),
    "multi_hot": lambda o: o.multi_hot(IDS, 5),
    "one_hot": lambda o: o.one_hot(IDS, 5),
    "outer": lambda o: o.outer(A[0], B[0]),
    "pad": lambda o: o.pad(A, ((1, 0), (0, 2)), constant_values=3.0),
    "qr": lambda o: abs(o.qr(M)[1]),
    "repeat": lambda o: o.repeat(A, 2, axis=0),
    "reshape": lambda o: o.reshape(A, (-1, 6)),
    "roll": lambda o: o.roll(A, 1, axis=1),
    "scan": lambda o: o.scan(lambda c, x: (c + x, c * x), A[0], B)[1],
    "scatter": lambda o: o.scatter(np.array([[0, 1], [2, 0]]), np.float32([1, 2]), (3, 4)),
    "scatter_update": lambda o: o.scatter_update(A, np.array([[0, 1], [2, 0]]), np.float32([1, 2])),
    "searchsorted": lambda o: o.searchsorted(np.sort(A[0]), B[0]),
    "segment_max": lambda o: o.segment_max(A, np.array([0, 0, 1]), 2),
    "segment_sum": lambda o: o.segment_sum(A, np.array([0, 0, 1]), 2),
    "slice": lambda o: o.slice(A, (1, 0), (2, 3)),
    "slice_update": lambda o: o.slice_update(A, (1, 0), B[:1, :2]),
    "solve": lambda o: o.solve(M, A[0]),
    "sparse_categorical_crossentropy": lambda o: o.sparse_categorical_crossentropy(IDS, A),
    "split": lambda o: o.split(A, 2, axis=1)[1],
    "squeeze": lambda o: o.squeeze(A[:1], 0),
    "stack": lambda o: o.stack([A, B], axis=1),
    "swapaxes": lambda o: o.swapaxes(A, 0, 1),
    "switch": lambda o: o.switch(1, [lambda x: x, lambda x: x * 2], A),
    "take": lambda o: o.take(A, IDS, axis=1),
    "take_along_axis": lambda o: o.take_along_axis(A, IDS[:, None], axis=1),
    "tensordot": lambda o: o.tensordot(A, M, axes=1),
    "tile": lambda o: o.tile(A, (2, 1)),
    "top_k": lambda o: o.top_k(A, 2)[1],
    "trace": lambda o: o.trace(M),
    "tril": lambda o: o.tril(M),
    "unstack": lambda o: o.unstack(A, axis=1)[2],
    "vectorized_map": lambda o: o.vectorized_map(lambda x: x.sum(), A),
    "where": lambda o: o.where(A > 0.5, A, B),
    "while_loop": lambda o: o.while_loop(lambda i: i < 9, lambda i: (i * 2,), (1,))[0],
    "zeros": lambda o: o.zeros((2, 3)),
}


@pytest.mark.parametrize("name", CALLS)
def test_call(name):
    np.testing.assert_allclose(CALLS[name](ops), CALLS[name](keras.ops), rtol=1e-5, atol=1e-5)


def test_lists_and_keras_argument_names_are_taken():
    assert float(ops.sum([1.0, 2.0])) == 3.0
    np.testing.assert_array_equal(ops.add([1, 2], [3, 4]), [4, 6])
    np.testing.assert_array_equal(ops.maximum(x1=A, x2=B), np.maximum(A, B))
    np.testing.assert_array_equal(ops.mean(x=A, axis=0), ops.mean(A, axis=0))
    np.testing.assert_array_equal(ops.stack([Variable(A), B]), np.stack([A, B]))


def test_a_while_loop_stops_at_its_limit():
    assert ops.while_loop(lambda i: i < 100, lambda i: i + 1, 0, maximum_iterations=3) == 3
    assert ops.while_loop(lambda i: i < 3, lambda i: [i + 1], [0])[0] == 3


def test_conversions():
    assert ops.is_tensor(ops.convert_to_tensor([1.0])) and not ops.is_tensor(A)
    assert isinstance(ops.convert_to_numpy(ops.ones(2)), np.ndarray)
    assert ops.shape(A) == (3, 4)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="they must be equal"):
        ops.binary_crossentropy(A, B[:2])
    with pytest.raises(ValueError, match="axis 1 of shape"):
        ops.unstack(A, num=3, axis=1)


def test_symbolic_tensors_go_to_the_floor_that_asked_for_them(monkeypatch):
    class Symbol:
        pass

    seen = []
    monkeypatch.setattr(dispatch, "_symbolic", None)
    monkeypatch.setattr(dispatch, "_apply", None)
    dispatch.intercept(Symbol, lambda f, args, kwargs: seen.append((f, args, kwargs)))
    symbol = Symbol()
    ops.concatenate([symbol, A], axis=1)
    ops.scan(lambda c, x: (c, x), {"a": symbol}, A)
    ops.tanh(A)
    assert [len(args) for _, args, _ in seen] == [1, 3]
    assert seen[0][2] == {"axis": 1}
