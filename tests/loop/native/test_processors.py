"""Threads are as many as the affinity and the quotas of control groups allow."""

import math
import os
import pathlib
import subprocess
import sys

import pytest

from recurrax.loop.native import processors

V1 = "12:cpu,cpuacct:{path}\n11:memory:/elsewhere\n0::/unified\n"
V2 = "0::{path}\n"
MOUNT_V1 = "33 25 0:28 {root} {point} rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
MOUNT_V2 = "30 23 0:26 {root} {point} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
OTHERS = (
    "23 29 0:22 / /sys rw - sysfs sysfs rw\n"
    "34 25 0:29 / {point}/../memory rw shared:9 - cgroup cgroup rw,memory\n"
)


@pytest.fixture
def system(tmp_path):
    """Writes down a system whose process is in the group `path`; limits by folder of the group."""

    def write(version, path, limits, root="/"):
        point = tmp_path / "cgroup here"
        escaped = str(point).replace(" ", "\\040")
        proc = tmp_path / "proc"
        proc.mkdir()
        (proc / "cgroup").write_text((V1 if version == 1 else V2).format(path=path))
        mount = MOUNT_V1 if version == 1 else MOUNT_V2
        mounts = (OTHERS + mount).format(root=root, point=escaped)
        (proc / "mountinfo").write_text(mounts)
        for folder, (share, period) in limits.items():
            group = point / folder
            group.mkdir(parents=True, exist_ok=True)
            if version == 1:
                (group / "cpu.cfs_quota_us").write_text(f"{share}\n")
                (group / "cpu.cfs_period_us").write_text(f"{period}\n")
            else:
                (group / "cpu.max").write_text(f"{share} {period}\n")
        return proc

    return write


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("path", "root", "limits", "expected"),
    [
        ("/", "/", {".": (50_000, 100_000)}, 0.5),
        ("/a/b", "/", {".": (-1, 100_000), "a": (-1, 100_000), "a/b": (150_000, 100_000)}, 1.5),
        # one above it allows less
        ("/a/b", "/", {"a": (100_000, 100_000), "a/b": (40_000, 10_000)}, 1.0),
        # another's limit is not ours
        ("/a", "/", {"a": (-1, 100_000), "b": (1000, 100_000), "a/c": (1000, 100_000)}, math.inf),
        # a container that sees its own group as the root of what is mounted
        ("/docker/0a1b", "/docker/0a1b", {".": (200_000, 100_000)}, 2.0),
        ("/docker/0a1b/in", "/docker/0a1b", {"in": (20_000, 100_000)}, 0.2),
        # of another name space
        ("/../../above", "/", {".": (300_000, 100_000)}, 3.0),
        ("/", "/", {}, math.inf),
    ],
)
def test_the_least_quota_of_all_groups_above_counts(system, version, path, root, limits, expected):
    if version == 2:
        limits = {k: ("max" if share < 0 else share, p) for k, (share, p) in limits.items()}
    assert processors.quota(system(version, path, limits, root)) == expected


def test_a_system_without_control_groups(tmp_path):
    assert processors.quota(tmp_path / "absent") == math.inf


@pytest.mark.parametrize(
    ("quota", "affinity", "expected"),
    [(math.inf, 8, 8), (0.5, 8, 1), (1, 8, 1), (1.4, 8, 1), (1.5, 8, 2), (2, 8, 2), (9, 2, 2)],
)
def test_threads_are_as_many_as_affinity_and_quota_allow(monkeypatch, quota, affinity, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(processors, "quota", lambda: quota)
    assert processors.thread_count() == expected


GROUPS = pathlib.Path("/sys/fs/cgroup/cpu")


@pytest.mark.skipif(
    not (GROUPS / "cpu.cfs_quota_us").exists() or not os.access(GROUPS, os.W_OK),
    reason="takes root, and cgroup v1",
)
def test_a_real_quota_is_seen():
    group = GROUPS / f"recurrax_test_{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_quota_us").write_text("50000")
        program = (
            f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
            "from recurrax.loop.native.processors import quota, thread_count\n"
            "print(quota(), thread_count())"
        )
        said = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert said.stdout.split() == ["0.5", "1"]
    finally:
        group.rmdir()
