"""The compiled step: state in, logs and state out, nothing copied and nobody waiting."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.training.logs import Logs, flatten


class Watch:
    """Counts steps on the device and keeps the number of the first whose loss was not finite."""

    def __init__(self) -> None:
        self.state: Any = (np.int32(0), np.int32(-1))

    @staticmethod
    def after(state: Any, loss: Any) -> Any:
        """The state after a step with this loss."""
        number, bad = state
        if loss is not None:
            broken = ~jnp.isfinite(jnp.mean(jnp.asarray(loss, "float32")))
            bad = jnp.where((bad < 0) & broken, number, bad)
        return number + 1, bad

    def first_bad(self) -> int | None:
        """The number, from 0 on, of the first step whose loss was not finite; waits for all."""
        bad = int(self.state[1])
        return None if bad < 0 else bad


class CompiledStep:
    """A step `(state, data) -> (logs, state)`, compiled with its state donated.

    Args:
        step: the step; what it returns as logs may hold dictionaries.
        eager: run it as it is written, compiling nothing.
    """

    def __init__(self, step: Callable[..., Any], eager: bool = False) -> None:
        self._names: list[str] = []

        def once(state: Any, watch: Any, data: Any) -> Any:
            logs, state = step(state, data)
            logs = flatten(logs)
            self._names[:] = logs
            return list(logs.values()), state, Watch.after(watch, logs.get("loss"))

        def several(state: Any, watch: Any, data: Any) -> Any:
            def body(carry: Any, batch: Any) -> Any:
                state, watch = carry
                logs, *new = once(state, watch, batch)
                # A loop's state keeps its types: weak ones are made strong.
                new = jax.tree.map(lambda n, old: jnp.asarray(n, old.dtype), tuple(new), carry)
                return new, logs

            carry = jax.tree.map(jnp.asarray, (state, watch))
            carry, logs = jax.lax.scan(body, carry, data)
            return [values[-1] for values in logs], *carry

        self._eager = eager
        self._once = once if eager else jax.jit(once, donate_argnums=(0, 1))
        self._several = jax.jit(several, donate_argnums=(0, 1))

    def compile_for(self, state: Any, batch: Any) -> None:
        """Compile the step for a batch of these shapes; state: arrays or shapes."""
        if not self._eager:
            self._once.lower(state, jax.tree.map(_shape, Watch().state), batch).compile()  # pyright: ignore

    def __call__(self, state: Any, watch: Watch, batches: list[Any]) -> tuple[Logs, Any]:
        """Run as many steps as there are batches; the logs are those after the last."""
        values: list[Any] = []
        if len(batches) == 1 or self._eager:
            for batch in batches:
                values, state, watch.state = self._once(state, watch.state, batch)
        else:
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
            values, state, watch.state = self._several(state, watch.state, stacked)
        return Logs(dict(zip(self._names, values, strict=True))), state


def shapes_of(state: Any) -> Any:
    """The shapes, dtypes and weak types of a state, which outlive its buffers."""
    return jax.tree.map(_shape, state)


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    weak = bool(getattr(x, "weak_type", False))
    return jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=weak)
