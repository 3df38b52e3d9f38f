"""A training step over a cell of Equinox, written for one sample: `recurrax.scan`, `jax.lax.scan`.

    python benchmarks/equinox_cells.py [--rounds 5]

`jax.vmap` around the model makes the batch, as Equinox's users do; forward, backward and all
gradients.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import harness

SHAPE = (32, 100, 64, 128)


def prepare(loop: str, kind: str) -> Callable[[], Any]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import recurrax

    scan = {"recurrax": recurrax.scan, "lax": jax.lax.scan}[loop]
    batch, steps, features, units = SHAPE
    cell = getattr(eqx.nn, f"{kind}Cell")(features, units, key=jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (batch, steps, features))
    zeros = jnp.zeros(units)

    def last(cell: Any, xs: Any) -> Any:
        start = (zeros, zeros) if kind == "LSTM" else zeros
        end, _ = scan(lambda state, x: (cell(x, state), None), start, xs)
        return end[0] if kind == "LSTM" else end

    @eqx.filter_jit
    @eqx.filter_grad
    def gradients(cell: Any, xs: Any) -> Any:
        return jnp.mean(jax.vmap(functools.partial(last, cell))(xs) ** 2)

    return lambda: jax.block_until_ready(gradients(cell, xs))


CONTENDERS = {name: functools.partial(prepare, name) for name in ("recurrax", "lax")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{harness.machine()}; (batch, steps, features, units) = {SHAPE}")
    for kind in ("LSTM", "GRU"):
        results = harness.compare(CONTENDERS, kind, rounds=options.rounds)
        print(f"{kind}: {harness.row(results, 'recurrax')}", flush=True)


if __name__ == "__main__":
    main()
