"""The cost of recording: the same training with and without a Recorder, in turns; building the page is counted too.

    python -m tests.bench_trace --rounds 5

Each pair trains the same run, so that its times differ by the recording alone. Wall time is what a user waits for;
CPU time hardly depends on the load of the machine.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from minidl.data import load_mnist
from minidl.fast.malloc import tune_allocator
from minidl.trace import Recorder
from minidl.training.config import Config, prepare

RUNS = {
    "mlp": Config(model="mlp", opt="hybrid", epochs=10),
    "mlp, 3 epochs": Config(model="mlp", opt="hybrid", epochs=3),
    "cnn, 2 epochs": Config(model="cnn", opt="hybrid", epochs=2),
}


def seconds(config: Config, record: bool) -> tuple[float, float, float]:
    """Wall and CPU time of the training, and CPU time including the page, if there is one."""
    trainer = prepare(config, dataset=load_mnist(name=config.dataset)).trainer
    wall, cpu = time.perf_counter(), time.process_time()
    if not record:
        trainer.train_to(config.epochs or 1)
        return time.perf_counter() - wall, time.process_time() - cpu, time.process_time() - cpu
    recorder = Recorder(trainer)
    trainer.train_to(config.epochs or 1, [recorder])
    wall, trained = time.perf_counter() - wall, time.process_time() - cpu
    size = len(recorder.html())
    assert size <= 8e6, size
    return wall, trained, time.process_time() - cpu


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what recording adds."""
    parser = argparse.ArgumentParser(prog="tests.bench_trace", description=__doc__)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    tune_allocator()
    with threadpool_limits(1, user_api="blas"):
        for name in args.runs:
            added: list[list[float]] = []  # percent, by round
            for i in tqdm(range(args.rounds), disable=None, desc=name):
                order = (True, False) if i % 2 else (False, True)
                times = {record: seconds(RUNS[name], record) for record in order}
                added.append([100 * (a / b - 1) for a, b in zip(times[True], times[False], strict=True)])
            what = ("wall time", "CPU time", "CPU time with the page")
            parts = [
                f"{statistics.median(column):.1f} % of {words} ({min(column):.1f} to {max(column):.1f})"
                for words, column in zip(what, zip(*added, strict=True), strict=True)
            ]
            print(f"{name}: recording adds {', '.join(parts)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
