"""Optimizers against Keras's: several steps on random parameters, the state in the same order."""

import jax
import keras
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurrax.training import optimizers
from recurrax.training.optimizers import schedules
from recurrax.variable import Variable

# Keras's own reading of its variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPES = [(4, 3), (3,), (2, 3, 4)]

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "epsilon": 1e-3, "learning_rate": 0.1}),
    ("AdamW", {"learning_rate": 0.02}),
    ("Nadam", {"learning_rate": 0.02}),
    ("Adamax", {"learning_rate": 0.02}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "rho": 0.8}),
    ("Adagrad", {"learning_rate": 0.1}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Ftrl", {"learning_rate": 0.1, "l1_regularization_strength": 0.01, "beta": 0.1}),
    ("Lion", {}),
    ("Lamb", {"learning_rate": 0.02}),
    ("Adafactor", {"learning_rate": 0.02}),
    ("Adam", {"clipnorm": 0.5}),
    ("Adam", {"clipvalue": 0.2}),
    ("SGD", {"global_clipnorm": 0.5, "learning_rate": 0.3}),
    ("Adam", {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 3}),
    ("SGD", {"use_ema": True, "ema_momentum": 0.9}),
    ("Adam", {"gradient_accumulation_steps": 2, "clipnorm": 0.5}),
    ("SGD", {"loss_scale_factor": 8.0}),
]


def values(seed, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def compare(ours, theirs, steps=6, constraint=False, seed=0):
    mine = [Variable(v, name=f"v{i}") for i, v in enumerate(values(seed))]
    keras_variables = [keras.Variable(v, name=f"v{i}") for i, v in enumerate(values(seed))]
    if constraint:
        mine[0].constraint = keras_variables[0].constraint = keras.constraints.NonNeg()
    for step in range(steps):
        gradients = values(100 + step + seed)
        ours.apply_gradients(zip(gradients, mine, strict=True))
        theirs.apply_gradients(zip(map(keras.ops.array, gradients), keras_variables, strict=True))
    for a, b in zip(mine, keras_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), np.asarray(b.value), rtol=2e-6, atol=1e-6)
    assert [v.shape for v in ours.variables] == [tuple(v.shape) for v in theirs.variables]
    for a, b in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(
            a.numpy(), np.asarray(b.value), rtol=2e-6, atol=1e-6, err_msg=a.path
        )
    assert int(ours.iterations) == int(keras.ops.convert_to_tensor(theirs.iterations))


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=lambda case: str(case))
def test_steps_and_state_are_keras(name, arguments):
    ours, theirs = getattr(optimizers, name)(**arguments), getattr(keras.optimizers, name)
    theirs = theirs(**arguments)
    compare(ours, theirs)
    config, wanted = ours.get_config(), theirs.get_config()
    assert {k: config[k] for k in wanted if k != "name"} == pytest.approx(
        {k: v for k, v in wanted.items() if k != "name"}
    )
    again = optimizers.deserialize(optimizers.serialize(ours))
    assert again.get_config() == config


def test_constraints_are_applied_after_each_step():
    compare(optimizers.SGD(0.5), keras.optimizers.SGD(0.5), constraint=True)


def test_excluded_variables_do_not_decay():
    ours, theirs = optimizers.AdamW(weight_decay=0.5), keras.optimizers.AdamW(weight_decay=0.5)
    for optimizer in (ours, theirs):
        optimizer.exclude_from_weight_decay(var_names=["v1"])
    compare(ours, theirs)


SCHEDULES = [
    ("ExponentialDecay", (0.1, 3, 0.5), {}),
    ("ExponentialDecay", (0.1, 3, 0.5), {"staircase": True}),
    ("PiecewiseConstantDecay", ([2, 5], [0.3, 0.2, 0.1]), {}),
    ("PolynomialDecay", (0.1, 7), {"power": 2.0}),
    ("PolynomialDecay", (0.1, 7), {"cycle": True}),
    ("InverseTimeDecay", (0.1, 3, 0.5), {}),
    ("InverseTimeDecay", (0.1, 3, 0.5), {"staircase": True}),
    ("CosineDecay", (0.1, 15), {"alpha": 0.1}),
    ("CosineDecay", (0.0, 9), {"warmup_target": 0.2, "warmup_steps": 4}),
    ("CosineDecayRestarts", (0.1, 4), {"m_mul": 0.8}),
    ("CosineDecayRestarts", (0.1, 4), {"t_mul": 1.0, "alpha": 0.2}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), SCHEDULES, ids=str)
def test_schedules_are_keras(name, args, kwargs):
    ours = getattr(schedules, name)(*args, **kwargs)
    theirs = getattr(keras.optimizers.schedules, name)(*args, **kwargs)
    assert ours.get_config() == theirs.get_config()
    steps = np.arange(0, 24)
    np.testing.assert_allclose(
        [ours(s) for s in steps], [theirs(s) for s in steps], rtol=1e-5, atol=1e-7
    )
    again = schedules.deserialize(schedules.serialize(ours))
    assert again.get_config() == ours.get_config()


def test_a_schedule_sets_the_rate_of_each_step():
    compare(
        optimizers.Adam(schedules.ExponentialDecay(0.1, 2, 0.5)),
        keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
    )
    optimizer = optimizers.SGD(schedules.ExponentialDecay(0.1, 2, 0.5))
    assert len(optimizer.variables) == 1
    with pytest.raises(TypeError, match="follows a ExponentialDecay"):
        optimizer.learning_rate = 0.1
    assert optimizers.get(optimizers.serialize(optimizer)).get_config() == optimizer.get_config()


def test_the_learning_rate_can_be_set():
    optimizer = optimizers.SGD(0.5)
    variable = Variable(np.ones(2, "float32"))
    optimizer.apply([np.ones(2, "float32")], [variable])
    optimizer.learning_rate = 0.25
    optimizer.apply([np.ones(2, "float32")])
    np.testing.assert_allclose(variable.numpy(), 0.25)
    assert float(optimizer.learning_rate) == 0.25


@settings(deadline=None, max_examples=4)
@given(
    name=st.sampled_from(["SGD", "Adam", "RMSprop", "Nadam"]),
    rate=st.floats(1e-4, 0.02),
    weight_decay=st.sampled_from([None, 0.01]),
    clip=st.sampled_from([{}, {"clipnorm": 1.0}, {"clipvalue": 0.5}, {"global_clipnorm": 2.0}]),
    ema=st.booleans(),
    every=st.sampled_from([None, 2]),
    seed=st.integers(0, 50),
)
def test_combinations_are_keras(name, rate, weight_decay, clip, ema, every, seed):
    arguments = {
        "learning_rate": rate,
        "weight_decay": weight_decay,
        "use_ema": ema,
        "gradient_accumulation_steps": every,
        **clip,
    }
    ours = getattr(optimizers, name)(**arguments)
    theirs = getattr(keras.optimizers, name)(**arguments)
    ours.build([Variable(v) for v in values(seed)])
    theirs.build([keras.Variable(v) for v in values(seed)])
    mine = (values(seed), [v.numpy() for v in ours.variables])
    wanted = (values(seed), [v.value for v in theirs.variables])
    step, keras_step = jax.jit(ours.stateless_apply), jax.jit(theirs.stateless_apply)
    for number in range(4):
        gradients = values(seed + number + 1)
        mine, wanted = (
            step(mine[1], gradients, mine[0]),
            keras_step(wanted[1], gradients, wanted[0]),
        )
    for a, b in zip((*mine[0], *mine[1]), (*wanted[0], *wanted[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_an_optax_transformation_is_taken_as_it_is():
    transformation = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.05))
    optimizer = optimizers.get(transformation)
    mine = [Variable(v) for v in values(0)]
    params = values(0)
    state = transformation.init(params)
    for step in range(4):
        optimizer.apply(values(step), mine)
        updates, state = transformation.update(values(step), state, params)
        params = optax.apply_updates(params, updates)
    for a, b in zip(mine, params, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-6)
    saved = [v.numpy() for v in optimizer.variables]
    again = optimizers.get(transformation)
    again.build(mine)
    again.set_weights(saved)
    assert all((a.numpy() == b).all() for a, b in zip(again.variables, saved, strict=True))
    with pytest.raises(AttributeError, match="inject_hyperparams"):
        _ = optimizer.learning_rate


def test_injected_hyperparameters_can_be_set():
    optimizer = optimizers.get(optax.inject_hyperparams(optax.sgd)(learning_rate=0.5))
    variable = Variable(np.ones(2, "float32"))
    optimizer.apply([np.ones(2, "float32")], [variable])
    optimizer.learning_rate = 0.1
    optimizer.apply([np.ones(2, "float32")])
    np.testing.assert_allclose(variable.numpy(), 0.4, rtol=1e-6)


def test_loss_scale_is_keras():
    ours = optimizers.LossScaleOptimizer(optimizers.SGD(0.1), 8.0, dynamic_growth_steps=2)
    theirs = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 8.0, 2)
    ours.build([Variable(v) for v in values(0)])
    theirs.build([keras.Variable(v) for v in values(0)])
    mine, wanted = (values(0), [v.numpy() for v in ours.variables]), values(0)
    wanted = (wanted, [v.value for v in theirs.variables])
    for step in range(7):
        gradients = values(step)
        if step == 3:
            gradients[1][0] = np.inf
        mine = ours.stateless_apply(mine[1], gradients, mine[0])
        wanted = theirs.stateless_apply(wanted[1], gradients, wanted[0])
    for a, b in zip((*mine[0], *mine[1]), (*wanted[0], *wanted[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert float(ours.scale_loss(np.float32(2.0))) == 16.0


@pytest.mark.parametrize("every", [None, 2])
def test_a_missing_gradient_leaves_its_variable(every):
    optimizer = optimizers.Adam(weight_decay=0.1, gradient_accumulation_steps=every)
    mine = [Variable(v) for v in values(0)]
    gradients = values(1)
    for _ in range(every or 1):
        optimizer.apply([gradients[0], None, gradients[2]], mine)
    np.testing.assert_array_equal(mine[1].numpy(), values(0)[1])
    assert not np.array_equal(mine[0].numpy(), values(0)[0])


def test_errors_name_the_mend():
    with pytest.raises(ValueError, match="Did you mean 'adam'"):
        optimizers.get("adamm")
    with pytest.raises(ValueError, match="Give one of clipnorm"):
        optimizers.Adam(clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ValueError, match=r"no argument 'clipnrm'\. Did you mean 'clipnorm'"):
        optimizers.Adam(clipnrm=1.0)
    with pytest.raises(ValueError, match="It is called learning_rate"):
        optimizers.Adam(lr=1.0)
    with pytest.raises(ValueError, match="learning_rate must be a number"):
        optimizers.Adam("fast")
    with pytest.raises(ValueError, match="is not one that mine was built with"):
        optimizer = optimizers.Adam(name="mine")
        optimizer.build([Variable(np.zeros(2))])
        optimizer.apply([np.zeros(2)], [Variable(np.zeros(2))])
    with pytest.raises(ValueError, match="has no state yet"):
        optimizers.Adam().stateless_apply([], [], [])
    with pytest.raises(TypeError, match="The optimizer must be"):
        optimizers.get(len)
