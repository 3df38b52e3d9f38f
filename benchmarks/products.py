"""Products of all steps together: kernels of our own against XLA's.

    python benchmarks/products.py

`forward` is `x_t W` for all rows of all steps, `weight` the gradient of W. `swapped` reads an x
that begins with (batch, time) and gives what begins with (time, batch), as the loops of layers do.
"""

import functools
from typing import NamedTuple

import harness

# (steps, batch, inputs, outputs)
SHAPES = [(100, 32, 64, 512), (100, 64, 256, 1024), (200, 16, 512, 2048), (200, 16, 512, 512)]


class Case(NamedTuple):
    shape: tuple[int, int, int, int]
    kind: str


def contender(case, runner):
    import jax
    import jax.numpy as jnp

    from recurrax.loop.runners import native, xla

    steps, batch, inputs, outputs = case.shape
    swapped = case.kind.endswith("swapped")
    products = {"native": native, "xla": xla}[runner]
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (batch, steps, inputs) if swapped else (steps, batch, inputs))
    w = jax.random.normal(keys[1], (inputs, outputs))
    dz = jax.random.normal(keys[2], (steps, batch, outputs))

    def forward(x, w):
        x = jnp.swapaxes(x, 0, 1) if swapped else x
        return products.product(x, w, swapped=swapped)

    def weight(x, dz):
        x = jnp.swapaxes(x, 0, 1) if swapped else x
        return products.gather(x, dz, 0, outputs, swapped=swapped)

    function, other = (forward, w) if case.kind.startswith("forward") else (weight, dz)
    function = jax.jit(function)
    return lambda: jax.block_until_ready(function(x, other))


def main() -> None:
    contenders = {r: functools.partial(contender, runner=r) for r in ("native", "xla")}
    print(f"{harness.machine()}; matrix-product peak {harness.peak_gflops():.0f} GFLOP/s")
    for shape in SHAPES:
        steps, batch, inputs, outputs = shape
        for kind in ("forward", "forward swapped", "weight", "weight swapped"):
            results = harness.compare(contenders, Case(shape, kind))
            flops = 2e-6 * steps * batch * inputs * outputs
            rates = {n: t if isinstance(t, str) else flops / t.median for n, t in results.items()}
            told = ", ".join(
                f"{n} {r if isinstance(r, str) else f'{r:.0f} GFLOP/s'}" for n, r in rates.items()
            )
            print(f"{shape} {kind}: {harness.row(results, 'native')} | {told}", flush=True)


if __name__ == "__main__":
    main()
