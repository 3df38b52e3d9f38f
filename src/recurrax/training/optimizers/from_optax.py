"""Any optax transformation as an optimizer."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recurrax.training.optimizers.base import Optimizer
from recurrax.training.optimizers.rule import Step
from recurrax.variable import Variable


class OptaxOptimizer(Optimizer):
    """An optax `GradientTransformation`, as it is.

    Its state is a variable for each array in it, in the order of the tree. The learning rate is
    the transformation's own; where it was made by `optax.inject_hyperparams`,
    `optimizer.learning_rate` reads and sets it.

    Args:
        transformation: what `optax.adam(1e-3)`, `optax.chain(...)` and their like return.
        kwargs: as for `Optimizer`.
    """

    def __init__(self, transformation: Any, name: str | None = None, **kwargs: Any) -> None:
        self.transformation = transformation
        super().__init__(lambda: 0.0, name=name or "optax", **kwargs)

    def build_slots(self, parameters: Sequence[Variable]) -> list[Variable]:
        state = self.transformation.init([v.value for v in parameters])
        leaves, self._treedef = jax.tree.flatten_with_path(state)
        self._paths = [jax.tree_util.keystr(path) for path, _ in leaves]
        return [
            self._variable(leaf, f"state{path}")
            for path, (_, leaf) in zip(self._paths, leaves, strict=True)
        ]

    def update(
        self, gradients: Sequence[Any], slots: Sequence[Array], parameters: list[Array], step: Step
    ) -> tuple[list[Array], list[Array]]:
        gradients = [
            jnp.zeros_like(p) if g is None else g.astype(p.dtype)
            for g, p in zip(gradients, parameters, strict=True)
        ]
        state = jax.tree.unflatten(self._treedef, slots)
        changes, state = self.transformation.update(gradients, state, parameters)
        new = [p + c.astype(p.dtype) for p, c in zip(parameters, changes, strict=True)]
        return new, jax.tree.leaves(state)

    def _hyperparameter(self) -> Variable:
        if self.built:
            for path, variable in zip(self._paths, self._slots, strict=True):
                if path.endswith(".hyperparams['learning_rate']"):
                    return variable
        raise AttributeError(
            "This optax transformation does not tell its learning rate: make it with "
            "optax.inject_hyperparams(optax.adam)(learning_rate=...) and train a step to read or "
            "set it."
        )

    @property
    def learning_rate(self) -> Any:
        """The learning rate, where `optax.inject_hyperparams` made the transformation."""
        return self._hyperparameter()

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        self._hyperparameter().assign(jnp.asarray(rate, "float32"))

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError(
            "An optax transformation is functions and cannot be put into a configuration: save the "
            "model with include_optimizer=False, or use one of recurrax.optimizers."
        )
