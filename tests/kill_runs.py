"""Kill training runs at random moments, resume them, and compare every bit with a run that nobody killed.

    python -m tests.kill_runs --n 200

Each run gets SIGKILL, which no program can prepare for, once or several times, at moments drawn over its whole length.
It writes a checkpoint after every step, so that many kills fall into the writing of one. Then it is resumed to its end.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl.training.checkpoint import load_checkpoint
from minidl.training.run import CHECKPOINT
from tests.commands import Child, difference, outcome, tiny_dataset, train

EPOCHS, BATCH = 8, 30  # 180 training images: 6 steps per epoch

CASES = {
    "switch at a step, dropout": "--model goodfit --switch step:20",
    "switch on a plateau or a gap": "--model mlp --switch plateau:patience=1,min_delta=0.3|gap:0.2",
    "projected rate, schedule": "--model linear --switch swats:rtol=0.5&step:20 --lr-after projected --schedule cosine",
    "SWATS": "--model mlp --opt swats --switch swats:rtol=0.5 --weight-decay 0.001",
    "GNMT": "--model underfit --opt gnmt --lr 0.002",
    "blend": "--model mlp --opt blend",
    "Adam, schedule, clipping": "--model underfit --opt adam --schedule cosine:warmup=5 --clip-norm 1",
    "Nesterov, convolutions": "--model cnn --opt nesterov",
}


@dataclass
class Reference:
    """An uninterrupted run: what it left behind and how long it took."""

    outcome: dict[str, Any]
    seconds: float


class Killer:
    """Runs, kills and resumes one case after the other in a scratch folder."""

    def __init__(self, scratch: Path, seed: int, pool: ThreadPoolExecutor) -> None:
        self.scratch, self.seed = scratch, seed
        self.data = tiny_dataset(scratch / "data")
        train(*self.arguments("GNMT", scratch / "first"), log=scratch / "first.log")  # later ones find all in memory
        self.references = dict(zip(CASES, pool.map(self._reference, CASES), strict=True))

    def arguments(self, case: str, out: Path) -> list[object]:
        always = ["--dataset", self.data, "--epochs", EPOCHS, "--batch-size", BATCH, "--checkpoint-every", 1]
        return [*always, *CASES[case].split(), "--out", out]

    def _reference(self, case: str) -> Reference:
        out, log = self.scratch / case, self.scratch / f"{case}.log"
        start = time.perf_counter()
        status, output = train(*self.arguments(case, out), log=log)
        if status:
            raise RuntimeError(f"{case}: {output}")
        return Reference(outcome(out), time.perf_counter() - start)

    def run(self, i: int) -> tuple[str, list[str]]:
        """One run, killed and resumed. Returns what is wrong with it ("" if nothing) and where each kill hit."""
        rng = np.random.default_rng([self.seed, i])
        case = list(CASES)[i % len(CASES)]
        out, log = self.scratch / f"run{i}", self.scratch / f"run{i}.log"
        length, wanted, hits = self.references[case].seconds, 1 + int(rng.integers(4) == 0) * 2, []
        while len(hits) < wanted:
            child = Child(*self.go_on(case, out), log=log)
            if child.kill_after(rng.uniform(0, length)):
                hits += ["+".join(moments(out))]
                length *= 0.5  # what is left is shorter
            elif hits:
                break  # it reached its end between two kills
            else:  # the end came before the first: again, and sooner
                shutil.rmtree(out)
                length *= 0.7
        status, output = train(*self.go_on(case, out), log=log)
        wrong = output if status else difference(outcome(out), self.references[case].outcome)
        shutil.rmtree(out)
        return f"run {i} ({case}), killed at {hits}: {wrong}" if wrong else "", hits

    def go_on(self, case: str, out: Path) -> list[object]:
        """What a user types: --resume, or the first command again where not even a checkpoint of step 0 is there."""
        return ["--resume", out] if (out / CHECKPOINT).exists() else self.arguments(case, out)


def moments(out: Path) -> Iterator[str]:
    """Where a kill hit, as the folder shows it. The checkpoint that is there must be whole."""
    if not (out / CHECKPOINT).exists():
        yield "before the first checkpoint"
    else:
        state = load_checkpoint(out / CHECKPOINT).state
        if state["trainer"]["epoch"] == EPOCHS:
            yield "writing the results"
        else:
            switched = state["optimizer"].get("switch")
            yield "after the switch" if switched else "before the switch"
    if any(out.glob(f".{CHECKPOINT}*.part")):
        yield "while writing a checkpoint"


def kill_runs(n: int, scratch: Path, seed: int = 0, workers: int = 2) -> tuple[list[str], list[list[str]]]:
    """Returns what went wrong, a line per run that did, and where the kills of each run hit."""
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(Killer(scratch, seed, pool).run, range(n)))
    return [wrong for wrong, _ in results if wrong], [hits for _, hits in results]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.kill_runs", description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="how many runs (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: 2)")
    args = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for the processes to come: two runs share two cores
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        wrong, hits = kill_runs(args.n, Path(scratch), args.seed, args.workers)
    kills = [hit for run in hits for hit in run]
    print(f"{args.n} runs, {len(kills)} kills, {time.perf_counter() - start:.0f} s; {args.n - len(wrong)} bit-equal")
    print(f"runs killed more than once: {sum(len(run) > 1 for run in hits)}")
    for where, count in Counter(part for kill in kills for part in kill.split("+")).most_common():
        print(f"{count:>6} kills {where}")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
