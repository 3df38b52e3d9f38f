"""What is done before the first step: variables are made, and data that do not fit refused."""

from typing import Any

import jax

from recurrax.training.data import ArraySource, Source
from recurrax.variable import StatelessScope


def ready(model: Any, batch: Any, training: bool, targets: bool = True) -> None:
    """Make all variables for batches like this one.

    Args:
        model: a `Trainer`.
        batch: `(x, y, sample_weight)`.
        training: make the optimizer's variables too.
        targets: make those of the metrics too.

    Raises:
        ValueError: targets are missing, or do not fit the outputs.
    """
    x, y, _ = batch
    if not model.built:
        output_shapes(model, x)
    if targets and model.compiled:
        objective, metric_set = model._objective, model._metric_set
        names = getattr(model, "output_names", None)
        if objective is not None:
            if y is None:
                raise ValueError(
                    "The model was compiled with a loss, which needs targets: pass y, or batches "
                    "of (x, y)."
                )
            if not objective.built:
                objective.build(jax.tree.map(_struct, y), output_shapes(model, x), names)
        if metric_set is not None and not metric_set.built:
            metric_set.build(jax.tree.map(_struct, y), output_shapes(model, x), names)
    if training and model.optimizer is not None:
        model.optimizer.build(model.trainable_variables)


def output_shapes(model: Any, x: Any) -> Any:
    """Shapes and dtypes of the outputs for inputs like `x`; builds the model, computes nothing."""
    shapes = jax.tree.map(_struct, x)
    key = tuple((leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves(shapes))
    known = model.__dict__.setdefault("_known_outputs", {})
    if key not in known:
        with StatelessScope():
            known[key] = jax.eval_shape(lambda x: model(x, training=False), shapes)
    return known[key]


def check_arrays(model: Any, source: Source, targets: bool) -> None:
    """Refuse values on the host that the model cannot take, before any compilation.

    Raises:
        ValueError: an id outside an `Embedding`, a label outside the classes.
    """
    if not isinstance(source, ArraySource):
        return
    if hasattr(model, "check_values"):
        model.check_values(source.x)
    objective = model._objective
    if targets and objective is not None and source.y is not None:
        objective.check_targets(source.y, output_shapes(model, source.peek()[0]))


def check_trainable(model: Any) -> None:
    """Refuse to train variables that the optimizer was not made for.

    Raises:
        ValueError: the trainable variables are others than at the first step.
    """
    known, now = model.optimizer._trainable, model.trainable_variables
    if [id(v) for v in known] != [id(v) for v in now]:
        raise ValueError(
            f"The optimizer was made for {len(known)} variables, but the model now has {len(now)} "
            "trainable ones, or others: call compile() again after changing `trainable` or the "
            "layers."
        )


def _struct(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype))
