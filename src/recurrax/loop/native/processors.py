"""How many processors this process may keep busy at once.

Two things say so: where its threads may run (its affinity), and how much of a processor's time its
container may take (a quota, by the control group of the process or one above it). XLA sizes its
pool by the first alone. Threads beyond a quota gain nothing: what one burns in waiting, the others
are stopped for.
"""

import os
import pathlib
import re
from collections.abc import Iterator

_PROC = pathlib.Path("/proc/self")


def thread_count() -> int:
    """Threads that XLA's pool has to give and that no quota stops, the caller among them."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    # To the nearest whole number: a thread that has less than half of its time is not worth it.
    return count if count == 1 else max(1, int(min(count, quota()) + 0.5))


def quota(proc: pathlib.Path = _PROC) -> float:
    """Processors' worth of time that this process may take, infinite if there is no limit.

    `proc` is where the system tells of the process.
    """
    return min(
        (of_one for group in _groups(proc) for of_one in _limit(group)), default=float("inf")
    )


def _groups(proc: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders of the control groups that deal out processor time: its own, and those above."""
    try:
        listed = (proc / "cgroup").read_text().splitlines()
        mounts = (proc / "mountinfo").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    own: dict[str, str] = {}
    for line in listed:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = (after.split(" ", 2) + [""] * 3)[:3]
        if kind not in own or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        root, point = map(_plain, before.split(" ")[3:5])
        mount, path = pathlib.Path(point), pathlib.PurePosixPath(own[kind])
        # In a container the root may be the container's own group, or one that it does not see.
        inner = path.relative_to(root) if path.is_relative_to(root) else pathlib.PurePosixPath()
        if ".." in inner.parts:
            inner = pathlib.PurePosixPath()
        yield mount
        for k in range(len(inner.parts)):
            yield mount.joinpath(*inner.parts[: k + 1])


def _plain(escaped: str) -> str:
    """A path as it is, of one in which the system has escaped blanks."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), escaped)


def _limit(group: pathlib.Path) -> Iterator[float]:
    """The processors' worth that a control group allows, if it sets a limit."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            share, period = " ".join((group / n).read_text() for n in names).split()
            if share not in ("max", "-1") and int(share) > 0 and int(period) > 0:
                yield int(share) / int(period)
        except (OSError, ValueError):
            continue
