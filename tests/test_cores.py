"""How many threads are worth starting: affinity, and a container's quota as the kernel's documentation writes it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidl.fast.cores import cores, quota


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_max", ".max").replace("cpu_cfs", "cpu.cfs")).write_text(text)


def test_version_2_and_the_groups_above(tmp_path: Path) -> None:
    root, mine = tmp_path / "cgroup", tmp_path / "mine"
    mine.write_text("0::/pods/one\n")
    group(root / "pods" / "one", cpu_max="max 100000\n")
    assert quota(root, mine) == math.inf
    group(root / "pods", cpu_max="250000 100000\n")
    assert quota(root, mine) == 2.5
    group(root / "pods" / "one", cpu_max="50000 100000\n")
    assert quota(root, mine) == 0.5


def test_version_1(tmp_path: Path) -> None:
    root, mine = tmp_path / "cgroup", tmp_path / "mine"
    mine.write_text("4:memory:/docker/a\n2:cpu,cpuacct:/docker/a\n")
    group(root / "cpu" / "docker" / "a", cpu_cfs_quota_us="150000", cpu_cfs_period_us="100000")
    group(root / "cpu", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert quota(root, mine) == 1.5


def test_no_groups(tmp_path: Path) -> None:
    assert quota(tmp_path, tmp_path / "mine") == math.inf


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_is_followed() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from minidl.fast.threads import threads;"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "print(threads())"], capture_output=True, text=True, check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "4"},
    )  # fmt: skip
    assert done.stdout == "1\n"
    assert cores() >= 1
