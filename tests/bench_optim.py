"""What a step costs: `python -m tests.bench_optim`, on one thread, over 1.9 million float32 parameters.

Adam is timed beside the same arithmetic written by hand on whole vectors, in place, with preallocated scratch memory;
the two take turns, so that a slow moment of the machine hits both, and only this process's CPU time counts. The ratio
of the medians must be at most 1.3.
"""

# ruff: noqa: E402 (the number of threads is set before NumPy is imported)
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
import time
from math import sqrt
from statistics import median

import numpy as np

from minidl import Tensor
from minidl.optim import SGD, Adagrad, Adam, AdamW, AfterSteps, Blend, Hybrid, RMSprop

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


def made(make):
    rng = np.random.default_rng(0)
    p = Tensor(rng.normal(size=N).astype(np.float32), requires_grad=True)
    p.grad = rng.normal(size=N).astype(np.float32)
    return make([p])


def interleaved(steps, rounds=ROUNDS):
    """Median milliseconds of each, taking turns."""
    times = {name: [] for name in steps}
    for _ in range(rounds + 3):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: median(t[3:]) for name, t in times.items()}


def main():
    adam = made(Adam)
    hand = HandWritten(adam.flat.w.copy(), adam.flat.g.copy())
    adam.step(), hand.step()
    assert np.allclose(adam.flat.w, hand.w, rtol=1e-6), "the two must do the same"
    times = interleaved({"Adam": adam.step, "by hand": hand.step})
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
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
