"""Every optimizer with its defaults on the full MNIST, as a table: `python -m tests.compare --help`.

On "mnist", its last lines name the runs with less than LEAST, the test accuracy that is promised; its status is then 1.
"""

import argparse
import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from threadpoolctl import threadpool_limits

from minidl.data import load_mnist
from minidl.trainer import evaluate
from minidl.training.build import NAMES
from minidl.training.config import Config, prepare

LEAST = {(opt, model): 0.970 for opt in NAMES for model in ("mlp", "cnn")}  # with an optimizer's defaults
LEAST |= {("hybrid", "mlp"): 0.980, ("hybrid", "cnn"): 0.990}


def train(setting: dict[str, Any]) -> dict[str, Any]:
    """Train one model to the end and return what the table needs."""
    with threadpool_limits(1):  # one core for each worker: two that share both wait for each other
        job = prepare(Config(**setting), load_mnist(name=setting["dataset"]))
        job.trainer.train_to(job.epochs)
        event = job.trainer.optimizer.switch_event
        test_accuracy = evaluate(job.model, job.trainer.splits.test)[1]
    return {**setting, "test_accuracy": test_accuracy, "switch": event and event.step}


def table(results: list[dict[str, Any]], models: list[str]) -> str:
    """Mean and range of the test accuracies over the seeds, a row for each optimizer."""
    lines = ["| `--opt` | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    for opt in NAMES:
        cells = []
        for model in models:
            runs = [r for r in results if (r["opt"], r["model"]) == (opt, model)]
            accuracies = [r["test_accuracy"] for r in runs]
            if accuracies:
                mean = statistics.fmean(accuracies)
                cells.append(f"{mean:.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})")
        if cells:
            lines.append(f"| `{opt}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.compare", description=__doc__)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn"])
    parser.add_argument("--opts", nargs="+", default=list(NAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    settings = [
        {"dataset": args.dataset, "model": model, "opt": opt, "seed": seed}
        for model in args.models
        for opt in args.opts
        for seed in args.seeds
    ]
    results = []
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        for result in pool.map(train, settings):
            results.append(result)
            print(json.dumps(result), flush=True)
    print("\n" + table(results, args.models))
    least = LEAST if args.dataset == "mnist" else {}
    low = [run for run in results if run["test_accuracy"] < least.get((run["opt"], run["model"]), 0)]
    for run in low:
        print("too low:", json.dumps(run))
    return bool(low)


if __name__ == "__main__":
    sys.exit(main())
