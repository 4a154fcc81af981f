"""How fast is minidl beside its peers? `python -m tests.bench` trains the same models in each and prints the ratios.

Speed on a shared machine jumps by a factor of two within seconds, so a column's absolute speed says little. Here all
columns take turns of a fraction of a second, each in a live process of its own, and a ratio is taken within each
round: what disturbs the machine disturbs both. A round in which other programs took more than a tenth of the machine
is run again, a few times at most. And a process is fast or slow as a whole, by where its memory happens to lie, so
all of them are started anew a few times. The table shows the median ratio over all rounds, and its range.

Each library chooses the instructions that it finds best here. A variable that holds one of them to older ones is left
out (such as OPENBLAS_CORETYPE, with which NumPy's matrix products can take twice as long, and PyTorch's no longer than
before). `--avx2` holds all of them to AVX2, for numbers as on the many laptops that have no AVX-512.

    python -m tests.bench                                  everything that is installed, about ten minutes
    python -m tests.bench --models cnn --opts adam         one case
    python -m tests.bench --columns minidl torch-fused jax
    python -m tests.bench --columns minidl --before DIR    beside the minidl of another checkout, as a column `before`
    python -m tests.bench --growth FOLDER                  plots: cost against batch size, width and image size
    python -m tests.bench --profile                        one step of each model, by operation
    python -m tests.bench --costs                          peak memory, import, and whole commands beside PyTorch
    python -m tests.bench --avx2 ...                       any of these, without AVX-512
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy._core._multiarray_umath import __cpu_dispatch__
from threadpoolctl import threadpool_info

from tests import bench_more
from tests.bench_workers import COLUMNS, LOAD, MODELS, OPTIMIZERS

ROOT = Path(__file__).resolve().parents[1]
TORCH = ("torch", "torch-fused", "torch-compile")
SETTLE = 0.1  # seconds between two turns: the threads of OpenBLAS and OpenMP go on spinning for a while
AVX2 = {  # what holds each library to AVX2
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if "512" in name or name == "X86_V4"),
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


class Worker:
    """One column's live process."""

    def __init__(self, column: str, python: str = sys.executable, root: Path = ROOT) -> None:
        """root  the checkout whose minidl the process imports; this file's worker runs it"""
        self.column = column
        self.process = subprocess.Popen(
            [python, "-c", LOAD + "workers.serve(sys.argv[2])", str(ROOT / "tests" / "bench_workers.py"), column],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root,
        )  # fmt: skip

    def run(self, model: str, opt: str, batch: int, steps: int) -> float:
        """Seconds that the steps took. Raises RuntimeError where this column can't run the model.

        Afterwards `foreign` is the share of the machine that other programs took meanwhile.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        time.sleep(SETTLE)
        begin, busy = time.perf_counter(), busy_seconds()
        self.process.stdin.write(json.dumps({"model": model, "opt": opt, "batch": batch, "steps": steps}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        elapsed = (time.perf_counter() - begin) * (os.cpu_count() or 1)
        self.foreign = max(0.0, busy_seconds() - busy - answer["cpu"]) / elapsed
        return float(answer["seconds"])

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def choose_instructions(avx2: bool) -> None:
    """Start this program anew where its environment is not as the comparison needs it: libraries read it once."""
    held = {name: os.environ[name] for name in (*AVX2, "OPENBLAS_L2_SIZE") if name in os.environ}
    wanted = AVX2 if avx2 else {}
    if held != wanted:
        for name in held.keys() - wanted.keys():
            print(f"left out: {name}={held[name]}", file=sys.stderr)
        env = {name: value for name, value in os.environ.items() if name not in held} | wanted
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench", *sys.argv[1:]], env)


def kernels() -> str:
    """NumPy's version, and the kernels that its matrix products take here."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas = ", ".join(
        f"{library['internal_api']} {library['version']}, {library.get('architecture')} kernels, "
        f"{library['num_threads']} threads"
        for library in found
    )
    return f"NumPy {np.__version__}, {blas or 'BLAS unknown'}"


def busy_seconds() -> float:
    """CPU seconds that all programs together have used since the machine started; 0 where the system doesn't say."""
    try:
        user, nice, system, _idle, _wait, *rest = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, *rest[:3]))) / os.sysconf("SC_CLK_TCK")


def measure(
    workers: list[Worker], model: str, opt: str, batch: int, rounds: int, turn_seconds: float
) -> dict[str, list[float]]:
    """Samples per second of every column that can run this, round by round."""
    speeds: dict[str, list[float]] = {}
    steps: dict[str, int] = {}
    for worker in workers:  # a first turn builds the model and finds how many steps fill a turn
        try:
            worker.run(model, opt, batch, 3)
            once = worker.run(model, opt, batch, 5) / 5
        except RuntimeError as error:
            print(f"  {worker.column} left out: {error}", file=sys.stderr)
            continue
        steps[worker.column] = max(2, round(turn_seconds / once))
        speeds[worker.column] = []
    able = [worker for worker in workers if worker.column in steps]
    done = disturbed = 0
    while done < rounds:
        turns, foreign = {}, 0.0
        for worker in able[done % len(able) :] + able[: done % len(able)]:  # another one begins each round
            n = steps[worker.column]
            turns[worker.column] = n * batch / worker.run(model, opt, batch, n)
            foreign = max(foreign, worker.foreign)
        if foreign > 0.1 and disturbed < rounds:
            disturbed += 1
            time.sleep(0.2)
            continue
        done += 1
        for column, speed in turns.items():
            speeds[column].append(speed)
    if disturbed:
        print(f"  {disturbed} rounds were disturbed by other programs and run again", file=sys.stderr)
    return speeds


def ratios(speeds: dict[str, list[float]], over: str) -> list[float]:
    """minidl's speed over that column's, in each round."""
    return [ours / theirs for ours, theirs in zip(speeds["minidl"], speeds[over], strict=True)]


def best_torch(speeds: dict[str, list[float]]) -> str | None:
    """The PyTorch mode with the highest median."""
    modes = [c for c in TORCH if c in speeds]
    return max(modes, key=lambda c: statistics.median(speeds[c])) if modes else None


def report(model: str, opt: str, speeds: dict[str, list[float]]) -> None:
    best = best_torch(speeds)
    print(f"\n{model}, {opt}:" + (f" the best PyTorch mode is {best}" if best else ""))
    print(f"  {'':14} {'minidl is faster by':>24} {'samples/s, median and range':>34}")
    for column, values in speeds.items():
        r = sorted(ratios(speeds, column))
        text = "" if column == "minidl" else f"{statistics.median(r):6.2f}x ({r[0]:.2f} to {r[-1]:.2f})"
        print(
            f"  {column + (' *' if column == best else ''):14} {text:>24} "
            f"{statistics.median(values):12,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--opts", nargs="+", default=list(OPTIMIZERS))
    peers = [column for column in COLUMNS if column != "before"]
    parser.add_argument("--columns", nargs="+", default=peers, choices=peers)
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout, as a column `before`")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="of turns, with the same processes")
    parser.add_argument("--restarts", type=int, default=3, help="of all processes, each with as many rounds")
    parser.add_argument("--turn", type=float, default=0.3, help="seconds for one turn of one column")
    parser.add_argument("--python", nargs="+", default=[], metavar="COLUMN=PYTHON", help="another environment's Python")
    parser.add_argument("--json", type=Path, help="write every round's numbers here too")
    parser.add_argument("--profile", action="store_true", help="only: one step of minidl by operation")
    parser.add_argument("--growth", type=Path, help="only: plots of cost against size, into this folder")
    parser.add_argument("--costs", action="store_true", help="only: peak memory and import time")
    parser.add_argument("--avx2", action="store_true", help="hold all libraries to AVX2")
    args = parser.parse_args()
    choose_instructions(args.avx2)
    print(f"{datetime.date.today()}, {kernels()}", flush=True)
    if args.profile:
        return bench_more.profile(args.models)
    if args.costs:
        return bench_more.costs(args.models, args.columns, args.before)
    if args.growth:
        return bench_more.growth(args.growth, args.columns)
    print(
        f"training, batch {args.batch}, {args.restarts} x {args.rounds} rounds of {args.turn:g} s turns"
        + (", all libraries held to AVX2" if args.avx2 else "")
    )
    pythons = dict(pair.split("=", 1) for pair in args.python)
    if "minidl" not in args.columns:  # the ratios are to it
        args.columns.insert(0, "minidl")
    roots = dict.fromkeys(args.columns, ROOT) | ({"before": args.before} if args.before else {})
    results: dict[str, dict[str, list[float]]] = {}
    for model in args.models:
        for opt in args.opts:
            speeds: dict[str, list[float]] = defaultdict(list)
            for _ in range(args.restarts):
                workers = [Worker(column, pythons.get(column, sys.executable), root) for column, root in roots.items()]
                try:
                    once = measure(workers, model, opt, args.batch, args.rounds, args.turn)
                finally:
                    for worker in workers:
                        worker.close()
                for column, values in once.items():
                    speeds[column] += values
            report(model, opt, speeds)
            results[f"{model} {opt}"] = speeds
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return None


if __name__ == "__main__":
    main()
