"""The race to 99 %: one epoch of MNIST in minidl and in PyTorch, in turns, each run in a process of its own.

    MINIDL_DATA=FOLDER python -m tests.race --seeds 20

prints for both the test accuracy (mean, standard error, 95 % interval), the seconds of the epoch and of the whole
process, and the ratios of these, seed by seed. minidl's process is the command that a user types, which evaluates the
training images too and draws the curves; PyTorch's is race_torch.py, eager, with its fused Adam.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, stdev
from typing import Any

from tests.sizes import ROOT

COLUMNS = {"minidl": [], "hybrid": ["--opt", "hybrid"], "torch": None}  # with what more the command is called
MARGIN = 0.0003  # minidl must not end further than this below PyTorch


def run(column: str, seed: int, threads: int, folder: str) -> dict[str, Any]:
    """One run: its test accuracy, the seconds of its epoch, and those of its process."""
    more, start = COLUMNS[column], time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        if more is None:
            words = [str(ROOT / "tests" / "race_torch.py"), folder, str(seed), str(threads)]
        else:
            words = ["-m", "minidl.train", "--dataset", "mnist", "--model", "race", "--val-fraction", "0"]
            words += ["--seed", str(seed), "--threads", str(threads), "--out", f"{out}/run", *more]
        environment = {**os.environ, "MINIDL_DATA": folder}
        done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{column}, seed {seed}: {done.stderr}")
        found = json.loads(done.stdout if more is None else Path(out, "run", "summary.json").read_text())
    whole = round(time.perf_counter() - start, 2)
    return {"accuracy": found["test_accuracy"], "seconds": round(found["seconds"], 2), "process": whole}


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t."""
    from scipy import stats

    mean, error = sum(values) / len(values), stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, mean, error)
    return mean, float(low), float(high)


def report(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The lines to print: each column by itself, then minidl and the hybrid beside PyTorch."""
    lines = []
    for column, found in runs.items():
        accuracies = [100 * one["accuracy"] for one in found]
        mean, low, high = mean_interval(accuracies)
        error = stdev(accuracies) / len(accuracies) ** 0.5
        epoch, process = (median(one[clock] for one in found) for clock in ("seconds", "process"))
        lines.append(
            f"{column:>7}  {mean:.3f} % ± {error:.3f} (standard error), 95 % interval {low:.3f} to "
            f"{high:.3f}, {len(found)} seeds; epoch {epoch:.1f} s, process {process:.1f} s (medians)"
        )
    for column in (name for name in runs if name != "torch" and "torch" in runs):
        lines.append(f"{column:>7}  {beside(runs[column], runs['torch'])}")
    return lines


def beside(own: list[dict[str, Any]], torch: list[dict[str, Any]]) -> str:
    """The difference in accuracy with its interval (Welch's), and the ratios of times in the same round."""
    from scipy import stats

    a, b = ([one["accuracy"] for one in side] for side in (own, torch))
    difference = sum(a) / len(a) - sum(b) / len(b)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    verdict = "no further" if difference >= -MARGIN else "FURTHER"
    ratios = []
    for clock in ("seconds", "process"):
        each = [x[clock] / y[clock] for x, y in zip(own, torch, strict=False)]
        ratios.append(f"{median(each):.2f} ({min(each):.2f} to {max(each):.2f})")
    return (
        f"minus PyTorch: {100 * difference:+.3f} points (95 % interval {100 * low:+.3f} to {100 * high:+.3f}), "
        f"{verdict} than {100 * MARGIN:.2f} below; time as a share of PyTorch's: epoch {ratios[0]}, process {ratios[1]}"
    )


def machine(threads: int) -> dict[str, Any]:
    """Where the times were taken."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(), "threads": threads}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.race", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="runs of each (default: 20)")
    parser.add_argument("--columns", nargs="+", default=["minidl", "torch"], choices=COLUMNS, help="who runs")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="of both (default: all cores)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the runs there; those in it are not made again"
    )
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"--seeds must be at least 2, for an interval, got {args.seeds}")
    folder = os.environ.get("MINIDL_DATA")
    if not folder:
        parser.error("set MINIDL_DATA to a folder that holds MNIST's four files")
    kept = json.loads(args.json.read_text()) if args.json and args.json.exists() else {"machine": machine(args.threads)}
    for seed in range(args.seeds):
        for column in args.columns:
            runs = kept.setdefault(column, [])
            if len(runs) <= seed:
                runs.append(run(column, seed, args.threads, os.path.abspath(folder)))
                print(f"{column:>7}  seed {seed}: {json.dumps(runs[-1])}", flush=True)
                if args.json:
                    args.json.write_text(json.dumps(kept) + "\n")
    print(json.dumps(kept["machine"]))
    print("\n".join(report({column: kept[column][: args.seeds] for column in args.columns})))


if __name__ == "__main__":
    main()
