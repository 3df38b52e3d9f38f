"""What keeping freed memory (`recurrax.tune_memory`) brings and costs.

    python benchmarks/tuning.py [--rounds 5] [--threads 16]

Training steps of an LSTM, from `recurrent.py`, and of the demo's model with `train_on_batch`; page
faults, processor time and time of a step, memory at the end, medians of `--rounds` processes: as
the C library comes, tuned before JAX starts its threads, and tuned after the model is made, which
is when `fit` does it. Then how long as many threads take that only allocate and free, since one
arena is locked by one thread at a time.
"""

import argparse
import ctypes
import functools
import multiprocessing
import resource
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import harness
from recurrent import Case, recurrax

SHAPES = [(64, 100, 256, 256), (32, 1000, 64, 128), (32, 100, 64, 128)]
WHEN = ("never", "before", "after")
STEPS = 20
ALLOCATIONS = 4_000_000
_ALLOCATE = """
declare ptr @malloc(i64)
declare void @free(ptr)
define void @work(i64 %times) {
entry:
  br label %loop
loop:
  %k = phi i64 [0, %entry], [%next, %loop]
  %block = call ptr @malloc(i64 40000)
  store volatile i8 1, ptr %block
  call void @free(ptr %block)
  %next = add i64 %k, 1
  %again = icmp slt i64 %next, %times
  br i1 %again, label %loop, label %done
done:
  ret void
}
"""


def lstm(shape: tuple[int, int, int, int]) -> Callable[[], Any]:
    return recurrax(Case("LSTM", shape, "train"))


def demo() -> Callable[[], Any]:
    """A step on a batch of 32 of the digits, which are 64 integers up to 16."""
    import numpy as np

    import recurrax as keras

    layers = keras.layers
    stack = [layers.Embedding(17, 64), layers.LSTM(128), layers.Dense(10, activation="softmax")]
    model = keras.Sequential(stack)
    model.compile("adam", "sparse_categorical_crossentropy")
    draw = np.random.default_rng(0)
    x, y = draw.integers(17, size=(32, 64)), draw.integers(10, size=32)
    return lambda: model.train_on_batch(x, y)


CASES = {f"LSTM {shape}": functools.partial(lstm, shape) for shape in SHAPES} | {"digits": demo}


def measure(make: Callable[[], Callable[[], Any]], when: str, pipe: Any) -> None:
    import recurrax

    recurrax.tune_memory(False)
    if when == "before":
        recurrax.tune_memory()
    step = make()
    step()
    if when == "after":
        recurrax.tune_memory()
    for _ in range(10):
        step()
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(STEPS):
        step()
    took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    faults = after.ru_minflt - before.ru_minflt
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[1]) * resource.getpagesize() / 2**20
    pipe.send((faults / STEPS, 1e3 * used / STEPS, 1e3 * took / STEPS, held))


def contend(threads: int, when: str, pipe: Any) -> None:
    """Threads that allocate and free 40 kB as fast as they can, in machine code."""
    import llvmlite.binding as llvm

    import recurrax
    from recurrax.loop.native import target

    recurrax.tune_memory(False)
    if when == "before":
        recurrax.tune_memory()
    target.initialise()
    machine = target.host().machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_ALLOCATE), machine)
    work = ctypes.CFUNCTYPE(None, ctypes.c_int64)(engine.get_function_address("work"))
    pool = [threading.Thread(target=work, args=(ALLOCATIONS // threads,)) for _ in range(threads)]
    begun, used = time.perf_counter(), time.process_time()
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    pipe.send((1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - used)))


def apart(function: Callable[..., None], *arguments: Any) -> tuple[float, ...]:
    """What `function` sends from a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(*arguments, theirs))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def medians(runs: list[tuple[float, ...]]) -> list[float]:
    return [statistics.median(column) for column in zip(*runs, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--cases", help=f"of {'; '.join(CASES)}, parted by ;")
    options = parser.parse_args()
    names = options.cases.split(";") if options.cases else list(CASES)
    print(f"{harness.machine()}\n")
    print("| a step | tuned | page faults | processor ms | ms | MiB held |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        runs: dict[str, list[tuple[float, ...]]] = {when: [] for when in WHEN}
        for _ in range(options.rounds):
            for when, found in runs.items():
                found.append(apart(measure, CASES[name], when))
        for when, found in runs.items():
            faults, used, took, held = medians(found)
            print(f"| {name} | {when} | {faults:.0f} | {used:.1f} | {took:.1f} | {held:.0f} |")
    for when in WHEN[:2]:
        found = [apart(contend, options.threads, when) for _ in range(options.rounds)]
        took, used = medians(found)
        print(f"\n{options.threads} threads that allocate, {when}: {took:.0f} ms, {used:.0f} used")


if __name__ == "__main__":
    main()
