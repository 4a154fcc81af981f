"""The cost of an optimizer step: `python -m tests.bench_optim`, on one thread, over 1.9 million float32 parameters.

Adam is compared with the same arithmetic written by hand on whole vectors, in place, with preallocated scratch memory;
the two take turns, so that a slow moment of the machine hits both, and only this process's CPU time counts. The ratio
of the medians must be at most 1.3.

Then a table of rules: NumPy's form, the compiled loop (with the extra `fast`) and PyTorch's fused form (if installed),
for two numbers of weights. With one thread it shows this thread's CPU time, with two the wall-clock time.
"""

# ruff: noqa: E402 (the number of threads is set before NumPy is imported)
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import importlib
import sys
import time
from math import sqrt
from statistics import median

import numpy as np

from minidl import Tensor, fast
from minidl.backend import no_fast
from minidl.fast.threads import use_threads
from minidl.optim import SGD, SWATS, Adagrad, Adam, AdamW, AfterSteps, Blend, Hybrid, RMSprop

N, ROUNDS, LIMIT = 1_900_000, 51, 1.3


class HandWritten:
    """Adam on bare arrays."""

    def __init__(self, w, g):
        self.w, self.g, self.k = w, g, 0
        self.m, self.v, self.s = np.zeros_like(w), np.zeros_like(w), np.empty_like(w)

    def step(self, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
        w, g, m, v, s = self.w, self.g, self.m, self.v, self.s
        self.k += 1
        m *= b1
        np.multiply(g, 1 - b1, out=s)
        m += s
        v *= b2
        np.multiply(g, g, out=s)
        s *= 1 - b2
        v += s
        np.sqrt(v, out=s)
        s *= 1 / sqrt(1 - b2**self.k)  # Python's sqrt: NumPy's float64 scalar would make this a float64 pass
        s += eps
        np.divide(m, s, out=s)
        s *= -lr / (1 - b1**self.k)
        w += s


def made(make, n=N):
    rng = np.random.default_rng(0)
    p = Tensor(rng.normal(size=n).astype(np.float32), requires_grad=True)
    p.grad = rng.normal(size=n).astype(np.float32)
    return make([p])


def interleaved(steps, rounds=ROUNDS, clock=time.process_time):
    """Median milliseconds of each; the steps take turns."""
    times = {name: [] for name in steps}
    for _ in range(rounds + 3):
        for name, step in steps.items():
            start = clock()
            step()
            times[name].append(1e3 * (clock() - start))
    return {name: median(t[3:]) for name, t in times.items()}


# ---- the table ----


def in_adam_phase(params):
    """SWATS before its switch; it would switch at once, since the gradient is always the same."""
    rule = SWATS(params)
    rule.switch = AfterSteps(10**9)
    return rule


RULES = {  # ours, and PyTorch's
    "Adam": (Adam, "Adam", {}),
    "AdamW": (AdamW, "AdamW", {}),
    "SGD, momentum": (lambda p: SGD(p, 1e-3, momentum=0.9), "SGD", {"lr": 1e-3, "momentum": 0.9}),
    "Adagrad": (Adagrad, "Adagrad", {}),
    "RMSprop": (RMSprop, "RMSprop", {"foreach": False}),  # it has no fused form
    "SWATS, Adam phase": (in_adam_phase, None, {}),
    "Blend": (lambda p: Blend(p, steps_per_epoch=100), None, {}),
}


def with_numpy(step):
    def run():
        with no_fast():
            step()

    return run


def with_torch(name, options, n):
    """A step of PyTorch's rule; None if PyTorch is not installed."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None
    rng = np.random.default_rng(0)
    p = torch.tensor(rng.normal(size=n).astype(np.float32), requires_grad=True)
    p.grad = torch.tensor(rng.normal(size=n).astype(np.float32))
    return getattr(torch.optim, name)([p], **({"fused": True} if "foreach" not in options else {}), **options).step


def torch_threads(n):
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def table():
    for threads, clock in ((1, time.thread_time), (2, time.perf_counter)):
        for n in (235_146, 1_863_690):
            print(f"\n{n:,} weights, threads: {threads}, ms")
            print(f"{'':32s} {'NumPy':>9} {fast.version() or 'no numba':>14} {'PyTorch':>9}")
            for name, (make, theirs, options) in RULES.items():
                steps = {"NumPy": with_numpy(made(make, n).step)}
                if fast.version():
                    steps["compiled"] = made(make, n).step
                if theirs and (step := with_torch(theirs, options, n)):
                    steps["PyTorch"] = step
                torch_threads(threads)
                with use_threads(threads):
                    ms = interleaved(steps, 41, clock)
                cells = [f"{ms[column]:.3f}" if column in ms else "" for column in ("NumPy", "compiled", "PyTorch")]
                print(f"{name:32s} {cells[0]:>9} {cells[1]:>14} {cells[2]:>9}", flush=True)


def main():
    argparse.ArgumentParser("python -m tests.bench_optim", description=__doc__.splitlines()[0]).parse_args()
    adam = made(Adam)
    hand = HandWritten(adam.flat.w.copy(), adam.flat.g.copy())
    adam.step(), hand.step()
    assert np.allclose(adam.flat.w, hand.w, rtol=1e-6), "the two must do the same"
    times = interleaved({"Adam": with_numpy(adam.step), "by hand": hand.step})
    ratio = times["Adam"] / times["by hand"]
    print(f"Adam {times['Adam']:.2f} ms, by hand {times['by hand']:.2f} ms a step: ratio {ratio:.2f} (limit {LIMIT})")
    others = {
        "SGD": SGD,
        "SGD, momentum": lambda p: SGD(p, momentum=0.9),
        "SGD, momentum, weight decay": lambda p: SGD(p, momentum=0.9, weight_decay=1e-4),
        "Adam": Adam,
        "Adam, clipped": lambda p: Adam(p, max_norm=1.0),
        "AdamW": AdamW,
        "RMSprop": RMSprop,
        "Adagrad": Adagrad,
        "Blend": lambda p: Blend(p, steps_per_epoch=100),
        "Hybrid, Adam phase": lambda p: Hybrid(p, Adam(), SGD(), AfterSteps(10**9)),
        "Hybrid, Adam phase, projecting": lambda p: Hybrid(p, Adam(), SGD(), AfterSteps(10**9), "projected"),
    }
    for name, ms in interleaved({name: made(make).step for name, make in others.items()}, rounds=9).items():
        print(f"{name:30s} {ms:7.2f} ms")
    table()
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
