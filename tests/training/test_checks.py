"""Arguments that cannot be meant: what was expected, what came, and the mend."""

import numpy as np
import pytest

import recurrax as rx
from recurrax import callbacks, initializers, losses, metrics, optimizers

EYE = np.eye(3, dtype="float32")


def fit(**options):
    model = rx.Sequential([rx.Input((3,)), rx.layers.Dense(1)])
    model.compile(options.pop("optimizer", "sgd"), "mse", metrics=options.pop("metrics", None))
    model.fit(EYE, EYE[:, :1], verbose=0, **options)


CASES = [
    (lambda: optimizers.Adam(beta_1=1.5), "beta_1 must be a number from 0 to 1, but it is 1.5"),
    (lambda: optimizers.Adam(epsilon="small"), "epsilon must be a number from 0 on, .* 'small'"),
    (lambda: optimizers.RMSprop(rho=-1), "rho must be .* but it is -1"),
    (lambda: optimizers.SGD(clipnorm=-1.0), "clipnorm must be .* but it is -1.0"),
    (lambda: optimizers.SGD(True), "learning_rate must be a number, .* but it is True"),
    (lambda: setattr(optimizers.SGD(), "learning_rate", "fast"), "learning_rate must be .* 'fast'"),
    (lambda: optimizers.SGD(gradient_accumulation_steps=2.5), "an integer from 2 on, .* 2.5"),
    (
        lambda: optimizers.SGD(use_ema=True, ema_overwrite_frequency=0),
        "ema_overwrite_frequency must be an integer from 1 on, but it is 0",
    ),
    (lambda: optimizers.SGD().apply([EYE], [rx.Variable(EYE)] * 2), "1 gradients for 2 variables"),
    (
        lambda: optimizers.SGD().apply([EYE[0]], [rx.Variable(EYE)]),
        r"must have its shape, \(3, 3\), but it has shape \(3,\)",
    ),
    (
        lambda: optimizers.SGD().apply_gradients([(rx.Variable(EYE), EYE)]),
        "pairs of a gradient and its Variable, in this order",
    ),
    (
        lambda: optimizers.schedules.PiecewiseConstantDecay([5, 1], [0.1, 0.2, 0.3]),
        r"boundaries must ascend, but they are \[5, 1\]",
    ),
    (
        lambda: losses.mean_squared_error(EYE, EYE[:, :2]),
        r"\(3, 3\) and y_pred has shape \(3, 2\)",
    ),
    (
        lambda: losses.MeanSquaredError()(EYE, EYE, np.ones(4)),
        r"sample_weight\) or the mask have shape \(4,\), but what they weigh has shape \(3,\)",
    ),
    (
        lambda: losses.BinaryCrossentropy(label_smoothing=2.0)(EYE, EYE),
        "label_smoothing must be a number from 0 to 1, but it is 2.0",
    ),
    (lambda: metrics.TopKCategoricalAccuracy(k=0), "k must be an integer from 1 on, but it is 0"),
    (lambda: metrics.Precision(top_k=0), "top_k must be an integer"),
    (lambda: metrics.Precision(class_id=7)(EYE, EYE), "class_id=7 is none of the 3 classes"),
    (lambda: metrics.Precision()(EYE, EYE[:, :2]), "must be equal: give each prediction its truth"),
    (lambda: metrics.AUC(thresholds=[2.0]), r"thresholds must be from 0 to 1, .*\[2.0\]"),
    (
        lambda: metrics.AUC(multi_label=True, num_labels=2)(EYE, EYE),
        "num_labels of AUC .* is for 2 labels",
    ),
    (lambda: metrics.AUC(label_weights=[1.0])(EYE, EYE), "label_weights of AUC .* is for 1 labels"),
    (lambda: metrics.AUC(multi_label=True).result(), "AUC .* has no result yet"),
    (lambda: metrics.F1Score().result(), r"so call update_state\(y_true, y_pred\) first"),
    (lambda: metrics.R2Score().result(), "R2Score .* has no result yet"),
    (lambda: metrics.Mean()(np.ones(3), np.ones(4)), "give one for each sample"),
    (
        lambda: initializers.Constant(np.ones(3))((2, 2)),
        r"\(3,\), but the weight has shape \(2, 2\)",
    ),
    (lambda: initializers.RandomNormal(seed="a"), "seed must be an integer, .* 'a'"),
    (lambda: fit(optimizer=None), "optimizer must be a name .* leave it out for the default"),
    (lambda: fit(sample_weight=np.ones((3, 2))), r"shape \(3, 2\), but what they weigh"),
    (lambda: fit(class_weight={0: "a"}), r"class_weight\[0\] must be a number, but it is 'a'"),
    (lambda: fit(epochs=1.5), "epochs must be an integer from 0 on, but it is 1.5"),
    (lambda: fit(validation_freq=0), "validation_freq must be an integer from 1 on"),
    (lambda: fit(steps_per_epoch=0), "steps_per_epoch must be an integer from 1 on"),
    (lambda: fit(shuffle="yes"), "shuffle must be True, False or .* but it is 'yes'"),
    (lambda: callbacks.EarlyStopping(patience=-1), "patience must be an integer from 0 on"),
    (lambda: callbacks.EarlyStopping(None), "monitor must be a name such as"),
    (lambda: callbacks.ModelCheckpoint("a.keras", save_freq=0), "save_freq must be .* it is 0"),
    (lambda: callbacks.ReduceLROnPlateau(factor=-1), "factor must be a number from 0 on"),
    (lambda: callbacks.LearningRateScheduler(0.1), "schedule must be a function .* is 0.1"),
    (lambda: callbacks.CSVLogger("a.csv", "ab"), "separator must be one character, .* 'ab'"),
    (lambda: callbacks.LambdaCallback(on_epoch_end=3), "on_epoch_end must be a function"),
    (lambda: rx.models.clone_model("x"), "clone_model expected a model, but got 'x'"),
]


@pytest.mark.parametrize(("call", "text"), CASES, ids=[text[:40] for _, text in CASES])
def test_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_a_class_of_metrics_stands_for_one_of_it():
    fit(metrics=[metrics.MeanAbsoluteError])


def test_a_loss_that_is_no_number_can_be_an_error():
    callback = callbacks.TerminateOnNaN(raise_error=True)
    callback.on_train_batch_end(0, {"loss": 1.0})
    with pytest.raises(RuntimeError, match="Step 2: the loss is nan"):
        callback.on_train_batch_end(1, {"loss": float("nan")})


def test_initializers_go_by_their_short_names():
    for name in ("glorot_uniform", "orthogonal", "zeros", "constant", "IdentityInitializer"):
        made = getattr(initializers, name)()
        assert type(initializers.get(name)) is type(made)
        assert initializers.serialize(made)["class_name"] == type(made).__name__
