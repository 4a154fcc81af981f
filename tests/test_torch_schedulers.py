"""Every scheduler of torch.optim.lr_scheduler on a wrapped optimizer: as on PyTorch's own, and across the switch."""

import warnings
from itertools import pairwise

import numpy as np
import pytest

from minidl.optim import SGD, SWATS, Adam, AdamW, AfterEpochs, AfterSteps, Gap, Hybrid, RMSprop
from tests.test_torch_wrap import one_thread, torch_batch, torch_cnn

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
from minidl.optim.torch import PATIENCE, wrap  # noqa: E402 (needs torch)

pytestmark = [pytest.mark.pytorch, pytest.mark.usefixtures("one_thread")]
assert one_thread

S = torch.optim.lr_scheduler
SCHEDULERS = {
    "LambdaLR": lambda o: S.LambdaLR(o, lambda k: 1 / (k + 1)),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda k: 0.9),
    "StepLR": lambda o: S.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [4, 9], 0.3),
    "ConstantLR": lambda o: S.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: S.LinearLR(o, 0.2, 1.0, 6),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, 1.0, 5), S.CosineAnnealingLR(o, 15)], [5]),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 15, 2.0),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, 20, 1e-4),
    "ChainedScheduler": lambda o: S.ChainedScheduler([S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.9)]),
    "ReduceLROnPlateau": lambda o: S.ReduceLROnPlateau(o, factor=0.5, patience=2),
    "CyclicLR": lambda o: S.CyclicLR(o, 1e-3, 0.02, step_size_up=4),
    "CyclicLR, rate alone": lambda o: S.CyclicLR(o, 1e-3, 0.02, step_size_up=4, cycle_momentum=False),
    "OneCycleLR": lambda o: S.OneCycleLR(o, 0.02, total_steps=30),
    "OneCycleLR, rate alone": lambda o: S.OneCycleLR(o, 0.02, total_steps=30, cycle_momentum=False),
    "CosineAnnealingWarmRestarts": lambda o: S.CosineAnnealingWarmRestarts(o, 5, 2),
}
RULES = {
    "SGD": (SGD, {"lr": 0.02, "momentum": 0.9}),
    "SGD, no momentum": (SGD, {"lr": 0.02}),
    "Adam": (Adam, {"lr": 1e-3}),
    "AdamW": (AdamW, {"lr": 1e-3, "weight_decay": 0.1}),
    "RMSprop": (RMSprop, {"lr": 1e-3, "momentum": 0.5}),
}


def advance(scheduler, loss):
    scheduler.step(loss) if isinstance(scheduler, S.ReduceLROnPlateau) else scheduler.step()


def test_none_is_left_out():
    """A scheduler of a later PyTorch shows up here."""
    known = {name.split(",")[0] for name in SCHEDULERS} | {"LRScheduler"}
    assert set(S.__all__) <= known


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_as_on_pytorchs_own(name, rule):
    ours, theirs = torch_cnn(), torch_cnn()
    kind, arguments = RULES[rule]
    our_optimizer = wrap(kind, ours.parameters(), **arguments)
    their_optimizer = getattr(torch.optim, kind.__name__)(theirs.parameters(), **arguments)
    our_scheduler, their_scheduler = SCHEDULERS[name](our_optimizer), SCHEDULERS[name](their_optimizer)
    for k in range(20):
        losses = torch_batch(ours, our_optimizer, k), torch_batch(theirs, their_optimizer, k)
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
        advance(our_scheduler, losses[0])
        advance(their_scheduler, losses[1])
        assert our_scheduler.get_last_lr() == pytest.approx(their_scheduler.get_last_lr(), rel=1e-12)
    assert our_optimizer.lr == pytest.approx(their_optimizer.param_groups[0]["lr"], rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_across_the_switch_the_rate_keeps_its_ratio(name):
    """group["lr"] goes on as it would have; SGD takes 0.05 times the share of its first rate that it stands at."""
    model, alone = torch_cnn(), torch_cnn()
    hybrid = wrap(
        Hybrid, model.parameters(), first=Adam(lr=1e-3), then=SGD(lr=1e-3, momentum=0.9), switch=AfterSteps(7)
    )
    adam = torch.optim.Adam(alone.parameters(), lr=1e-3)
    schedulers, rate = (SCHEDULERS[name](hybrid), SCHEDULERS[name](adam)), 0.0
    for k in range(20):
        loss = torch_batch(alone, adam, k)
        torch_batch(model, hybrid, k)
        for scheduler in schedulers:
            advance(scheduler, loss)
        group, theirs = hybrid.param_groups[0], adam.param_groups[0]
        assert group["lr"] == pytest.approx(theirs["lr"], rel=1e-12)
        wanted = theirs["lr"] if k < 6 else 1e-3 * theirs["lr"] / theirs.get("initial_lr", 1e-3)
        assert hybrid.lr == pytest.approx(wanted, rel=1e-12)
        if k >= 7:
            assert hybrid.inner.active.rate == pytest.approx(rate, rel=1e-12), "what the step took"
            assert hybrid.inner.active.momentum == 0.9, "cycled in the first phase only"
        rate = wanted
    assert hybrid.phase == "sgd"
    assert hybrid.switch_event.lr == 1e-3


def test_the_steps_across_the_switch_are_pytorchs():
    """Beside PyTorch's Adam and then its SGD, each with the scheduler's rates, in float64."""
    ours, theirs = torch_cnn(), torch_cnn()
    hybrid = wrap(Hybrid, ours.parameters(), first=Adam(lr=1e-3), then=SGD(lr=0.05, momentum=0.9), switch=AfterSteps(7))
    scheduler = S.LambdaLR(hybrid, lambda k: 1 / (1 + k / 10))
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for k in range(20):
        optimizer, rate = (adam, 1e-3) if k < 7 else (sgd, 0.05)
        optimizer.param_groups[0]["lr"] = rate / (1 + k / 10)
        assert torch_batch(ours, hybrid, k) == pytest.approx(torch_batch(theirs, optimizer, k), rel=1e-9)
        scheduler.step()


def test_swats_projected_rate_is_scaled_too():
    model = torch_cnn()
    swats = wrap(SWATS, model.parameters(), switch_rtol=1e9)
    scheduler = S.StepLR(swats, 5, 0.1)
    for k in range(12):
        torch_batch(model, swats, k)
        scheduler.step()
    assert swats.phase == "sgd"
    assert swats.lr == pytest.approx(0.01 * swats.inner.lr)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("first", [1e-2, lambda k: 1e-2 / (k + 1)])
def test_matched_rate_is_not_scaled_twice(groups, first):
    """The scheduler's factor at the switch is in Adam's last step already, which SGD's first is to be as long as."""
    a, b = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    params = [a, b]
    if groups:  # a schedule and a group's lr do not go together
        params = [{"params": [a], **({"weight_decay": 0.0} if callable(first) else {"lr": 1e-3})}, {"params": [b]}]
    hybrid = wrap(Hybrid, params, first=Adam(lr=first), then=SGD(), switch=AfterSteps(5), lr_after="matched")
    scheduler, places = S.StepLR(hybrid, 3, 0.1), []
    for k in (0, 1, 2, 3, 4, 4, 4):
        a.grad, b.grad = torch.tensor([1.0, -2.0, 0.5 * k]).double(), torch.tensor([0.3, 4.0, 1.0]).double()
        hybrid.step()
        scheduler.step()
        places.append(torch.cat([a, b]).detach().clone())
    lengths = [float((after - before).norm()) for before, after in pairwise(places)]
    assert hybrid.phase == "sgd"
    assert lengths[4] == pytest.approx(lengths[3], rel=1e-9)
    assert lengths[5] == pytest.approx(0.1 * lengths[4], rel=1e-9), "the scheduler goes on"


@pytest.mark.parametrize("lr_after", [None, 0.02, "matched"])
@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("first", [1e-2, lambda k: 1e-2 / (k + 1)])
def test_matched_decay_goes_on_at_the_rate_of_the_switch(groups, first, lr_after):
    """AdamW's last step shrinks a weight by lr lambda, lr being what the scheduler has made of it; so does SGD's."""
    a, b = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    params = [a, b]
    if groups:
        params = [{"params": [a], **({"weight_decay": 0.1} if callable(first) else {"lr": 1e-3})}, {"params": [b]}]
    then = SGD(lr=0.05, weight_decay=0.2)
    hybrid = wrap(
        Hybrid, params, first=AdamW(lr=first, weight_decay=0.1), then=then, switch=AfterSteps(5), lr_after=lr_after,
        decay_after="matched",
    )  # fmt: skip
    scheduler = S.StepLR(hybrid, 3, 0.5)
    for _ in range(5):
        a.grad, b.grad = torch.full_like(a, 1e-3), torch.full_like(b, 1e-3)
        hybrid.step()
        rates = [group["lr"] * (1 / 5 if callable(first) else 1) for group in hybrid.param_groups]
        scheduler.step()
    assert hybrid.phase == "sgd"
    before = a.detach().clone(), b.detach().clone()
    a.grad, b.grad = torch.zeros_like(a), torch.zeros_like(b)
    hybrid.step()
    for p, old, rate in zip((a, b), before, (rates[0], rates[-1]), strict=True):
        torch.testing.assert_close(p.detach() / old, torch.full_like(old, 1 - 0.1 * rate), rtol=1e-12, atol=0)


def test_a_schedule_of_ones_own_is_multiplied():
    model = torch_cnn()
    optimizer = wrap(SGD, model.parameters(), lr=lambda k: 0.1 / (k + 1))
    scheduler = S.ExponentialLR(optimizer, 0.5)
    for k in range(4):
        torch_batch(model, optimizer, k)
        assert optimizer.inner.rate == pytest.approx(0.1 / (k + 1) * 0.5**k)
        scheduler.step()


@pytest.mark.parametrize("named", [False, True])
def test_groups_are_pytorchs(named):
    """A rate and a decay each, and a scheduler that moves both rates: the losses of torch.optim.AdamW."""

    def groups(model):
        decayed = [p for p in model.named_parameters() if p[0].endswith("weight")]
        rest = [p for p in model.named_parameters() if p[0].endswith("bias")]
        strip = (lambda row: row) if named else (lambda row: [p for _, p in row])
        return [{"params": strip(decayed), "weight_decay": 0.3}, {"params": strip(rest), "lr": 0.01}]

    ours, theirs = torch_cnn(), torch_cnn()
    our_optimizer = wrap(AdamW, groups(ours), lr=2e-3, weight_decay=0.0)
    their_optimizer = torch.optim.AdamW(groups(theirs), lr=2e-3, weight_decay=0.0)
    schedulers = (
        S.OneCycleLR(our_optimizer, [0.01, 0.02], total_steps=20),
        S.OneCycleLR(their_optimizer, [0.01, 0.02], total_steps=20),
    )
    for k in range(19):
        losses = torch_batch(ours, our_optimizer, k), torch_batch(theirs, their_optimizer, k)
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
        for scheduler in schedulers:
            scheduler.step()
    for a, b in zip(our_optimizer.param_groups, their_optimizer.param_groups, strict=True):
        for key in ("lr", "weight_decay", "betas", "initial_lr", "param_names"):
            assert a.get(key) == pytest.approx(b.get(key)) if key != "param_names" else a.get(key) == b.get(key)


def test_groups_across_the_switch():
    """Rates keep their ratio, and a group's decay holds in both phases."""
    model = torch_cnn()
    rows = list(model.parameters())
    hybrid = wrap(
        Hybrid,
        [{"params": rows[:2], "lr": 1e-4, "weight_decay": 0.0}, {"params": rows[2:]}],
        first=AdamW(lr=1e-3, weight_decay=0.1),
        then=SGD(lr=0.05, weight_decay=0.2),
        switch=AfterSteps(3),
    )
    before = None
    for k in range(5):
        before = [p.detach().clone() for p in rows]
        torch_batch(model, hybrid, k)
    for i, (p, old) in enumerate(zip(rows, before, strict=True)):
        rate, decay = (0.005, 0.0) if i < 2 else (0.05, 0.2)
        torch.testing.assert_close(p.detach(), old - rate * (p.grad + decay * old), rtol=1e-12, atol=1e-14)


def test_a_decay_or_option_set_by_hand_is_heard():
    ours, theirs = torch_cnn(), torch_cnn()
    our_optimizer = wrap(AdamW, ours.parameters(), lr=0.01)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01)
    for k in range(9):
        for optimizer in (our_optimizer, their_optimizer):
            optimizer.param_groups[0].update(weight_decay=0.1 * k, betas=(0.5 + k / 20, 0.99), eps=10.0 ** (k - 8))
        losses = torch_batch(ours, our_optimizer, k), torch_batch(theirs, their_optimizer, k)
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_betas_set_by_hand_are_two():
    optimizer = wrap(Adam, torch.nn.Linear(1, 1).parameters(), lr=0.1)
    optimizer.param_groups[0]["betas"] = (0.9, 0.99, 0.999)
    with pytest.raises(ValueError, match="betas must be two numbers"):
        optimizer.step()


@pytest.mark.parametrize("option", [{"maximize": True}, {"dampening": 0.5}])
def test_an_option_that_is_not_here_is_refused_when_set_by_hand(option):
    weight = torch.nn.Linear(1, 1)
    optimizer = wrap(SGD, weight.parameters(), lr=0.1, momentum=0.9)
    optimizer.param_groups[0].update(option)
    with pytest.raises(TypeError, match=f"SGD has no option '{next(iter(option))}'"):
        optimizer.step()


# ---- a hybrid that waits for reports ----


def waiting(model, switch):
    return wrap(Hybrid, model.parameters(), first=Adam(), then=SGD(lr=0.01), switch=switch)


def test_a_hybrid_that_waits_for_reports_says_so(monkeypatch):
    weight = torch.nn.Linear(1, 1)
    optimizer = waiting(weight, AfterEpochs(3))
    for _ in range(PATIENCE - 1):
        optimizer.step()
    with pytest.warns(UserWarning, match=r"1,000 steps and no report yet: 'epoch:3' waits for optimizer.report\(epoch"):
        optimizer.step()
    assert "no epoch was reported" in optimizer.verdict()
    with pytest.warns(UserWarning, match=r"never switched in 1,000 steps, without a report"):
        del optimizer


@pytest.mark.parametrize("switch", [AfterSteps(10_000) | AfterEpochs(3), AfterSteps(10_000)])
def test_one_that_need_not_wait_does_not(switch):
    optimizer = waiting(torch.nn.Linear(1, 1), switch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(PATIENCE + 1):
            optimizer.step()
        assert "reported" not in optimizer.verdict()
        del optimizer


def test_one_that_hears_is_quiet():
    optimizer = waiting(torch.nn.Linear(1, 1), Gap(0.5) & AfterSteps(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.report(1, train_accuracy=0.9, val_accuracy=0.8)
        for _ in range(PATIENCE + 1):
            optimizer.step()
        assert "reported" not in optimizer.verdict()
    assert np.isfinite(optimizer.lr)
