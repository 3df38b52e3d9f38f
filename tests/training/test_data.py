"""What can be passed as data, and what is said of data that do not fit."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import recurrax
from recurrax import layers
from recurrax.training.data import ArraySource, Rounds, choose_source, split_off
from recurrax.utils import PyDataset, timeseries_dataset_from_array

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 3)).astype("float32")
Y = rng.normal(size=(30, 1)).astype("float32")
WEIGHT = rng.random(30).astype("float32")


def model(loss="mse", units=1, **kwargs):
    made = recurrax.Sequential([recurrax.Input((3,)), layers.Dense(units, **kwargs)])
    made.set_weights([np.full((3, units), 0.5, "float32"), np.zeros(units, "float32")])
    made.compile("sgd", loss)
    return made


def losses(*data, **kwargs):
    arguments = {"verbose": 0, "shuffle": False, "epochs": 2, **kwargs}
    return model().fit(*data, **arguments).history["loss"]


WANTED = losses(X, Y, batch_size=8)


class Batches(PyDataset):
    ended = 0

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[i * 8 : i * 8 + 8], Y[i * 8 : i * 8 + 8]

    def on_epoch_end(self):
        self.ended += 1


def generator():
    while True:
        for i in range(4):
            yield X[i * 8 : i * 8 + 8], Y[i * 8 : i * 8 + 8]


@pytest.mark.parametrize(
    "data",
    [
        (jnp.asarray(X), jnp.asarray(Y)),
        (X.astype("float64"), Y.tolist()),
        (pd.DataFrame(X, columns=list("abc")), pd.Series(Y[:, 0])),
        (X.tolist(), Y[:, 0].tolist()),
    ],
    ids=["jax", "float64 and list", "pandas", "lists"],
)
def test_arrays_of_all_kinds_train_the_same(data):
    assert losses(*data, batch_size=8) == pytest.approx(WANTED, rel=1e-5)


def test_things_that_give_batches_train_the_same():
    assert losses(generator(), steps_per_epoch=4) == pytest.approx(WANTED, rel=1e-5)
    assert losses(Batches()) == pytest.approx(WANTED, rel=1e-5)
    ahead = Batches(workers=3, max_queue_size=2)
    assert losses(ahead) == pytest.approx(WANTED, rel=1e-5)
    assert ahead.ended == 2


class Tensor:
    """What of a torch tensor the data adapters use."""

    def __init__(self, array):
        self._array = array

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        return self._array


class Loader:
    """A torch DataLoader as one sees it from outside: a length, and lists of tensors."""

    def __len__(self):
        return 4

    def __iter__(self):
        for i in range(0, 30, 8):
            yield [Tensor(X[i : i + 8]), Tensor(Y[i : i + 8])]


def test_a_loader_of_tensors_trains_the_same():
    assert losses(Loader()) == pytest.approx(WANTED, rel=1e-5)


def test_weights_come_with_batches():
    weighted = losses(X, Y, batch_size=8, sample_weight=WEIGHT)

    def batches():
        while True:
            for i in range(0, 30, 8):
                yield X[i : i + 8], Y[i : i + 8], WEIGHT[i : i + 8]

    assert losses(batches(), steps_per_epoch=4) == pytest.approx(weighted, rel=1e-5)


def test_windows_of_a_series_train():
    series = rng.normal(size=(60, 2)).astype("float32")
    windows = timeseries_dataset_from_array(series, series[5:, :1], 5, batch_size=16)
    made = recurrax.Sequential([layers.SimpleRNN(3), layers.Dense(1)])
    made.compile("adam", "mse")
    history = made.fit(windows, epochs=3, verbose=0, validation_data=windows)
    assert len(history.history["val_loss"]) == 3
    assert made.predict(windows, verbose=0).shape == (55, 1)


def test_structures_of_inputs():
    a, b = recurrax.Input((3,), name="a"), recurrax.Input((3,), name="b")
    made = recurrax.Model({"a": a, "b": b}, layers.Dense(1)(a + b))
    made.compile("sgd", "mse")
    first = made.evaluate({"a": X, "b": X}, Y, verbose=0)
    assert made.evaluate([X, X], Y, verbose=0) == pytest.approx(first, rel=1e-6)
    assert made.predict({"b": X, "a": X}, verbose=0).shape == (30, 1)


def test_shuffling_changes_the_order_and_a_seed_fixes_it():
    orders = []
    for _ in range(2):
        recurrax.utils.set_random_seed(4)
        source = ArraySource(X, Y, batch_size=8, shuffle=True)
        orders.append([np.concatenate([x for x, _, _ in source.epoch()]) for _ in range(2)])
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0][0], orders[0][1])
    assert not np.array_equal(orders[0][0], X)
    np.testing.assert_array_equal(np.sort(orders[0][0], 0), np.sort(X, 0))


def test_whole_batches_are_shuffled():
    source = ArraySource(X, batch_size=8, shuffle="batch")
    batches = [x for x, _, _ in source.epoch()]
    assert [len(batch) for batch in batches] == [8, 8, 8, 6]
    np.testing.assert_array_equal(batches[3], X[24:])
    starts = {tuple(batch[0]) for batch in batches[:3]}
    assert starts == {tuple(X[0]), tuple(X[8]), tuple(X[16])}


def test_the_last_part_is_split_off():
    (x, y, weight), (held_x, held_y, held_weight) = split_off(X, Y, WEIGHT, 0.3)
    assert len(x) == len(y) == len(weight) == 21
    np.testing.assert_array_equal(held_x, X[21:])
    np.testing.assert_array_equal(held_y, Y[21:])
    np.testing.assert_array_equal(held_weight, WEIGHT[21:])


def test_epochs_of_so_many_steps_go_on_where_the_last_one_ended():
    rounds = Rounds(choose_source(X, batch_size=10), 2)
    firsts = [[x[0, 0] for x, _, _ in rounds.epoch()] for _ in range(3)]
    np.testing.assert_allclose(
        firsts, [[X[0, 0], X[10, 0]], [X[20, 0], X[0, 0]], [X[10, 0], X[20, 0]]]
    )


def test_data_that_end_too_soon_are_said():
    short = iter([(X[:8], Y[:8])] * 3)
    with pytest.warns(UserWarning, match="ended after 1 of 2 steps"):
        losses(short, steps_per_epoch=2)


def test_class_weights_count_for_each_step():
    made = recurrax.Sequential([layers.SimpleRNN(2, return_sequences=True), layers.Dense(3)])
    x = rng.normal(size=(6, 4, 2)).astype("float32")
    y = rng.integers(0, 3, (6, 4))
    y[0, 0] = 2
    made.compile("sgd", recurrax.losses.SparseCategoricalCrossentropy(from_logits=True))
    weights = np.where(y == 1, 3.0, 1.0).astype("float32")
    wanted = made.evaluate(x, y, sample_weight=weights, verbose=0)
    assert made.train_on_batch(x, y, class_weight={1: 3.0}) == pytest.approx(wanted, rel=1e-5)


ERRORS = [
    ((X, Y[:9]), {}, "same number of samples.*x: 30, y: 9"),
    ((X[:0], Y[:0]), {}, "no samples"),
    ((None, Y), {}, "x is missing"),
    ((["a", "b"], Y), {}, "x must be an array"),
    (([[1.0, 2.0], [3.0]], Y[:2]), {}, "rows of different lengths"),
    ((np.array([None, 1]), Y[:2]), {}, "dtype object"),
    ((X, None), {}, "needs targets: pass y"),
    ((X, Y), {"batch_size": 0.5}, "batch_size must be"),
    ((X, Y), {"batch_size": 0}, "but it is 0"),
    (([X[:4], X[:6]], Y[:2]), {}, r"np\.stack\(x\)"),
    (([X, X], Y), {}, "has one input, but got 2 arrays"),
    ((X, Y), {"sample_weight": WEIGHT[:3]}, "sample_weight: 3"),
    ((X, Y), {"class_weight": [1, 2]}, "class_weight must be a dictionary"),
    ((X, Y), {"class_weight": {0: 1}, "sample_weight": WEIGHT}, "not both"),
    ((X, Y), {"validation_split": 1.5}, "above 0 and below 1"),
    ((X, Y), {"validation_split": 0.99}, "leaves none for training"),
    ((X, Y), {"validation_data": (X, Y, WEIGHT, 1)}, "validation_data must be"),
    ((generator(), Y), {}, "y cannot be given beside x that gives batches"),
    ((generator(),), {"epochs": 2}, "steps_per_epoch"),
    ((generator(),), {"validation_split": 0.1}, "validation_split needs arrays"),
    ((iter([]),), {"steps_per_epoch": 1}, "hold no batch"),
    ((iter([(X, Y, Y, Y)]),), {"steps_per_epoch": 1}, "4 parts"),
]


@pytest.mark.parametrize(("data", "arguments", "message"), ERRORS, ids=[e[2] for e in ERRORS])
def test_data_that_do_not_fit_are_refused_with_the_mend(data, arguments, message):
    made = model()
    before = made.get_weights()
    with pytest.raises(ValueError, match=message):
        made.fit(*data, **{"epochs": 1, "verbose": 0, **arguments})
    for a, b in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
