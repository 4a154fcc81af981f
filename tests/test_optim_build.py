"""The presets, and build: from a name on the command line to an optimizer."""

import math
import re

import numpy as np
import pytest

from minidl import Tensor, nn, ops
from minidl.optim import (
    GNMT,
    SGD,
    SWATS,
    Adagrad,
    Adam,
    AdamW,
    AfterSteps,
    Blend,
    Hybrid,
    Projected,
    RMSprop,
    parse_switch,
)
from minidl.optim.schedule_free import ScheduleFree
from minidl.training.build import NAMES, build
from minidl.training.presets import DEFAULTS, PRESETS, decided, preset
from tests.test_switch_hybrid import go, parameter

# ---- presets and build ----


def test_every_preset_is_usable_and_says_where_it_comes_from():
    assert {"underfit", "goodfit", "overfit", "mlp", "cnn", "linear"} <= {model for model, _ in PRESETS}
    for (model, dataset), row in PRESETS.items():
        assert (model, "mnist") in PRESETS
        assert row.source
        options = decided("hybrid", {}, model, dataset, epochs=10)
        optimizer = build("hybrid", [parameter()], total_steps=100, steps_per_epoch=10, **options)
        assert optimizer.switch == parse_switch(preset(model, dataset, 10).switch)
        assert optimizer.lr == (row.lr if row.schedule is None else pytest.approx(row.lr / 25))  # one cycle's start
        assert optimizer.then.momentum == row.momentum
    assert preset("mlp", "photos") == preset("mlp", "mnist")
    assert [preset("mlp", "mnist", epochs).switch for epochs in (1, 5, 10, 100)] == [
        "epoch:1", "epoch:4", "epoch:8", "epoch:80",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="did you mean 'mlp'"):
        preset("mpl", "mnist")


@pytest.mark.parametrize("n", [2, 3, 5])
def test_every_preset_leaves_something_for_sgd(n):
    """With two epochs of the MLP, Adam's share of 0.8 was rounded to both."""
    for model, dataset in PRESETS:
        for row, what in (preset(model, dataset, n, 100), "epoch"), (preset(model, dataset, 1, n), "step"):
            assert row.switch in [f"{what}:{i}" for i in range(1, n)]


def test_build_knows_every_name():
    kinds = {
        "sgd": SGD, "momentum": SGD, "nesterov": SGD, "adagrad": Adagrad, "rmsprop": RMSprop, "adam": Adam,
        "adamw": AdamW, "hybrid": Hybrid, "swats": SWATS, "gnmt": GNMT, "blend": Blend,
    }  # fmt: skip
    assert tuple(kinds) == NAMES == tuple(DEFAULTS)
    for name, kind in kinds.items():
        p = parameter()
        optimizer = build(name, [p], total_steps=100, steps_per_epoch=10, **decided(name, {}))
        assert type(optimizer) is kind
        go(optimizer, p, 3)
    momentum, nesterov = made("momentum"), made("nesterov")
    assert (momentum.momentum, momentum.nesterov, nesterov.nesterov) == (0.9, False, True)


def made(name, model="mlp", **options):
    options = decided(name, options, model, "mnist", epochs=10)
    return build(name, [parameter()], total_steps=200, steps_per_epoch=20, **options)


def test_build_passes_options_on():
    assert made("sgd", lr=0.3, weight_decay=0.1, clip_norm=2).weight_decay == 0.1
    assert made("momentum", momentum=0.5).momentum == 0.5
    assert made("adam", schedule="cosine", lr=0.5).lr == 0.5
    assert made("swats", switch="swats:rtol=1e-3").switch == Projected() | Projected(rtol=1e-3)
    assert made("swats", switch="swats:eps=1e-6").switch == Projected(eps=1e-6)
    assert made("swats").switch == Projected(eps=1e-9)
    assert made("hybrid", switch="swats:rtol=1e-3 & step:500").switch == Projected(rtol=1e-3) & AfterSteps(500)
    assert made("hybrid", switch="auto").switch == parse_switch(preset("mlp", "mnist").switch)
    assert made("hybrid", lr_after="projected").lr_after == "projected"
    assert made("hybrid", lr_sgd=0.7).then.lr == 0.7
    assert made("gnmt").first.max_norm == made("gnmt").then.max_norm == 5.0
    assert made("gnmt", clip_norm=1.0, lr_sgd=0.2).then.max_norm == 1.0
    blend = made("blend")  # ten epochs, a ninth of the paper's
    assert (blend.center, blend.period) == (pytest.approx(10 / 9), pytest.approx(5 / 9))


@pytest.mark.parametrize(("lr_after", "peak"), [(None, 0.3), (0.2, 0.2)])
def test_schedule_of_a_hybrid_ends_with_the_run(lr_after, peak):
    p = parameter()
    given = {"switch": "step:80", "lr_sgd": 0.3, "lr_after": lr_after, "schedule": "cosine", "lr": 0.01}
    optimizer = build("hybrid", [p], total_steps=200, steps_per_epoch=20, **decided("hybrid", given))
    rates = []
    for k in range(1, 201):
        rates.append(optimizer.lr)
        go(optimizer, p, 1, start=k)
    assert rates[0] == 0.01
    assert rates[79] == pytest.approx(0.01 * (1 + math.cos(math.pi * 79 / 200)) / 2)
    assert rates[80] == pytest.approx(peak)
    assert rates[140] == pytest.approx(peak / 2)
    assert rates[199] < 0.001 * peak


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adm", {}, "unknown optimizer 'adm': did you mean 'adam'"),
        ("adam", {"switch": "step:3"}, "switch does not apply to 'adam': it is an option of hybrid, swats"),
        ("sgd", {"momentum": 0.9}, "momentum does not apply to 'sgd': it is an option of momentum, nesterov"),
        ("swats", {"lr_after": 0.1}, "lr-after does not apply to 'swats'"),
        ("gnmt", {"schedule": "cosine"}, "schedule does not apply to 'gnmt'"),
        ("swats", {"switch": "step:3"}, "got 'step:3'"),
        ("hybrid", {"switch": "stp:3"}, "did you mean 'step'"),
        ("hybrid", {"model": "cnm"}, "did you mean 'cnn'"),
        ("hybrid", {"lr_after": "projcted"}, "did you mean 'projected'|got 'projcted'"),
        ("adam", {"lr": -1.0}, "got -1.0"),
        ("adam", {"lr": -1.0, "schedule": "cosine"}, "got -1.0"),
        ("momentum", {"momentum": 2.0}, "got 2.0"),
    ],
)
def test_build_refuses(name, options, message):
    with pytest.raises(ValueError, match=message):
        made(name, **options)


def test_a_network_trains_with_every_name():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 10)).astype(np.float32)
    y = (x @ rng.normal(size=(10, 3))).argmax(1)
    for name in NAMES:
        model = nn.Sequential(nn.Linear(10, 32, rng=0), nn.ReLU(), nn.Linear(32, 3, rng=1))
        optimizer = build(name, model.parameters(), total_steps=300, steps_per_epoch=30, **decided(name, {}))
        losses = []
        for _ in range(300):
            loss = ops.cross_entropy(model(Tensor(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        assert losses[-1] < 0.5 * losses[0], name


@pytest.mark.parametrize("betas", [0.9, (0.9,), (0.9, 0.99, 0.999), None])
def test_betas_are_two(betas):
    for kind in (Adam, SWATS, ScheduleFree):
        with pytest.raises(ValueError, match="betas must be two numbers"):
            kind(lr=0.1, betas=betas)


# ---- what it shows, and what it refuses ----


def test_an_optimizer_shows_its_options_as_they_are_now():
    adam = Adam([parameter()], lr=0.01, weight_decay=0.1, max_norm=5)
    assert repr(adam) == "Adam(lr=0.01, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.1, amsgrad=False, max_norm=5.0)"
    adam.lr = 0.5
    assert repr(adam).startswith("Adam(lr=0.5, ")
    assert repr(SGD(lr=0.1, weight_decay=0.2)) == "SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.2)"
    hybrid = Hybrid([parameter()], first=Adam(), then=SGD(lr=0.1), switch=parse_switch("step:3 | plateau:patience=2"))
    assert repr(hybrid).startswith("Hybrid(first=Adam(lr=0.001, ")
    assert "then=SGD(lr=0.1, momentum=0.0, nesterov=False), switch=step:3 | plateau:patience=2" in repr(hybrid)


def test_an_optimizer_shows_its_groups_as_they_are_now():
    groups = [{"params": [parameter()], "weight_decay": 0.2}, {"params": [parameter(), parameter()], "lr": 0.3}]
    sgd = SGD(groups, lr=0.1)
    wanted = ["{'parameters': 1, 'lr': 0.1, 'weight_decay': 0.2}", "{'parameters': 2, 'lr': 0.3, 'weight_decay': 0.0}"]
    assert repr(sgd).endswith(f"nesterov=False, groups=[{', '.join(wanted)}])")
    sgd.lr = 0.01
    assert "{'parameters': 2, 'lr': 0.03," in repr(sgd)
    hybrid = Hybrid(groups, first=Adam(lr=0.01), then=SGD(lr=0.1), switch=AfterSteps(2))
    assert re.findall(r"groups=\[.*?'lr': ([\d.]+).*?'lr': ([\d.]+)", repr(hybrid)) == [("0.01", "0.3"), ("0.1", "3.0")]


@pytest.mark.parametrize("name", ["learning_rate", "beta1", "epsilon", "clipnorm", "clipvalue"])
def test_kerass_names_of_options_are_answered(name):
    for value in (0, 0.9):
        with pytest.raises(
            TypeError, match=rf"Adam has no option '{name}': (here it is called|betas=\(beta1, beta2\)|np.clip\(p.grad)"
        ):
            Adam([parameter()], **{name: value})


@pytest.mark.parametrize("kind", [Adam, SWATS, Hybrid])
def test_what_is_no_state_of_an_optimizer_is_refused(kind):
    more = {"first": Adam(), "then": SGD(lr=0.1), "switch": AfterSteps(2)} if kind is Hybrid else {}
    optimizer = kind([parameter()], **more)
    theirs = {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]}  # as PyTorch's own optimizers save
    for state, words in (
        ({}, "returned$"),
        ([], "returned$"),
        (theirs, r"goes into minidl.optim.torch.wrap\(\.\.\.\)"),
    ):
        with pytest.raises(ValueError, match=rf"^load_state_dict takes what .*{words}"):
            optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    ("kind", "option", "value"), [(SGD, "momentum", 0.9), (RMSprop, "momentum", 0.9), (Adam, "amsgrad", True)]
)
def test_a_memory_that_is_asked_for_later_is_not_left_out_in_silence(kind, option, value):
    w = parameter()
    optimizer = kind([w], lr=0.1)
    go(optimizer, w, 1)
    setattr(optimizer, option, value)
    with pytest.raises(
        ValueError, match=rf"^this {kind.__name__} was built without the state that {kind.__name__}\(.*needs"
    ):
        go(optimizer, w, 1)


@pytest.mark.parametrize("kind", [SGD, RMSprop])
def test_momentum_may_end(kind):
    w, other = parameter(), parameter()
    optimizer, plain = kind([w], lr=0.1, momentum=0.9), kind([other], lr=0.1)
    optimizer.momentum = 0.0
    for each, p in ((optimizer, w), (plain, other)):
        go(each, p, 3)
    np.testing.assert_allclose(w.data, other.data, rtol=1e-6)
