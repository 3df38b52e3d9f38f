"""What a metric is: a state in variables, updated batch by batch, and a result."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recurrax import initializers
from recurrax.dtypes import floatx
from recurrax.naming import auto_name, to_snake_case
from recurrax.variable import StatelessScope, Variable, name_scope


class Metric:
    """Base of metrics. Define `update_state(...)` and `result()`.

    The state is in variables (`add_variable`), so `update_state` can be traced: a training step
    updates its metrics on the device and nobody waits for them.

    Args:
        dtype: data type of the state; the default floating-point type.
        name: shown in the bar and the history.

    Attributes:
        direction: "up" where a larger result is better, "down" where a smaller one is, None where
            nobody said; callbacks that look for the best result go by it.
    """

    direction: str | None = None

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or auto_name(to_snake_case(type(self).__name__))
        self.dtype = floatx() if dtype is None else jnp.dtype(dtype).name
        self._variables: list[Variable] = []

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        name: str | None = None,
        **_: Any,
    ) -> Variable:
        """Make a variable of the metric's state."""
        with name_scope(self.name):
            variable = Variable(
                initializers.get(initializer) or np.zeros(tuple(shape), dtype or self.dtype),
                shape=tuple(shape),
                dtype=dtype or self.dtype,
                trainable=False,
                name=name,
                autocast=False,
            )
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Make a variable of the metric's state."""
        return self.add_variable(shape, initializer, dtype, name)

    @property
    def variables(self) -> list[Variable]:
        """The state, that of metrics among the attributes included."""
        inner = [v for m in vars(self).values() if isinstance(m, Metric) for v in m.variables]
        return [*self._variables, *inner]

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Take in a batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no update_state(self, ...).")

    def result(self) -> Any:
        """The value so far: a scalar, an array or a dictionary of them."""
        raise NotImplementedError(f"{type(self).__name__} defines no result(self).")

    def check_begun(self) -> None:
        """Raise ValueError before the first batch, whose shapes the variables are made by."""
        if not self._variables:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} has no result yet: its variables have the "
                "shape of the predictions, so call update_state(y_true, y_pred) first."
            )

    def reset_state(self) -> None:
        """Begin again."""
        for variable in self.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    reset_states = reset_state

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.update_state(*args, **kwargs)
        return self.result()

    def _scope(self, values: Sequence[Any]) -> StatelessScope:
        variables = self.variables
        if len(values) != len(variables):
            raise ValueError(
                f"Metric {self.name!r} has {len(variables)} variables, but {len(values)} values "
                "were given: pass one value for each of metric.variables, in their order."
            )
        return StatelessScope(zip(variables, values, strict=True))

    def _after(self, scope: StatelessScope) -> list[Any]:
        now = [(v, scope.get_current_value(v)) for v in self.variables]
        return [v.value if value is None else value for v, value in now]

    def stateless_update_state(
        self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any
    ) -> list[Any]:
        """`update_state` as a pure function: old values of `variables` in, new ones out."""
        with self._scope(metric_variables) as scope:
            self.update_state(*args, **kwargs)
        return self._after(scope)

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """`result` as a pure function of the values of `variables`."""
        with self._scope(metric_variables):
            return self.result()

    def stateless_reset_state(self) -> list[Any]:
        """The values of `variables` at the beginning."""
        with StatelessScope() as scope:
            self.reset_state()
        return self._after(scope)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Metric":
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def as_array(x: Any) -> Array:
    """`x` as a JAX array, a tuple or list of arrays stacked."""
    return jnp.asarray(jax.tree.map(jnp.asarray, x) if isinstance(x, list | tuple) else x)
