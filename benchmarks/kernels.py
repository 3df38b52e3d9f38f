"""How long a loop's kernel takes to compile, and to load once it is on the disk.

    python benchmarks/kernels.py

LSTM and layer-norm LSTM, forward and backward, at the five shapes of `recurrent.py`. Medians of
five, in milliseconds: from the lowered step to code ready to run, and from the file to the same.
"""

import os
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp

import recurrax
from recurrax.loop import plan, together
from recurrax.loop.body import Body
from recurrax.loop.native import cache, kernel
from recurrax.loop.native.lower import lower
from recurrax.loop.native.processors import thread_count
from recurrax.loop.native.target import host

SHAPES = [
    *((32, 100, 64, 128), (1, 100, 64, 128), (32, 1000, 64, 128)),
    *((64, 100, 256, 256), (16, 200, 512, 512)),
]


def lstm(w, normed):
    def step(carry, x):
        h, c = carry
        z = x @ w["kernel"] + h @ w["recurrent"] + w["bias"]
        if normed:
            z = (z - z.mean(-1, keepdims=True)) * jax.lax.rsqrt(z.var(-1, keepdims=True) + 1e-3)
            z = z * w["gain"]
        i, f, g, o = jnp.split(z, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return step


def loops(shape, normed):
    """The forward and the backward body."""
    batch, steps, features, units = shape
    widths = {"kernel": (features, 4 * units), "recurrent": (units, 4 * units)}
    widths |= {"bias": (4 * units,), "gain": (4 * units,)}
    w = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in widths.items()}
    xs = jax.ShapeDtypeStruct((steps, batch, features), jnp.float32)

    def loss(w, xs):
        start = jnp.zeros((batch, units))
        return recurrax.scan(lstm(w, normed), (start, start), xs)[1].sum()

    return list(bodies(jax.make_jaxpr(jax.grad(loss))(w, xs)))


def bodies(program):
    """The bodies of a program's loops, also of those that are held together with other work."""
    for eqn in program.eqns:
        held, p = together.parts(eqn), eqn.params
        if held is not None:
            yield from bodies(held)
        elif eqn.primitive.name == "loop":
            yield plan.plain(Body(p["jaxpr"], p["num_consts"], p["num_carry"]))


def milliseconds(run, times=5):
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        taken.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(taken)


def main():
    target, threads = host(), thread_count()
    print(f"{'cell':<10}{'shape':<22}{'pass':<10}{'compile ms':>12}{'load ms':>10}{'KiB':>8}")
    for name, normed in (("LSTM", False), ("LN-LSTM", True)):
        for shape in SHAPES:
            for which, body in zip(("forward", "backward"), loops(shape, normed), strict=True):

                def compiled(body=body, length=shape[1]):
                    step = lower(body)
                    module = kernel.build_loop(step, target, False, length, threads)
                    code = kernel.compile_module(module, target)
                    kernel._linked(code)
                    return code

                code = compiled()
                cache.store("kernel", code)
                compiling = milliseconds(compiled)
                loading = milliseconds(lambda: kernel._linked(cache.load("kernel") or b""))
                row = f"{name:<10}{shape!s:<22}{which:<10}{compiling:>12.0f}{loading:>10.1f}"
                print(f"{row}{len(code) / 1024:>8.0f}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECURRAX_CACHE_DIR"] = folder
        main()
