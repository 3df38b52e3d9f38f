"""Time to compile a loop: recurrax with either runner against plain lax.scan, for custom cells.

    python benchmarks/compile_time.py [--cells "peephole LSTM"] [--modes train] [--rounds 3]

Tracing, lowering and compiling at (batch, steps, features, units) = (32, 100, 64, 128), each time
in a fresh process that has compiled another, small loop before. The native runner is measured with
an empty folder of kernels ("cold") and once more with what that left there ("warm").
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import statistics
import tempfile
import time

import custom_cells
import harness
from cells import CELLS

CASE = (32, 100, 64, 128)
WARM_UP = ("two-layer highway", (2, 3, 4, 5))
CONTENDERS = ["lax", "xla", "native cold", "native warm"]


def measure(contender, cell, training, folder):
    """Seconds to trace, lower and compile, as three numbers."""
    os.environ["RECURRAX_CACHE_DIR"] = folder
    name, runner = ("lax", None) if contender == "lax" else ("recurrax", contender.split()[0])
    times = []
    for each, shape in (WARM_UP, (cell, CASE)):
        work, arguments = custom_cells.program(name, each, shape, training, runner)
        start = time.perf_counter()
        traced = work.trace(*arguments)
        middle = time.perf_counter()
        lowered = traced.lower()
        late = time.perf_counter()
        lowered.compile()
        times = [middle - start, late - middle, time.perf_counter() - late]
    return times


def fresh(*args):
    """`measure(*args)` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *args).result()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", help=f"of {','.join(CELLS)}")
    parser.add_argument("--modes", help="of infer,train")
    parser.add_argument("--contenders", help=f"of {','.join(CONTENDERS)}")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    contenders = harness.pick(CONTENDERS, options.contenders)
    print(harness.machine(), flush=True)
    for mode in harness.pick(["infer", "train"], options.modes):
        for cell in harness.pick(list(CELLS), options.cells):
            rounds = {name: [] for name in contenders}
            for _ in range(options.rounds):
                with tempfile.TemporaryDirectory() as folder:
                    for name, times in rounds.items():
                        times.append(fresh(name, cell, mode == "train", folder))
            print(f"{cell} {mode}: {row(rounds)}", flush=True)


def row(rounds):
    """Medians in ms: the whole (trace + lower + compile), and the ratio to lax.scan's."""
    parts = {
        name: [statistics.median(t) * 1e3 for t in zip(*times, strict=True)]
        for name, times in rounds.items()
    }
    cells = []
    for name, times in parts.items():
        text = f"{name} {sum(times):.0f} ms ({' + '.join(f'{t:.0f}' for t in times)})"
        if name != "lax" and "lax" in parts:
            text += f" {sum(times) / sum(parts['lax']):.2f}"
        cells.append(text)
    return " | ".join(cells)


if __name__ == "__main__":
    main()
