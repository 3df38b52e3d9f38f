"""How long imports take: JAX alone, recurrax, and its loop alone.

    python benchmarks/imports.py [--rounds 11] [--source ../other/src]

Each in a process of its own, in turns; the processor time that the process has taken when it is
done, and what that is more than with `import jax` alone, medians. `--source` measures another
version of recurrax.
"""

import argparse
import os
import statistics
import subprocess
import sys

import harness

IMPORTS = (
    "import jax",
    "import recurrax",
    "from recurrax import scan",
    "import recurrax as keras; keras.layers, keras.Sequential",
)


def measure(statement: str, source: str | None) -> tuple[float, float]:
    """Milliseconds of processor time, the program's own and the system's for it."""
    program = (
        f"{statement}\nimport resource\nused = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(1e3 * used.ru_utime, 1e3 * used.ru_stime)"
    )
    environment = os.environ | ({"PYTHONPATH": source} if source else {})
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    user, system = map(float, run.stdout.split())
    return user, system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--source", help="a folder that holds another recurrax")
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {statement: [] for statement in IMPORTS}
    for _ in range(options.rounds):
        for statement, times in found.items():
            times.append(measure(statement, options.source))
    print(f"{harness.machine()}\n\n| | user ms | system ms | more than JAX |")
    print("| --- | --- | --- | --- |")
    least = statistics.median(user for user, _ in found["import jax"])
    for statement, times in found.items():
        user, system = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| `{statement}` | {user:.0f} | {system:.0f} | {user - least:+.0f} |")


if __name__ == "__main__":
    main()
