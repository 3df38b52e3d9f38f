"""Cells with no vendor kernel: recurrax against plain lax.scan, Flax NNX's RNN and torch eager.

    python benchmarks/custom_cells.py [--runner xla|native] [--cells "peephole LSTM"] [--shapes 0,2]

`train` is the forward and backward pass with the gradients of all weights, of the inputs and of
the initial states; `infer` the forward pass.
"""

import argparse
import functools

import harness
import numpy as np
from cells import CELLS, weights

SHAPES = [
    (32, 100, 64, 128),
    (64, 100, 256, 256),
    (1, 100, 64, 128),
    (32, 1000, 64, 128),
    (16, 200, 512, 512),
]

CONTENDERS = ["recurrax", "lax", "flax", "torch"]


def prepare(contender, case, runner=None):
    cell, (batch, steps, features, units), training = case
    if contender == "torch":
        return _torch(cell, _inputs(batch, steps, features), units, training)
    return _jax(contender, cell, case[1], training, runner)


def _inputs(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def _jax(*args):
    import jax

    work, arguments = program(*args)
    return lambda: jax.block_until_ready(work(*arguments))


def program(contender, cell, shape, training, runner):
    """The jitted work of a contender that runs on JAX, and its arguments."""
    from types import SimpleNamespace

    import jax
    import jax.numpy as jnp

    import recurrax

    xp = SimpleNamespace(
        split=lambda z, n: jnp.split(z, n, -1),
        sigmoid=jax.nn.sigmoid,
        tanh=jnp.tanh,
        rsqrt=jax.lax.rsqrt,
        mean=lambda z: z.mean(-1, keepdims=True),
    )
    function, num_states, *_ = CELLS[cell]
    batch, steps, features, units = shape
    w = {k: jnp.asarray(v) for k, v in vars(weights(cell, features, units)).items()}
    states = tuple(jnp.zeros((batch, units)) for _ in range(num_states))
    scan = {"lax": jax.lax.scan, "recurrax": functools.partial(recurrax.scan, runner=runner)}

    def outputs(w, states, x):
        def step(states, x_t):
            states = function(xp, SimpleNamespace(**w), states, x_t)
            return states, states[0]

        if contender == "flax":
            return _flax_rnn(step, states, x)
        return scan[contender](step, states, jnp.swapaxes(x, 0, 1))[1]

    def loss(w, states, x):
        return jnp.square(outputs(w, states, x)).mean()

    work = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)) if training else outputs)
    return work, (w, states, jnp.asarray(_inputs(batch, steps, features)))


def _flax_rnn(step, states, x):
    """The same step as a cell under Flax NNX's RNN."""
    from flax import nnx

    class Cell(nnx.RNNCellBase):
        num_feature_axes = 1

        def __call__(self, carry, inputs):
            return step(carry, inputs)

        def initialize_carry(self, *args, **kwargs):
            return states

    return nnx.RNN(Cell())(x, initial_carry=states)


def _torch(cell, x, units, training):
    from types import SimpleNamespace

    import torch

    xp = SimpleNamespace(
        split=lambda z, n: torch.chunk(z, n, -1),
        sigmoid=torch.sigmoid,
        tanh=torch.tanh,
        rsqrt=torch.rsqrt,
        mean=lambda z: z.mean(-1, keepdim=True),
    )
    function, num_states, *_ = CELLS[cell]
    named = vars(weights(cell, x.shape[2], units))
    w = SimpleNamespace(**{k: torch.tensor(v, requires_grad=training) for k, v in named.items()})
    x = torch.tensor(x, requires_grad=training)
    start = tuple(torch.zeros(x.shape[0], units, requires_grad=training) for _ in range(num_states))

    def outputs():
        states, ys = start, []
        for x_t in x.unbind(1):
            states = function(xp, w, states, x_t)
            ys.append(states[0])
        return torch.stack(ys, 1)

    def train():
        for leaf in (x, *start, *vars(w).values()):
            leaf.grad = None
        outputs().square().mean().backward()

    return train if training else torch.no_grad()(outputs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", help=f"of {','.join(CELLS)}")
    parser.add_argument("--shapes", help="indices of the five shapes, such as 0,2")
    parser.add_argument("--modes", help="of train,infer")
    parser.add_argument("--contenders", help=f"of {','.join(CONTENDERS)}")
    parser.add_argument("--runner", choices=("xla", "native"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    contenders = {
        name: functools.partial(prepare, name, runner=options.runner)
        for name in harness.pick(CONTENDERS, options.contenders)
    }
    print(harness.machine(), flush=True)
    for cell in harness.pick(list(CELLS), options.cells):
        for index in harness.pick([str(i) for i in range(len(SHAPES))], options.shapes):
            for mode in harness.pick(["train", "infer"], options.modes):
                case = (cell, SHAPES[int(index)], mode == "train")
                results = harness.compare(contenders, case, rounds=options.rounds)
                print(f"{cell} {case[1]} {mode}: {harness.row(results, 'recurrax')}", flush=True)


if __name__ == "__main__":
    main()
