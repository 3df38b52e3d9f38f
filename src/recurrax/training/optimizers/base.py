"""What an optimizer is: an update rule, its state in variables in Keras's order, and its steps."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.dtypes import floatx
from recurrax.layers import auto_config
from recurrax.naming import auto_name
from recurrax.registry import deserialize, nearest, serialize
from recurrax.training.checks import number, whole
from recurrax.training.optimizers.averaging import averaged
from recurrax.training.optimizers.clipping import clip
from recurrax.training.optimizers.learning_rate import checked, value_at
from recurrax.training.optimizers.rule import Rule, Step
from recurrax.training.schedules import LearningRateSchedule
from recurrax.variable import Variable


class Optimizer(Rule):
    """Base of optimizers: gradients in, new values of the variables out.

    A rule of its own defines `slot_groups()` and `delta(...)`. All state is in `variables`, in the
    order in which Keras keeps it: the number of steps, the learning rate, averages, accumulated
    gradients, slots; `stateless_apply` is a pure function of their values.

    Args:
        learning_rate: a number, a schedule, or a function without arguments.
        weight_decay: each step first takes this share, times the learning rate, off each variable.
        clipnorm: the gradient of each variable is scaled down to this norm.
        clipvalue: each entry of a gradient is limited to ± this value.
        global_clipnorm: all gradients together are scaled down to this norm.
        use_ema: keep an exponential moving average of the variables.
        ema_momentum: what share of the average stays at each step.
        ema_overwrite_frequency: every so many steps the variables become their averages; None: at
            the end of training.
        loss_scale_factor: the loss is multiplied and the gradients divided by it.
        gradient_accumulation_steps: an update is made every so many steps, with the mean of their
            gradients.
        name: name.

    Raises:
        ValueError: an argument is out of range or unknown, or two kinds of clipping are asked for.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        unknown.pop("jit_compile", None)
        if unknown.pop("decay", None):
            raise ValueError(
                "decay= is not supported any more: pass "
                "learning_rate=optimizers.schedules.InverseTimeDecay(...)."
            )
        if unknown:
            name = next(iter(unknown))
            near = nearest(name, auto_config.argument_names(type(self)))
            hint = " It is called learning_rate." if name == "lr" else near
            raise ValueError(f"{type(self).__name__} has no argument {name!r}.{hint}")
        if sum(clip is not None for clip in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(
                "Give one of clipnorm, clipvalue and global_clipnorm, but they are "
                f"{clipnorm}, {clipvalue} and {global_clipnorm}."
            )
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        for what, value in {**limits, "weight_decay": weight_decay}.items():
            if value is not None:
                number(what, value)
        if gradient_accumulation_steps is not None:
            whole("gradient_accumulation_steps", gradient_accumulation_steps, 2)
        if use_ema:
            number("ema_momentum", ema_momentum, 0, 1)
            if ema_overwrite_frequency is not None:
                whole("ema_overwrite_frequency", ema_overwrite_frequency)
        self.name = name or auto_name(type(self).__name__.lower())
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.built = False
        self._excluded: tuple[set[int], re.Pattern[str] | None] = (set(), None)
        self._trainable: list[Variable] = []
        self._averages: list[Variable] = []
        self._accumulators: list[Variable] = []
        self._slots: list[Variable] = []
        self._iterations = self._variable(np.zeros((), "int32"), "iteration")
        self._learning_rate: Any = None
        self._set_learning_rate(learning_rate)

    def build(self, variables: Iterable[Variable]) -> None:
        """Make the state for these variables; a second call does nothing."""
        if self.built:
            return
        self._trainable = list(variables)

        def beside(name: str) -> list[Variable]:
            return [
                self._variable(np.zeros(v.shape, v.dtype), f"{v.path.replace('/', '_')}_{name}")
                for v in self._trainable
            ]

        self._averages = beside("average") if self.use_ema else []
        self._accumulators = (
            beside("gradient_accumulator") if self.gradient_accumulation_steps else []
        )
        self._slots = self.build_slots(self._trainable)
        self.built = True

    @property
    def _own(self) -> list[Variable]:
        """The state that belongs to no variable."""
        rate = self._learning_rate
        return [self._iterations, *([rate] if isinstance(rate, Variable) else [])]

    @property
    def variables(self) -> list[Variable]:
        """All state, in Keras's order."""
        return [*self._own, *self._averages, *self._accumulators, *self._slots]

    @property
    def iterations(self) -> Any:
        """How many updates were made."""
        if self.gradient_accumulation_steps:
            return self._iterations.value // self.gradient_accumulation_steps
        return self._iterations

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; a number may be assigned to it."""
        if isinstance(self._learning_rate, Variable):
            return self._learning_rate
        return value_at(self._learning_rate, self._iterations.value)

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        if isinstance(self._learning_rate, LearningRateSchedule) and not callable(rate):
            raise TypeError(
                f"This optimizer follows a {type(self._learning_rate).__name__}, so that its "
                "learning rate cannot be set: make it with a number to set it later."
            )
        self._set_learning_rate(rate)

    def _set_learning_rate(self, rate: Any) -> None:
        rate = checked(rate)
        if not isinstance(rate, np.ndarray):
            self._learning_rate = rate
        elif isinstance(self._learning_rate, Variable):
            self._learning_rate.assign(rate)
        else:
            self._learning_rate = self._variable(rate, "learning_rate")

    lr = learning_rate

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all of `variables`.

        Raises:
            ValueError: another number or shape.
        """
        variables = self.variables
        if not self.built or len(weights) != len(variables):
            raise ValueError(
                f"{self.name} has {len(variables)} variables, but {len(weights)} values were "
                "given: build it with the model's trainable_variables first."
            )
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Variables that weight decay leaves alone: by object, or by a part of their name.

        Raises:
            ValueError: the optimizer has been built.
        """
        if self.built:
            raise ValueError("exclude_from_weight_decay must be called before the first step.")
        pattern = re.compile("|".join(set(var_names))) if var_names else None
        self._excluded = ({id(v) for v in var_list or ()}, pattern)

    def _decays(self, variable: Variable) -> bool:
        ids, pattern = self._excluded
        return id(variable) not in ids and not (pattern and pattern.search(variable.name))

    def scale_loss(self, loss: Any) -> Any:
        """The loss that gradients are to be taken of."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Any:
        """One step with pairs of a gradient and its variable."""
        pairs = list(grads_and_vars)
        for _, variable in pairs:
            if not isinstance(variable, Variable):
                raise ValueError(
                    "apply_gradients expects pairs of a gradient and its Variable, in this order, "
                    f"but the second of one is {variable!r:.80}."
                )
        if pairs:
            self.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])
        return self._iterations

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """One step: changes the variables that the optimizer was built with.

        Raises:
            ValueError: variables that it was not built with, or another number of gradients.
        """
        if trainable_variables is not None:
            self.build(trainable_variables)
            if len(grads) != len(trainable_variables):
                raise ValueError(
                    f"{self.name} got {len(grads)} gradients for {len(trainable_variables)} "
                    "variables: give one for each, None where there is none."
                )
            place = {id(v): i for i, v in enumerate(self._trainable)}
            ordered: list[Any] = [None] * len(self._trainable)
            for gradient, variable in zip(grads, trainable_variables, strict=True):
                if id(variable) not in place:
                    raise ValueError(
                        f"Variable {variable.path!r} is not one that {self.name} was built with: "
                        "make a new optimizer for other variables."
                    )
                ordered[place[id(variable)]] = gradient
            grads = ordered
        parameters, state = self.stateless_apply(
            [v.value for v in self.variables], grads, [v.value for v in self._trainable]
        )
        for variable, value in zip(self._trainable, parameters, strict=True):
            variable.assign(value)
        for variable, value in zip(self.variables, state, strict=True):
            variable.assign(value)

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Any
    ) -> tuple[list[Any], list[Any]]:
        """One step as a pure function.

        Args:
            optimizer_variables: values of `variables`.
            grads: a gradient for each trainable variable.
            trainable_variables: their values.

        Returns:
            The new values of the trainable variables and of `variables`.

        Raises:
            ValueError: the optimizer is not built, or a list has another length.
        """
        self._check(optimizer_variables, grads, trainable_variables)
        own, averages, accumulated, slots = self._parted(optimizer_variables)
        iteration = own[0]
        if isinstance(self._learning_rate, Variable):
            rate = own[1]
        else:
            rate = jnp.asarray(value_at(self._learning_rate, iteration), floatx())
        grads = list(grads)
        if self.loss_scale_factor is not None:
            grads = [None if g is None else g / self.loss_scale_factor for g in grads]
        old = list(trainable_variables)
        every = self.gradient_accumulation_steps
        updates = iteration // every if every else iteration
        step = Step(rate, updates + 1)
        if every:
            total = [
                a if g is None else g.astype(a.dtype) + a
                for g, a in zip(grads, accumulated, strict=True)
            ]
            new, accumulated, slots = jax.lax.cond(
                (iteration + 1) % every == 0,
                lambda: self._accumulated_step(grads, total, slots, old, step),
                lambda: (old, total, list(slots)),
            )
        else:
            new, slots = self._one_step(grads, slots, old, step)
        new = [
            p if v.constraint is None else v.constraint(p)
            for v, p in zip(self._trainable, new, strict=True)
        ]
        if self.use_ema:
            new, averages = averaged(
                new, averages, updates, self.ema_momentum, self.ema_overwrite_frequency
            )
        return new, [iteration + 1, *own[1:], *averages, *accumulated, *slots]

    def _check(self, state: Sequence[Any], grads: Sequence[Any], values: Sequence[Any]) -> None:
        if not self.built:
            raise ValueError(
                f"{self.name} has no state yet: call optimizer.build(trainable_variables) first."
            )
        for what, given, wanted in (
            ("values of optimizer.variables", len(state), len(self.variables)),
            ("gradients", len(grads), len(self._trainable)),
            ("values of trainable variables", len(values), len(self._trainable)),
        ):
            if given != wanted:
                raise ValueError(f"{self.name} needs {wanted} {what}, but {given} were given.")
        for gradient, variable in zip(grads, self._trainable, strict=True):
            if gradient is not None and np.shape(gradient) != variable.shape:
                raise ValueError(
                    f"The gradient of variable {variable.path!r} must have its shape, "
                    f"{variable.shape}, but it has shape {np.shape(gradient)}."
                )

    def _parted(self, values: Sequence[Any]) -> list[list[Any]]:
        parts, start = [], 0
        for group in (self._own, self._averages, self._accumulators, self._slots):
            parts.append(list(values[start : start + len(group)]))
            start += len(group)
        return parts

    def _accumulated_step(
        self, grads: list[Any], total: list[Any], slots: Any, old: list[Any], step: Step
    ) -> Any:
        every = self.gradient_accumulation_steps
        mean = [None if g is None else t / every for g, t in zip(grads, total, strict=True)]
        new, slots = self._one_step(mean, slots, old, step)
        return new, [jnp.zeros_like(t) for t in total], slots

    def _one_step(self, grads: Any, slots: Any, old: list[Any], step: Step) -> Any:
        grads = clip(grads, self.clipnorm, self.clipvalue, self.global_clipnorm)
        if self.weight_decay is not None:
            old = [
                p - p * self.weight_decay * step.learning_rate.astype(p.dtype)
                if g is not None and self._decays(v)
                else p
                for v, p, g in zip(self._trainable, old, grads, strict=True)
            ]
        new, slots = self.update(grads, slots, old, step)
        return new, list(slots)

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """At the end of training: with `use_ema`, the variables become their averages."""
        if self.use_ema and self.built:
            place = {id(v): a for v, a in zip(self._trainable, self._averages, strict=True)}
            for variable in var_list:
                if id(variable) in place:
                    variable.assign(place[id(variable)].value)

    def save_own_variables(self, store: Any) -> None:
        """Put the values of `variables` into `store`, under "0", "1", ..."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Take the values of `variables` out of `store`.

        Raises:
            ValueError: another number of values.
        """
        values = [store[str(i)] for i in range(len(store.keys()))]
        self.set_weights([np.asarray(value) for value in values])

    def get_config(self) -> dict[str, Any]:
        rate = self._learning_rate
        return {
            "name": self.name,
            "learning_rate": float(rate.numpy()) if isinstance(rate, Variable) else serialize(rate),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "Optimizer":
        rate = config.get("learning_rate")
        if isinstance(rate, Mapping):
            config = {**config, "learning_rate": deserialize(rate, custom_objects)}
        return cls(**config)
