"""Compare contenders: each in its own process, measured in turns, by medians.

A script names its contenders, its cases, and how to prepare one; the harness runs the script once
for each contender (`--serve NAME`) and asks the processes in turn for a few runs each, so that all
of them see the same state of the machine, and no two thread pools share a process.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

Prepare = Callable[[str, Any], Callable[[], Any]]


@dataclasses.dataclass
class Script:
    """A benchmark script.

    Args:
        contenders: names, in the order of the columns.
        cases: name of each row and what `prepare` needs to know of it, as JSON.
        prepare: `prepare(contender, case)` returns a function that does the work once and waits
            for it; it runs once before the measurement (compilation, warm-up). It may raise
            `NotImplementedError` where a contender has no such case.
        rounds: how often each contender gets its turn.
        seconds: the least time of one turn; a turn runs the work at least once.
    """

    contenders: Sequence[str]
    cases: dict[str, Any]
    prepare: Prepare
    rounds: int = 7
    seconds: float = 0.3

    def main(self, parser: argparse.ArgumentParser | None = None) -> None:
        """Serve as a contender if asked to, else measure all and print the table."""
        parser = parser or argparse.ArgumentParser()
        parser.add_argument("--serve", help=argparse.SUPPRESS)
        parser.add_argument("--only", default="", help="contenders, separated by commas")
        parser.add_argument("--cases", default="", help="measure the cases whose name has this")
        parser.add_argument("--rounds", type=int, default=self.rounds)
        options = parser.parse_args()
        if options.serve:
            _serve(options.serve, self.prepare)
            return
        names = [n for n in options.only.split(",") if n] or list(self.contenders)
        cases = {k: v for k, v in self.cases.items() if options.cases in k}
        print(f"{machine()}\n")
        print(f"| ms, median (quartiles) | {' | '.join(names)} |")
        print(f"| --- |{' --- |' * len(names)}")
        for name, case in cases.items():
            row = measure(names, case, options.rounds, self.seconds)
            print(f"| {name} | {' | '.join(_cells(row))} |", flush=True)


def measure(
    contenders: Sequence[str], case: Any, rounds: int, seconds: float
) -> list[list[float] | None]:
    """Seconds of each run of each contender; None for one that has no such case."""
    processes = {}
    try:
        for name in contenders:
            processes[name] = subprocess.Popen(
                [sys.executable, sys.argv[0], *_passed_on(), "--serve", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
        times: dict[str, list[float]] = {name: [] for name in contenders}
        known = {name: _ask(processes[name], case) is not None for name in contenders}
        for _ in range(rounds):
            for name in contenders:
                if known[name]:
                    times[name] += _ask(processes[name], seconds)
        return [times[name] if known[name] else None for name in contenders]
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()


def machine() -> str:
    """What the figures were measured on."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line),
        platform.processor() or platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo")), 0) / 2**20
    versions = ", ".join(f"{name} {_version(name)}" for name in ("jax", "flax", "torch", "keras"))
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; {versions}"


def _serve(contender: str, prepare: Prepare) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints stays out
    work: Callable[[], Any] | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if work is None:
            try:
                work = prepare(contender, asked)
                work()
                answer: Any = True
            except NotImplementedError:
                answer = None
        else:
            answer, end = [], time.perf_counter() + asked
            while not answer or time.perf_counter() < end:
                start = time.perf_counter()
                work()
                answer.append(time.perf_counter() - start)
        print(json.dumps(answer), file=answers, flush=True)


def _ask(process: subprocess.Popen, question: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"{process.args} ended without an answer; run it alone to see why")
    return json.loads(answer)


def _cells(row: list[list[float] | None]) -> list[str]:
    best = min(statistics.median(times) for times in row if times)
    cells = []
    for times in row:
        if not times:
            cells.append("–")
            continue
        median = statistics.median(times)
        low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else [median] * 3
        low, middle, high = (f"{1e3 * t:.3g}" for t in (low, median, high))
        cells.append(f"{middle} ({low}–{high}) {median / best:.2f} ×")
    return cells


def _passed_on() -> list[str]:
    """The script's own options, for the processes that serve."""
    return sys.argv[1:]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
