"""Golden trajectories: the losses of the first steps on mnist5k by every optimizer, from PyTorch in float64.

`python -m tests.golden` prints how far minidl is from them; with --update, golden.json gets what PyTorch says now. They
hold the values of a run's bits to rounding: where a change moves them on purpose, raise BITS in minidl/training/run.py
and update the file.
"""

import json
import sys
from math import exp, sqrt
from pathlib import Path

import numpy as np

from minidl import Tensor, ops
from minidl.data.batches import steps_per_epoch
from minidl.training.config import Config, Job, optimizer_of, prepare
from minidl.training.observer import Observer
from minidl.training.run import BITS

FILE = Path(__file__).with_name("golden.json")
AT = (1, 2, 3, 5, 8, 13)  # the steps whose losses are kept; later, what rounding leaves has grown too large
MODELS = ("mlp", "cnn")
SWITCH = {"lr": 1e-3, "lr_sgd": 0.01, "momentum": 0.9, "switch": "step:10", "schedule": "constant"}
OPTIMIZERS = {
    "sgd": {}, "momentum": {}, "nesterov": {}, "adagrad": {}, "rmsprop": {}, "adam": {"weight_decay": 1e-3},
    "adamw": {"weight_decay": 0.1}, "hybrid": SWITCH, "swats": {"switch": "swats:rtol=0.5", "weight_decay": 0.1},
    "gnmt": {"lr_sgd": 0.05}, "blend": {},
}  # fmt: skip


def job(model, opt) -> Job:
    return prepare(Config(dataset="mnist5k", model=model, opt=opt, epochs=1, device="cpu", **OPTIMIZERS[opt]))


class Losses(Observer):
    """Notes each step's loss, and its batch as float64, until there are enough."""

    def __init__(self) -> None:
        self.losses, self.batches = [], []

    def after_step(self, step) -> bool:
        self.losses.append(float(step.loss))
        self.batches.append((np.float64(step.x.numpy()), step.labels))
        return step.number == AT[-1]


def ours(model, opt):
    """The losses of minidl at the steps AT, and the batches."""
    seen, trainer = Losses(), job(model, opt).trainer
    trainer.train_to(1, [seen], validate=False)
    return [seen.losses[k - 1] for k in AT], seen.batches


def in_double(model, opt, batches):
    """The same losses by a loop of one's own in float64, where no rounding grows: from the same weights and batches."""
    begun = job(model, opt)
    length = steps_per_epoch(len(begun.trainer.splits.train), begun.config.batch_size)
    net = begun.model.to(dtype="float64").train()
    optimizer = optimizer_of(begun.config, net, begun.epochs, length)
    losses = []
    for x, labels in batches:
        loss = ops.cross_entropy(net(Tensor(x)), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [losses[k - 1] for k in AT]


def golden() -> dict:
    """What the file says: {"bits": ..., "losses": {model: {optimizer: [...]}}}."""
    return json.loads(FILE.read_text())


# ---- PyTorch ----


def pytorchs(model, opt, batches):
    """The losses of the same batches in PyTorch, in float64, from the same weights."""
    import torch

    torch.set_num_threads(1)  # on a busy machine threads wait for each other
    begun = job(model, opt)
    network = _network(begun.model, torch)
    params = list(network.parameters())
    step = _step(opt, begun, params, torch)
    losses = []
    for k, (x, labels) in enumerate(batches, start=1):
        loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(x)), torch.from_numpy(labels))
        for p in params:
            p.grad = None
        loss.backward()
        with torch.no_grad():
            step(k)
        losses.append(loss.item())
    return [losses[k - 1] for k in AT]


def _network(model, torch):
    t, layers = torch.nn, []
    for _, layer in model.named_children():
        shape = getattr(getattr(layer, "weight", None), "shape", ())
        match type(layer).__name__:
            case "Conv2d":
                layers.append(t.Conv2d(shape[1], shape[0], shape[2], padding=1))
            case "Linear":
                layers.append(t.Linear(shape[1], shape[0]))
            case "MaxPool2d":
                layers.append(t.MaxPool2d(2))
            case name:
                layers.append(getattr(t, name)())
    network = t.Sequential(*layers).double()
    network.load_state_dict({name: torch.from_numpy(np.float64(v)) for name, v in model.state_dict().items()})
    return network


def _step(opt, begun, params, torch):
    """A function that takes step k = 1, 2, ..."""
    config, o = begun.config, torch.optim
    lr, mu, decay = config.lr, config.momentum or 0.0, config.weight_decay or 0.0
    simple = {
        "sgd": lambda: o.SGD(params, lr),
        "momentum": lambda: o.SGD(params, lr, mu),
        "nesterov": lambda: o.SGD(params, lr, mu, nesterov=True),
        "adagrad": lambda: o.Adagrad(params, lr),
        "rmsprop": lambda: o.RMSprop(params, lr, momentum=mu),
        "adam": lambda: o.Adam(params, lr, weight_decay=decay),
        "adamw": lambda: o.AdamW(params, lr, weight_decay=decay),
    }
    if opt in simple:
        optimizer = simple[opt]()
        return lambda k: optimizer.step()
    if opt == "hybrid":
        adam, sgd = o.Adam(params, lr), o.SGD(params, config.lr_sgd, mu)
        return lambda k: (adam if k <= 10 else sgd).step()
    return {"gnmt": _gnmt, "blend": _blend, "swats": _swats}[opt](config, params, torch)


def _gnmt(config, params, torch):
    """Of 29 steps one is Adam's; the rate halves at 17, and every 3 steps from there."""
    adam, sgd = torch.optim.Adam(params, config.lr), torch.optim.SGD(params, config.lr_sgd)

    def step(k):
        torch.nn.utils.clip_grad_norm_(params, 5.0)
        sgd.param_groups[0]["lr"] = config.lr_sgd * 0.5 ** (0 if k <= 17 else 1 + (k - 18) // 3)
        (adam if k == 1 else sgd).step()

    return step


def _blend(config, params, torch):
    """The slide's centre is at 10/90 of the run, its period 5/90."""
    m, d = [torch.zeros_like(p) for p in params], [torch.zeros_like(p) for p in params]

    def step(k):
        x = ((k - 1) / 29 - 10 / 90) / (5 / 90)
        share = 0.5 * exp(2 * x) if x < 0 else min(0.5 + x, 1.0)
        rms = (1 - share) * 3e-4 / config.lr
        for p, m_, d_ in zip(params, m, d, strict=True):
            m_.mul_(0.99).add_(0.01 * p.grad**2)
            d_.mul_(config.momentum).sub_((share + rms / (m_.sqrt() + 1e-8)) * p.grad)
            p.add_(config.lr * d_)

    return step


def _swats(config, params, torch):
    """Algorithm 1 with a relative tolerance of 0.5."""
    m, a, v = ([torch.zeros_like(p) for p in params] for _ in range(3))
    state = {"lam": 0.0, "Lambda": None}

    def step(k):
        shrink = 1 - config.lr * config.weight_decay
        if state["Lambda"] is not None:
            for p, v_ in zip(params, v, strict=True):
                v_.mul_(0.9).add_(p.grad)
                p.mul_(shrink).sub_(0.1 * state["Lambda"] * v_)
            return
        pp = pg = 0.0
        for p, m_, a_ in zip(params, m, a, strict=True):
            g = p.grad
            m_.mul_(0.9).add_(0.1 * g)
            a_.mul_(0.999).add_(0.001 * g**2)
            move = -config.lr * sqrt(1 - 0.999**k) / (1 - 0.9**k) * m_ / (a_.sqrt() + 1e-9)
            p.mul_(shrink).add_(move)
            pp, pg = pp + float((move * move).sum()), pg + float((move * g).sum())
        gamma = pp / -pg
        state["lam"] = 0.999 * state["lam"] + 0.001 * gamma
        estimate = state["lam"] / (1 - 0.999**k)
        if k > 1 and abs(estimate - gamma) < 0.5 * abs(estimate) and estimate > 0:
            state["Lambda"] = estimate

    return step


def main() -> int:
    losses: dict = {}
    for model in MODELS:
        for opt in OPTIMIZERS:
            mine, batches = ours(model, opt)
            theirs = pytorchs(model, opt, batches)
            losses.setdefault(model, {})[opt] = theirs
            print(f"{model:>4} {opt:>9}  farthest {max(abs(a / b - 1) for a, b in zip(mine, theirs, strict=True)):.1e}")
    if "--update" in sys.argv:
        FILE.write_text(json.dumps({"bits": BITS, "steps": AT, "losses": losses}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
