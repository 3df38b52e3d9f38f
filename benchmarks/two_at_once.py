"""Two programs on one machine: processors shared, or one for each?

    python benchmarks/two_at_once.py [--cell "peephole LSTM"] [--seconds 5] [--rounds 3]

Both call a cell's loop over one row, (1, 100, 64, 128), as often as they can; a loop over one row
would keep two processors busy (Linux only).
"""

import argparse
import multiprocessing
import os
import time

import harness
import numpy as np
from cells import CELLS

SHAPE = (1, 100, 64, 128)


def call_often(cell, training, processors, seconds, start, results):
    os.sched_setaffinity(0, processors)
    import jax
    from custom_cells import program

    work, arguments = program("recurrax", cell, SHAPE, training, None)
    for _ in range(50):
        jax.block_until_ready(work(*arguments))
    start.wait()
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        jax.block_until_ready(work(*arguments))
        took.append(time.perf_counter() - begun)
    results.put(took)


def together(cell, training, processors, seconds):
    """The times of all calls of as many programs as there are sets of `processors`."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(len(processors)), context.Queue()
    programs = [
        context.Process(target=call_often, args=(cell, training, p, seconds, start, results))
        for p in processors
    ]
    for p in programs:
        p.start()
    took = np.concatenate([results.get() for _ in programs])
    for p in programs:
        p.join()
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", default="peephole LSTM", choices=list(CELLS))
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    first, second, *_ = sorted(os.sched_getaffinity(0))
    ways = {
        "alone": [{first, second}],
        "sharing two": [{first, second}] * 2,
        "one for each": [{first}, {second}],
    }
    print(harness.machine(), flush=True)
    for mode in ("infer", "train"):
        found = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, processors in ways.items():
                found[way].append(
                    together(options.cell, mode == "train", processors, options.seconds)
                )
        for way, rounds in found.items():
            rate = np.median([len(took) for took in rounds]) / options.seconds
            half, most = np.median([np.percentile(t, [50, 99]) for t in rounds], axis=0) * 1e3
            print(
                f"{options.cell} {SHAPE} {mode}, {way}: {rate:.0f} calls/s, "
                f"half within {half:.3g} ms, 99 of 100 within {most:.3g} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
