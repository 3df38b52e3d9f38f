"""Peak memory of a training step against the number of steps: plain, segmented, and lax.scan.

    python benchmarks/memory.py [--steps 1000,10000,100000]

An LSTM of 64 units over a batch of 4 sequences of 4 features; the loss looks at the last state
alone. Each point is measured in its own process: the high-water mark of its resident memory, less
that of the same program over 10 steps.
"""

import argparse
import json
import resource
import subprocess
import sys

from harness import machine

BATCH, FEATURES, UNITS = 4, 4, 64
LOOPS = {
    "lax.scan": {"runner": "lax"},
    "recurrax": {},
    'recurrax, segments="auto"': {"segments": "auto"},
}


def train(steps: int, keywords: dict) -> None:
    """Run one training step."""
    import jax
    import jax.numpy as jnp

    import recurrax

    keys = jax.random.split(jax.random.key(0), 3)
    w = {
        "kernel": jax.random.normal(keys[0], (FEATURES, 4 * UNITS)) * 0.1,
        "recurrent": jax.random.normal(keys[1], (UNITS, 4 * UNITS)) * 0.1,
        "bias": jnp.zeros(4 * UNITS),
    }

    def loss(w, xs):
        def step(carry, x):
            h, c = carry
            z = x @ w["kernel"] + h @ w["recurrent"] + w["bias"]
            i, f, g, o = jnp.split(z, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        zeros = jnp.zeros((BATCH, UNITS))
        return recurrax.scan(step, (zeros, zeros), xs, **keywords)[0][0].sum()

    xs = jax.random.normal(keys[2], (steps, BATCH, FEATURES))
    jax.block_until_ready(jax.jit(jax.grad(loss))(w, xs))


def peak(steps: int, keywords: dict) -> float:
    """MiB that a training step over `steps` needs at its height, Python and JAX included."""
    command = [sys.executable, sys.argv[0], "--measure", json.dumps([steps, keywords])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default="1000,3162,10000,31623,100000")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        train(*json.loads(options.measure))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print(f"{machine()}\n")
    print(f"| steps | {' | '.join(LOOPS)} |")
    print(f"| --- |{' --- |' * len(LOOPS)}")
    floors = [peak(10, keywords) for keywords in LOOPS.values()]
    for steps in map(int, options.steps.split(",")):
        used = [
            peak(steps, keywords) - floor
            for keywords, floor in zip(LOOPS.values(), floors, strict=True)
        ]
        print(f"| {steps} | {' | '.join(f'{mib:.0f} MiB' for mib in used)} |", flush=True)


if __name__ == "__main__":
    main()
