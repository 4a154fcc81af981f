"""How many cores this process may use, by its CPU affinity and its container's CPU quota.

A container with a quota of two cores on a machine with 64 reports 64. A program that starts as many threads there is
throttled most of the time.
"""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path


@cache
def cores() -> int:
    """The number of cores that this process may use: at least 1; a fraction counts as a whole one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(usable, quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")))))


def quota(root: Path, mine: Path) -> float:
    """The CPU quota, in cores, of this process's control groups (cgroups, version 2 or 1); inf without a limit.

    root  where their files are;  mine  the file that lists the groups of this process
    """
    try:
        lines = [line.split(":", 2) for line in mine.read_text().splitlines()]
    except OSError:
        return math.inf
    found = math.inf
    for number, names, path in lines:
        if number == "0" and not names:
            folder, top = root / path.strip("/"), root
        elif "cpu" in names.split(","):
            top = root / ("cpu" if (root / "cpu").exists() else names)
            folder = top / path.strip("/")
        else:
            continue
        for group in [folder, *folder.parents]:
            if group != top and top not in group.parents:
                break
            found = min(found, _of(group))
    return found


def _of(group: Path) -> float:
    """The quota of one group."""
    try:
        if (group / "cpu.max").exists():
            limit, period = (group / "cpu.max").read_text().split()
        else:
            limit = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        return int(limit) / int(period) if limit != "max" and int(limit) > 0 else math.inf
    except (OSError, ValueError):  # no such files: this group has no limit of its own
        return math.inf
