"""What an update rule is, in optax's form: what to add to a parameter, and its slots beside it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from recurrax.variable import Variable

# Slots of one parameter by name.
Slots = Mapping[str, Array]


class Step(NamedTuple):
    """What an update rule may know: the learning rate, and the number of the update from 1 on."""

    learning_rate: Array
    number: Array


class Rule:
    """Base of update rules: what an optimizer defines of its own, and what follows from it.

    Slots are variables, named after the optimizer's `name` and the parameter they stand beside.
    """

    name: str

    def slot_groups(self) -> tuple[tuple[str, ...], ...]:
        """Names of the slots that each parameter has. Those of one group stand together."""
        return ()

    def initial_slot(self, name: str, parameter: Variable) -> np.ndarray | None:
        """The value of a slot at first; None: this parameter has no such slot."""
        del name
        return np.zeros(parameter.shape, parameter.dtype)

    def delta(
        self, gradient: Array, parameter: Array, slots: Slots, step: Step
    ) -> tuple[Array, dict[str, Array]]:
        """What to add to `parameter`, and the new slots."""
        raise NotImplementedError(f"{type(self).__name__} defines no delta(...).")

    def build_slots(self, parameters: Sequence[Variable]) -> list[Variable]:
        """The variables of all slots, in Keras's order."""
        self._slot_keys: list[tuple[int, str]] = []
        slots = []
        for group in self.slot_groups():
            for i, parameter in enumerate(parameters):
                for name in group:
                    value = self.initial_slot(name, parameter)
                    if value is not None:
                        self._slot_keys.append((i, name))
                        path = parameter.path.replace("/", "_")
                        slots.append(self._variable(value, f"{path}_{name}"))
        return slots

    def update(
        self, gradients: Sequence[Any], slots: Sequence[Array], parameters: list[Array], step: Step
    ) -> tuple[list[Array], list[Array]]:
        """New parameters and slots; a parameter whose gradient is None stays, and so do its slots.

        Args:
            gradients: one for each parameter.
            slots: values in the order of `build_slots`.
            parameters: values.
            step: learning rate and number.
        """
        of: list[dict[str, Array]] = [{} for _ in parameters]
        for (i, name), value in zip(self._slot_keys, slots, strict=True):
            of[i][name] = value
        updated = list(parameters)
        for i, (gradient, parameter) in enumerate(zip(gradients, parameters, strict=True)):
            if gradient is not None:
                rate = step.learning_rate.astype(parameter.dtype)
                number = step.number.astype(parameter.dtype)
                change, of[i] = self.delta(
                    gradient.astype(parameter.dtype), parameter, of[i], Step(rate, number)
                )
                updated[i] = parameter + change
        return updated, [of[i][name] for i, name in self._slot_keys]

    def _variable(self, value: Any, name: str) -> Variable:
        """A variable of the state."""
        variable = Variable(value, trainable=False, name=name, autocast=False)
        variable.path = f"{self.name}/{name}"
        return variable
