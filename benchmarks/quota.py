"""Training in a container that may use a part of a processor, beside what XLA makes of it.

    sudo python benchmarks/quota.py [--quotas 0.5,1] [--shape 32,100,64,128] [--rounds 7]

A control group is made for each quota (cgroup v1 or v2; that takes root, on Linux) and removed at
the end. Both runners train the LSTM of `recurrent.py` in it, each in a process of its own and in
turns. A quota is dealt out every 100 ms, so single calls take either their time or that and a
pause: what is timed is many calls in a row.
"""

import argparse
import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import harness
from recurrent import Case, recurrax

CALLS = 40
PERIOD = 100_000  # microseconds
RUNNERS = ("native", "xla")


class Work(NamedTuple):
    case: Case
    nproc: str | None


@contextlib.contextmanager
def quota(processors: float | None) -> Iterator[None]:
    """This process, and those that it starts, in a control group of so many processors."""
    if processors is None:
        yield
        return
    root = pathlib.Path("/sys/fs/cgroup")
    old = next((d for d in root.glob("cpu*") if (d / "cpu.cfs_quota_us").exists()), None)
    mount = old or root
    made = mount / f"recurrax_quota_{os.getpid()}"
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if ("cpu" if old else "") in controllers.split(","):
            own = mount / path.lstrip("/")
            break
    else:
        raise SystemExit("the system does not tell which control group this process is in")
    made.mkdir()
    try:
        limit = str(int(processors * PERIOD))
        if old:
            (made / "cpu.cfs_period_us").write_text(str(PERIOD))
            (made / "cpu.cfs_quota_us").write_text(limit)
        else:
            (root / "cgroup.subtree_control").write_text("+cpu")
            (made / "cpu.max").write_text(f"{limit} {PERIOD}")
        (made / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        for process in (made / "cgroup.procs").read_text().split():  # multiprocessing's among them
            (own / "cgroup.procs").write_text(process)
        made.rmdir()


def train(runner: str, work: Work) -> Any:
    """`CALLS` steps of training by one runner."""
    if work.nproc:
        os.environ["PJRT_NPROC"] = work.nproc
    os.environ["RECURRAX_RUNNER"] = runner
    call = recurrax(work.case)

    def calls() -> None:
        for _ in range(CALLS):
            call()

    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quotas", default="0.5,1,none", help="processors; none: all that are there"
    )
    parser.add_argument("--shape", default="32,100,64,128", help="batch, steps, features, units")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--nproc", help="PJRT_NPROC for both: threads of XLA's own pool")
    options = parser.parse_args()
    batch, steps, features, units = map(int, options.shape.split(","))
    work = Work(Case("LSTM", (batch, steps, features, units), "train"), options.nproc)
    contenders = {runner: functools.partial(train, runner) for runner in RUNNERS}
    print(harness.machine(), flush=True)
    for asked in options.quotas.split(","):
        processors = None if asked == "none" else float(asked)
        with quota(processors):
            results = harness.compare(contenders, work, options.rounds, seconds=0)
        for timing in results.values():
            if isinstance(timing, harness.Timing):
                timing.times = [time / CALLS for time in timing.times]
        print(f"quota {asked}: {harness.row(results, RUNNERS[0])}", flush=True)


if __name__ == "__main__":
    main()
