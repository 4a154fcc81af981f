"""Kill a study again and again, go on with it, and compare its results.csv with that of a study nobody disturbed.

    python -m tests.kill_study --preset quick --kills 10
    python -m tests.kill_study --preset quick --cluster

The first sends SIGKILL to the whole study at moments spread over its length. The second runs it on a Dask cluster of
two workers on this machine, and kills one of them in the middle.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.commands import ROOT


def start(*args: object) -> subprocess.Popen[bytes]:
    """The study's command, in a session of its own."""
    words = [sys.executable, "-W", "error", "-m", "tests.tiny_study", *map(str, args)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen[bytes], timeout: float = 1800) -> tuple[int, str]:
    """Wait for the end; returns the exit status and what was printed to stderr."""
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors.decode()


def count(out: Path) -> int:
    """The results on disk."""
    return len(list((out / "runs").glob("*.json"))) if (out / "runs").is_dir() else 0


def wait_for(out: Path, results: int, process: subprocess.Popen[bytes]) -> bool:
    """Until so many results are on disk; False if the study ends before."""
    while count(out) < results:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def killed(preset: str, out: Path, kills: int, total: int) -> tuple[bytes, int]:
    """Run the study to its end, with so many times SIGKILL on the way. Returns results.csv and how many hit."""
    hits = 0
    for i in range(kills):
        process = start("--preset", preset, "--out", out, "--workers", 2)
        if wait_for(out, total * (i + 1) // (kills + 1), process):
            time.sleep(0.013 * i)  # not always just after a result
            hits += process.poll() is None
            process.kill()
        finish(process)
    status, errors = finish(start("--preset", preset, "--out", out, "--workers", 2))
    assert status == 0, errors
    return (out / "results.csv").read_bytes(), hits


def on_a_cluster(preset: str, out: Path, total: int) -> tuple[bytes, int]:
    """Run the study on a Dask cluster of two processes, one of which is killed when a third of the runs is done."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim = cluster.workers[0].pid
        process = start("--preset", preset, "--out", out, "--cluster", cluster.scheduler_address)
        hit = wait_for(out, total // 3, process)
        os.kill(victim, signal.SIGKILL)
        status, errors = finish(process)
        assert status == 0, errors
        return (out / "results.csv").read_bytes(), int(hit)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.kill_study", description=__doc__)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--cluster", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        began = time.perf_counter()
        status, errors = finish(start("--preset", args.preset, "--out", folder / "calm", "--workers", 2))
        assert status == 0, errors
        print(f"undisturbed: {count(folder / 'calm')} runs in {time.perf_counter() - began:.0f} s", flush=True)
        wanted, total = (folder / "calm" / "results.csv").read_bytes(), count(folder / "calm")
        if args.cluster:
            found, hits = on_a_cluster(args.preset, folder / "cluster", total)
        else:
            found, hits = killed(args.preset, folder / "killed", args.kills, total)
        same = found == wanted
        what = "a worker of the cluster" if args.cluster else "the study"
        print(f"{what} killed {hits} times in the middle: results.csv is {'the same' if same else 'NOT the same'}")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
