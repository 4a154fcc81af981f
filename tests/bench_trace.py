"""What recording costs: the same training with and without a Recorder, in turns; the page's making counted too.

    python -m tests.bench_trace --rounds 5

Each pair trains the same run, so that its times differ by the recording alone. Wall time says what a user waits;
processor time hardly minds what else the machine does.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from data import load_mnist
from minidl import buffers
from minidl.config import Config, prepare
from minidl.trace import Recorder

RUNS = {
    "mlp": Config(model="mlp", opt="hybrid", epochs=10),
    "mlp, 3 epochs": Config(model="mlp", opt="hybrid", epochs=3),
    "cnn, 2 epochs": Config(model="cnn", opt="hybrid", epochs=2),
}


def seconds(config: Config, record: bool) -> tuple[float, float]:
    """Wall and processor time of the training, and of the page where there is one."""
    trainer = prepare(config, dataset=load_mnist(name=config.dataset)).trainer
    start = time.perf_counter(), time.process_time()
    if record:
        with Recorder(trainer) as recorder:
            trainer.fit(config.epochs or 1)
        size = len(recorder.html())
        assert size <= 8e6, size
    else:
        trainer.fit(config.epochs or 1)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what recording adds."""
    parser = argparse.ArgumentParser(prog="tests.bench_trace", description=__doc__)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    buffers.tune_allocator()
    with threadpool_limits(1, user_api="blas"):
        for name in args.runs:
            ratios: list[tuple[float, float]] = []
            for i in tqdm(range(args.rounds), disable=None, desc=name):
                order = (True, False) if i % 2 else (False, True)
                times = {record: seconds(RUNS[name], record) for record in order}
                ratios.append((times[True][0] / times[False][0], times[True][1] / times[False][1]))
            wall, cpu = (sorted(100 * (r - 1) for r in column) for column in zip(*ratios, strict=True))
            print(
                f"{name}: recording adds {statistics.median(wall):.1f} % of wall time ({wall[0]:.1f} to "
                f"{wall[-1]:.1f}), {statistics.median(cpu):.1f} % of processor time ({cpu[0]:.1f} to {cpu[-1]:.1f})",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
