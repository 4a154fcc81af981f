"""How fast is minidl beside other libraries? `python -m tests.bench` trains the same models in each and prints ratios.

Speed on a shared machine varies by a factor of two within seconds, so a column's absolute speed means little. Here all
columns take turns of a fraction of a second, each in a live process of its own, and ratios are taken within each
round: what disturbs the machine disturbs both. A round in which other programs took more than a tenth of the machine
is repeated, and of at most twice as many rounds the least disturbed are kept. A process is also fast or slow as a
whole, by where its memory happens to lie, so all processes are restarted a few times. The table shows the median ratio
over all rounds, and its range.

Each library chooses its best instruction set here. Environment variables that restrict one of them to an older set are
removed (such as OPENBLAS_CORETYPE, with which NumPy's matrix products can take twice as long, and PyTorch's no longer
than before). `--avx2` restricts all of them to AVX2, for numbers as on the many laptops without AVX-512.

    python -m tests.bench                                  everything that is installed, about ten minutes
    python -m tests.bench --models cnn --opts adam         one case
    python -m tests.bench --columns minidl torch-fused jax
    python -m tests.bench --columns minidl --before DIR    also the minidl of another checkout, as a column `before`
    python -m tests.bench --field                          the networks of tests/field.py with Adam, an hour
    python -m tests.bench --field keras lenet5 --json F    some of them; the table includes those already in F
    python -m tests.bench --field keras lenet5 --columns torch torch-fused --restarts 1 --turn 0.15    a quick check
    python -m tests.bench --hand                           networks with a handwritten forward (tests/field_hand.py)
    python -m tests.bench --busy                           alone, and next to two busy processes per core
    python -m tests.bench --growth FOLDER                  plots: cost against batch size, width and image size
    python -m tests.bench --profile                        one step of each model, by operation
    python -m tests.bench --costs                          peak memory, import time, and whole commands beside PyTorch
    python -m tests.bench --avx2 ...                       any of these, without AVX-512
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from minidl.study.made import pins
from tests import bench_busy, bench_field, bench_more, field_hand
from tests.bench_cases import OWN, batch_size, cases, median_and_range
from tests.bench_turns import ROOT, TORCH, Setting, best_torch, compare, ratios
from tests.bench_workers import COLUMNS, MODELS, OPTIMIZERS
from tests.field import BY_NAME

AVX2 = {  # what restricts each library to AVX2
    **pins(),
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


def choose_instructions(avx2: bool) -> None:
    """Restart this program if its environment is not what the comparison needs: libraries read it only once."""
    held = {name: os.environ[name] for name in (*AVX2, "OPENBLAS_L2_SIZE") if name in os.environ}
    wanted = AVX2 if avx2 else {}
    if held != wanted:
        for name in held.keys() - wanted.keys():
            print(f"removed from the environment: {name}={held[name]}", file=sys.stderr)
        env = {name: value for name, value in os.environ.items() if name not in held} | wanted
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench", *sys.argv[1:]], env)


def kernels() -> str:
    """NumPy's version, and the BLAS kernels that its matrix products use here."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas = ", ".join(
        f"{library['internal_api']} {library['version']}, {library.get('architecture')} kernels, "
        f"{library['num_threads']} threads"
        for library in found
    )
    return f"NumPy {np.__version__}, {blas or 'BLAS unknown'}"


def report(model: str, opt: str, batch: int, speeds: dict[str, list[float]]) -> None:
    best = best_torch(speeds)
    print(f"\n{model}, {opt}, batch {batch}:" + (f" the best PyTorch mode is {best}" if best else ""))
    print(f"  {'':14} {'minidl is faster by':>24} {'samples/s, median and range':>34}")
    for column, values in speeds.items():
        r = sorted(ratios(speeds, column))
        text = "" if column == "minidl" else f"{statistics.median(r):6.2f}x ({r[0]:.2f} to {r[-1]:.2f})"
        print(
            f"  {column + (' *' if column == best else ''):14} {text:>24} "
            f"{statistics.median(values):12,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        )
    if "gemm" in speeds:
        times = [1 / share for share in ratios(speeds, "gemm")]
        print(f"  a step takes {median_and_range(times).strip()} times as long as its matrix products alone")
    sys.stdout.flush()


def processor() -> str:
    """The processor's name, if the system reports it, and how many cores this program may use."""
    try:
        about = dict(line.partition(":")[::2] for line in Path("/proc/cpuinfo").read_text().splitlines())
        named = {name.strip(): value.strip() for name, value in about.items()}
        name = f"{named['model name']} (family {named['cpu family']}, model {named['model']})"
        return f"{name}, {len(os.sched_getaffinity(0))} cores"
    except (OSError, KeyError, AttributeError):
        return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers = [column for column in COLUMNS if column != "before"]
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--opts", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--field", nargs="*", metavar="NAME", help=f"only: of {' '.join(BY_NAME)}; all by default")
    parser.add_argument(
        "--hand", nargs="*", metavar="NAME",
        help=f"only handwritten networks: of {' '.join(field_hand.BY_NAME)}; all by default",
    )  # fmt: skip
    parser.add_argument("--batches", nargs="+", type=batch_size, default=[OWN], metavar="N", help="of --field")
    parser.add_argument(
        "--busy", nargs="?", const="python", choices=bench_busy.BUSY,
        help="only: alone, and next to two busy processes per core, of plain Python (the default) or of products",
    )  # fmt: skip
    parser.add_argument("--columns", nargs="+", choices=peers, metavar="COLUMN", help=f"of {', '.join(peers)}")
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout, as a column `before`")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of turns, with the same processes")
    parser.add_argument("--restarts", type=int, default=3, help="restarts of all processes, each with that many rounds")
    parser.add_argument("--turn", type=float, default=0.3, help="seconds for one turn of one column")
    parser.add_argument("--patience", type=float, default=5, help="seconds to wait for a quiet machine, each restart")
    parser.add_argument("--python", nargs="+", default=[], metavar="COLUMN=PYTHON", help="another environment's Python")
    parser.add_argument("--json", type=Path, help="also write every round's numbers here")
    parser.add_argument("--profile", action="store_true", help="only: one step of minidl by operation")
    parser.add_argument("--growth", type=Path, help="only: plots of cost against size, into this folder")
    parser.add_argument("--costs", action="store_true", help="only: peak memory and import time")
    parser.add_argument("--avx2", action="store_true", help="restrict all libraries to AVX2")
    args = parser.parse_args(argv)
    args.networks = []
    for option, names, there in ("--field", args.field, BY_NAME), ("--hand", args.hand, field_hand.BY_NAME):
        for name in names or ():
            if name not in there:
                parser.error(f"{option}: there is no network {name!r}; there are {', '.join(there)}")
        if names is not None:
            args.networks += [there[name] for name in names or there]
    usual = TORCH if args.networks else [column for column in peers if not column.startswith("minidl-")]
    usual = bench_busy.COLUMNS if args.busy else usual
    args.columns = list(args.columns or usual)
    if "minidl" not in args.columns:  # ratios are relative to it
        args.columns.insert(0, "minidl")
    return args


def main() -> None:
    args = parse(None)
    choose_instructions(args.avx2)
    record = {"date": str(datetime.date.today()), "processor": processor(), "kernels": kernels(), "avx2": args.avx2}
    print(f"{record['date']}, {record['processor']}, {record['kernels']}", flush=True)
    if args.profile:
        return bench_more.profile(args.models)
    if args.costs:
        return bench_more.costs(args.models, args.columns, args.before)
    if args.growth:
        return bench_more.growth(args.growth, args.columns)
    pythons = dict(pair.split("=", 1) for pair in args.python)
    roots = dict.fromkeys(args.columns, ROOT) | ({"before": args.before} if args.before else {})
    setting = Setting(roots, args.rounds, args.restarts, args.turn, args.patience, pythons)
    print(
        f"training, {args.restarts} x {args.rounds} rounds of {args.turn:g} s turns"
        + (", all libraries restricted to AVX2" if args.avx2 else "")
    )
    if args.networks:
        return bench_field.field(cases(args.networks, args.batches), setting, record, args.json)
    if args.busy:
        return bench_busy.busy(args.models, setting, args.batch, args.busy, record, args.json)
    results: dict[str, dict[str, list[float]]] = {}
    for model in args.models:
        for opt in args.opts:
            speeds = results[f"{model} {opt}"] = compare(setting, model, opt, args.batch)
            report(model, opt, args.batch, speeds)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return None


if __name__ == "__main__":
    main()
