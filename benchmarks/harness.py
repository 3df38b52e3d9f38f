"""Time contenders side by side: each in a process of its own, in turns, medians and spread.

A contender is a function that takes a case and returns a function to be timed, of no arguments,
which returns when its result is there. It imports what it needs by itself, so that no process
holds two frameworks and their thread pools.
"""

import dataclasses
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

Contender = Callable[[Any], Callable[[], Any]]


@dataclasses.dataclass
class Timing:
    """Times of one contender, in milliseconds."""

    times: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.times) < 4:
            return (max(self.times) - min(self.times)) / 2 / self.median
        low, _, high = statistics.quantiles(self.times, n=4)
        return (high - low) / 2 / self.median


def _worker(contender: Contender, case: Any, pipe: Any) -> None:
    try:
        run = contender(case)
        run()  # compiles
        run()
        start = time.perf_counter()
        run()
        run()
        pipe.send(("ready", (time.perf_counter() - start) / 2))
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
        return
    while (repetitions := pipe.recv()) > 0:
        times = []
        for _ in range(repetitions):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        pipe.send(times)


def compare(
    contenders: Mapping[str, Contender], case: Any, rounds: int = 5, seconds: float = 0.4
) -> dict[str, Timing | str]:
    """Time all contenders on one case.

    Args:
        contenders: by name; functions of a module, which another process can import.
        case: handed to each.
        rounds: turns that each contender gets.
        seconds: length of a turn, though at least two calls.

    Returns:
        The times by name; where a contender failed, its error.
    """
    context = multiprocessing.get_context("spawn")
    results: dict[str, Timing | str] = {}
    workers: dict[str, tuple[Any, Any, int]] = {}
    for name, contender in contenders.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_worker, args=(contender, case, theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            kind, value = ours.recv()
        except EOFError:
            kind, value = "failed", f"the process ended with exit code {process.exitcode}"
        if kind == "failed":
            results[name] = value
            continue
        repetitions = max(2, min(2000, int(seconds / max(value, 1e-6))))
        workers[name] = (process, ours, repetitions)
        results[name] = Timing([])
    for _ in range(rounds):
        for name, (_, pipe, repetitions) in workers.items():
            pipe.send(repetitions)
            timing = results[name]
            assert isinstance(timing, Timing)
            timing.times += pipe.recv()
    for process, pipe, _ in workers.values():
        pipe.send(0)
        process.join()
    return results


def row(results: Mapping[str, Timing | str], ours: str) -> str:
    """Times, spreads, and the ratio of the best other contender's time to ours."""
    cells = []
    for name, timing in results.items():
        if isinstance(timing, str):
            cells.append(f"{name} failed ({timing[:60]})")
        else:
            cells.append(f"{name} {timing.median:.3g} ms ±{timing.spread:.0%}")
    others = {n: t for n, t in results.items() if n != ours and isinstance(t, Timing)}
    mine = results.get(ours)
    if others and isinstance(mine, Timing):
        best = min(others, key=lambda name: others[name].median)
        cells.append(f"ratio {others[best].median / mine.median:.2f} to {best}")
    return " | ".join(cells)


def machine() -> str:
    """The machine, for the head of every table."""
    model = platform.processor() or platform.machine()
    features = ""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            text = file.read()
        models = [line for line in text.splitlines() if line.startswith("model name")]
        model = models[0].split(":")[1].strip() if models else model
        features = "AVX-512" if " avx512f" in text else "AVX2" if " avx2" in text else "SSE"
    versions = ", ".join(f"{name} {_version(name)}" for name in ("jax", "flax", "torch", "keras"))
    return f"{model}, {os.cpu_count()} cores, {features}, {platform.system()}; {versions}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def peak_gflops(size: int = 2048) -> float:
    """Best rate of a large float32 matrix product in NumPy or PyTorch, in GFLOP/s."""
    results = compare({"numpy": _numpy_product, "torch": _torch_product}, size, rounds=3)
    times = [min(t.times) for t in results.values() if isinstance(t, Timing)]
    return 2 * size**3 / min(times) / 1e6


def _numpy_product(size: int) -> Callable[[], Any]:
    import numpy as np

    a = np.ones((size, size), np.float32)
    return lambda: a @ a


def _torch_product(size: int) -> Callable[[], Any]:
    import torch

    a = torch.ones((size, size))
    return lambda: a @ a


def pick(names: Sequence[str], asked: str | None) -> list[str]:
    """Those of `names` that a comma-separated option asks for; all where it is None."""
    chosen = asked.split(",") if asked else list(names)
    unknown = set(chosen) - set(names)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    return chosen
