"""The steps of training, evaluation and prediction as pure functions of the variables' values."""

from collections.abc import Sequence
from typing import Any

import jax

from recurrax.layers.mask import get_mask, set_mask
from recurrax.training.compiling import Compiled
from recurrax.training.data import length_of
from recurrax.training.step import CompiledStep
from recurrax.utils import unpack_x_y_sample_weight as unpack
from recurrax.variable import StatelessScope


class Steps(Compiled):
    """The part of `Trainer` that is one step; models of your own override its methods."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of a batch: that of `compile`, and those of the layers.

        Raises:
            ValueError: there is no loss at all.
        """
        del x, training
        losses = []
        if self._objective is not None:
            value = self._objective(y, y_pred, sample_weight)
            if value is not None:
                losses.append(value)
        losses += [value.sum() for value in self.losses]
        if not losses:
            raise ValueError(
                "There is no loss: call model.compile(loss=...), or add one in a layer with "
                "self.add_loss(...)."
            )
        return sum(losses[1:], losses[0])

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Take a batch into the metrics of `compile`, and return all results."""
        del x
        if self._metric_set is not None:
            self._metric_set.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def compute_loss_and_updates(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        metrics_variables: Sequence[Any],
        x: Any,
        y: Any,
        sample_weight: Any,
        training: bool = False,
        optimizer_variables: Sequence[Any] | None = None,
    ) -> tuple[Any, Any]:
        """The loss of a batch as a pure function of the variables' values.

        Returns:
            The loss to differentiate; and the loss, the outputs, and the new values of the
            non-trainable and of the metrics' variables.
        """
        pairs = [
            *zip(self.trainable_variables, trainable_variables, strict=True),
            *zip(self.non_trainable_variables, non_trainable_variables, strict=True),
            *zip(self.metrics_variables, metrics_variables, strict=True),
        ]
        optimizer = self._optimizer
        if optimizer is not None and optimizer_variables is not None:
            pairs += zip(optimizer.variables, optimizer_variables, strict=True)
        with StatelessScope(pairs) as scope:
            y_pred = self(x, training=training)
            loss = self.compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
            )
            if self._loss_tracker is not None:
                self._loss_tracker.update_state(
                    jax.lax.stop_gradient(loss), sample_weight=length_of(x)
                )
            self.compute_metrics(x, y, _detached(y_pred), sample_weight)
            scaled = loss
            if training and optimizer is not None:
                scaled = optimizer.scale_loss(loss)
        non_trainable = [scope.get_current_value(v) for v in self.non_trainable_variables]
        metrics = [scope.get_current_value(v) for v in self.metrics_variables]
        return scaled, (loss, y_pred, non_trainable, metrics)

    def _results(self, metrics_variables: Sequence[Any]) -> dict[str, Any]:
        with StatelessScope(zip(self.metrics_variables, metrics_variables, strict=True)):
            return self.get_metrics_result()

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """One step of training.

        Args:
            state: values of the trainable, non-trainable, optimizer and metrics variables.
            data: a batch `x`, `(x, y)` or `(x, y, sample_weight)`.

        Returns:
            Logs by name, and the new state.
        """
        trainable, non_trainable, optimizer_variables, metrics = state
        x, y, sample_weight = unpack(data)
        differentiated = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (_, (_, _, non_trainable, metrics)), gradients = differentiated(
            trainable,
            non_trainable,
            metrics,
            x,
            y,
            sample_weight,
            training=True,
            optimizer_variables=optimizer_variables,
        )
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
        return self._results(metrics), (trainable, non_trainable, optimizer_variables, metrics)

    def test_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """One step of evaluation; state: values of the trainable, non-trainable and metrics
        variables."""
        trainable, non_trainable, metrics = state
        x, y, sample_weight = unpack(data)
        _, (_, _, non_trainable, metrics) = self.compute_loss_and_updates(
            trainable, non_trainable, metrics, x, y, sample_weight, training=False
        )
        return self._results(metrics), (trainable, non_trainable, metrics)

    def predict_step(self, state: Any, data: Any) -> tuple[Any, Any]:
        """One step of prediction; state: values of the trainable and non-trainable variables."""
        trainable, non_trainable = state
        x, _, _ = unpack(data)
        outputs, non_trainable = self.stateless_call(trainable, non_trainable, x, training=False)
        return outputs, (trainable, non_trainable)

    def make_train_function(self) -> Any:
        """The compiled step of training."""
        if self._train_function is None:
            self._train_function = CompiledStep(self.train_step, self._run_eagerly)
        return self._train_function

    def make_test_function(self) -> Any:
        """The compiled step of evaluation."""
        if self._test_function is None:
            self._test_function = CompiledStep(self.test_step, self._run_eagerly)
        return self._test_function

    def make_predict_function(self) -> Any:
        """The compiled step of prediction."""
        if self._predict_function is None:

            def predict(trainable: Any, non_trainable: Any, data: Any) -> Any:
                outputs, state = self.predict_step((trainable, non_trainable), data)
                return outputs, state[1]

            self._predict_function = (
                predict if self._run_eagerly else jax.jit(predict, donate_argnums=1)
            )
        return self._predict_function


def _detached(y_pred: Any) -> Any:
    """The outputs as constants for differentiation, masks and all."""

    def detach(leaf: Any) -> Any:
        mask, constant = get_mask(leaf), jax.lax.stop_gradient(leaf)
        if mask is not None and constant is not leaf:
            set_mask(constant, mask)
        return constant

    return jax.tree.map(detach, y_pred)
