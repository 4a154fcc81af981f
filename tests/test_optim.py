"""Each rule against the textbook (1e-12) and PyTorch (1e-9), and what all optimizers share: the flat vector, clipping,
rates, saving and errors."""

import copy
import json
import math
import tracemalloc

import numpy as np
import pytest

import optim
from minidl import Tensor, nn, ops
from optim import (
    SGD,
    SWATS,
    Adagrad,
    Adam,
    AdamW,
    AfterSteps,
    Blend,
    FlatParameters,
    Hybrid,
    Optimizer,
    RMSprop,
    parse_schedule,
)
from optim.optimizer import clip
from optim.schedule import constant, cosine, halving, step, warmup
from tests import textbook

H = [0.3, 1.0, 2.0, 0.05, 5.0, 0.7, 1.5, 0.2]  # curvature of each weight
START = [1.0, -2.0, 0.5, 3.0, -0.1, 0.0, 2.5, -1.0]
NOISE = np.random.default_rng(0).normal(size=(1000, 8)).tolist()


def noisy_bowl(k, w):
    """Gradient of sum h/2 (w-1)^2 with noise of its own at each step k."""
    return [h * (x - 1) + 0.1 * n for h, x, n in zip(H, w, NOISE[k - 1], strict=True)]


def parameters(dtype=np.float64):
    """The eight weights as two tensors of different shapes."""
    w = np.array(START, dtype)
    return [Tensor(w[:6].reshape(2, 3), requires_grad=True), Tensor(w[6:], requires_grad=True)]


def values(params):
    return np.concatenate([p.numpy().ravel() for p in params])


def feed(params, gradient):
    """Put a gradient of eight numbers where backward() would."""
    g = np.array(gradient, params[0].dtype)
    params[0].grad, params[1].grad = g[:6].reshape(2, 3), g[6:]


def run(make, steps=1000, gradient=noisy_bowl):
    params = parameters()
    optimizer = make(params)
    for k in range(1, steps + 1):
        feed(params, gradient(k, values(params).tolist()))
        optimizer.step()
        yield values(params)


RULES = {  # name: (ours, textbook, PyTorch's or None)
    "sgd": (lambda p: SGD(p, lr=0.1), lambda: textbook.sgd(START, noisy_bowl, 0.1), "SGD", {"lr": 0.1}),
    "sgd-decay": (
        lambda p: SGD(p, lr=0.1, weight_decay=0.02),
        lambda: textbook.sgd(START, noisy_bowl, 0.1, wd=0.02),
        "SGD",
        {"lr": 0.1, "weight_decay": 0.02},
    ),
    "momentum": (
        lambda p: SGD(p, 0.05, 0.9, weight_decay=0.02),
        lambda: textbook.sgd(START, noisy_bowl, 0.05, 0.9, 0.02),
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02},
    ),
    "nesterov": (
        lambda p: SGD(p, 0.05, 0.9, nesterov=True, weight_decay=0.02),
        lambda: textbook.sgd(START, noisy_bowl, 0.05, 0.9, 0.02, nesterov=True),
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02, "nesterov": True},
    ),
    "adam": (lambda p: Adam(p), lambda: textbook.adam(START, noisy_bowl, 1e-3), "Adam", {}),
    "adam-decay": (
        lambda p: Adam(p, 0.01, (0.8, 0.95), 1e-3, 0.02),
        lambda: textbook.adam(START, noisy_bowl, 0.01, 0.8, 0.95, 1e-3, 0.02),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.02},
    ),
    "adamw": (
        lambda p: AdamW(p, 0.01),
        lambda: textbook.adam(START, noisy_bowl, 0.01, wd=0.01, decoupled=True),
        "AdamW",
        {"lr": 0.01},
    ),
    "rmsprop": (lambda p: RMSprop(p), lambda: textbook.rmsprop(START, noisy_bowl, 0.01), "RMSprop", {}),
    "rmsprop-momentum": (
        lambda p: RMSprop(p, 1e-3, 0.9, 1e-3, 0.02, 0.9),
        lambda: textbook.rmsprop(START, noisy_bowl, 1e-3, 0.9, 1e-3, 0.02, 0.9),
        "RMSprop",
        {"lr": 1e-3, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.02, "momentum": 0.9},
    ),
    "adagrad": (lambda p: Adagrad(p), lambda: textbook.adagrad(START, noisy_bowl, 0.01), "Adagrad", {}),
    "adagrad-decay": (
        lambda p: Adagrad(p, 0.1, 1e-3, 0.02, 0.5, 1e-3),
        lambda: textbook.adagrad(START, noisy_bowl, 0.1, 1e-3, 0.02, 0.5, 1e-3),
        "Adagrad",
        {"lr": 0.1, "lr_decay": 1e-3, "weight_decay": 0.02, "initial_accumulator_value": 0.5, "eps": 1e-3},
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_is_the_textbook_rule(name):
    ours, theirs, *_ = RULES[name]
    for w, expected in zip(run(ours), theirs(), strict=False):
        np.testing.assert_allclose(w, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.pytorch
@pytest.mark.parametrize("name", RULES)
def test_rule_is_pytorchs_rule(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    ours, _, torch_name, arguments = RULES[name]
    w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    theirs = getattr(torch.optim, torch_name)([w], **arguments)
    for k, own in enumerate(run(ours), start=1):
        w.grad = torch.tensor(noisy_bowl(k, w.tolist()), dtype=torch.float64)
        theirs.step()
        np.testing.assert_allclose(own, w.detach().numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_blocks_do_not_show(name, monkeypatch):
    """A vector cut into blocks of 3, 3 and 2 takes the same steps as a whole one, bit for bit."""
    whole = list(run(RULES[name][0], 20))
    monkeypatch.setattr("optim.flat.BLOCK", 3)
    for a, b in zip(whole, run(RULES[name][0], 20), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [*RULES, "blend", "swats", "hybrid"])
def test_step_allocates_nothing(name):
    """But Python's small change; and where gamma is computed, two blocks in float64."""
    make = {
        "blend": lambda p: Blend(p, steps_per_epoch=10),
        "swats": SWATS,
        "hybrid": lambda p: Hybrid(p, Adam(lr=1e-3), SGD(lr=1e-3, momentum=0.9), AfterSteps(10**6), "matched"),
    }.get(name) or RULES[name][0]
    p = Tensor(np.ones(1_000_000, np.float32), requires_grad=True)
    optimizer = make([p])
    p.grad = p.grad_home
    optimizer.step()
    tracemalloc.start()
    optimizer.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    limit = 600_000 if name in ("swats", "hybrid") else 20_000
    assert peak < limit, f"{peak:,} bytes for a vector of 4,000,000"


# ---- the flat vector ----


def test_parameters_become_views_and_keep_values_and_gradients():
    params = parameters()
    feed(params, range(8))
    flat = FlatParameters(params)
    np.testing.assert_array_equal(flat.w, START)
    np.testing.assert_array_equal(flat.g, range(8))
    params[1].data[0] = 7.0
    assert flat.w[6] == 7.0
    assert all(np.shares_memory(p.data, flat.w) and np.shares_memory(p.grad, flat.g) for p in params)


def test_backward_writes_straight_into_g():
    params = parameters()
    optimizer = SGD(params)
    for set_to_none in (True, False):
        optimizer.zero_grad(set_to_none)
        assert (params[0].grad is None) == set_to_none
        ops.mul(params[1], [2.0, 3.0]).sum().backward()
        assert params[1].grad is params[1].grad_home
        np.testing.assert_array_equal(optimizer.flat.g[6:], [2.0, 3.0])


def test_parameter_without_gradient_counts_as_zero():
    params = parameters()
    optimizer = SGD(params, lr=1.0, momentum=0.5)
    feed(params, [1.0] * 8)
    optimizer.step()
    optimizer.zero_grad()
    params[1].grad = np.array([1.0, 1.0])
    optimizer.step()
    np.testing.assert_allclose(values(params) - START, [-1.5] * 6 + [-2.5] * 2)


def test_replaced_data_is_an_error_that_teaches():
    params = parameters()
    optimizer = SGD(params)
    params[1].data = np.zeros(2)
    with pytest.raises(RuntimeError, match=r"parameter 1, shape \(2,\).*\.data\[\.\.\.\] = values"):
        optimizer.step()


def test_step_leaves_the_gradient_alone():
    for name, (make, *_) in RULES.items():
        params = parameters()
        feed(params, START)
        make(params).step()
        np.testing.assert_array_equal(np.concatenate([p.grad.ravel() for p in params]), START, err_msg=name)


def test_same_list_shares_the_vector_and_another_list_takes_over():
    params = parameters()
    first, second = SGD(params), Adam(params)
    assert first.flat is second.flat
    third = SGD(params[:1])
    assert third.flat is not first.flat
    with pytest.raises(RuntimeError, match=r"parameter 0.*taken over"):
        second.step()
    third.step()


def test_optimizer_survives_a_move_that_moves_nothing():
    model = nn.Sequential(nn.Linear(3, 2, rng=0))
    optimizer = SGD(model.parameters(), lr=1.0)
    model.to("cpu")
    before = model[0].bias.numpy().copy()
    model(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(model[0].bias.numpy(), before - 1)
    assert model[0].bias.grad is optimizer.flat._g_views[1]


def test_copy_of_a_model_is_free():
    model = nn.Sequential(nn.Linear(3, 2, rng=0))
    SGD(model.parameters())
    other = copy.deepcopy(model)
    assert other[0].weight.home is None
    assert not np.shares_memory(other[0].weight.data, model[0].weight.data)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (lambda: [], ValueError, "at least one parameter"),
        (lambda: 0.1, TypeError, "parameters come first, got 0.1"),
        (lambda: [np.zeros(3)], TypeError, "parameter 0 is a ndarray"),
        (lambda: [Tensor([1.0])], ValueError, "requires_grad=True"),
        (lambda: parameters()[:1] * 2, ValueError, "twice"),
        (lambda: [parameters()[0], parameters(np.float32)[1]], ValueError, "float64 on cpu, parameter 1 is float32"),
    ],
)
def test_bad_parameters(params, error, message):
    with pytest.raises(error, match=message):
        SGD(params())


def test_gradient_of_wrong_shape():
    params = parameters()
    optimizer = SGD(params)
    params[0].grad = np.zeros(3)  # would broadcast
    with pytest.raises(ValueError, match=r"parameter 0.*\(3,\).*\(2, 3\)"):
        optimizer.step()


def test_unbound_rule_says_what_to_do():
    for call in (Adam().step, Adam().zero_grad, SGD().state_dict):
        with pytest.raises(RuntimeError, match=r"has no parameters: write .*Hybrid\(model.parameters\(\)"):
            call()


# ---- hyper-parameters and rates ----


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda: SGD(lr=-0.1), "-0.1"),
        (lambda: SGD(lr=math.nan), "nan"),
        (lambda: Adam(lr=math.inf), "inf"),
        (lambda: SGD(momentum=1.0), "1.0"),
        (lambda: SGD(momentum=-0.5), "-0.5"),
        (lambda: SGD(weight_decay=-1.0), "-1.0"),
        (lambda: SGD(nesterov=True), "got 0"),
        (lambda: SGD(max_norm=0), "got 0"),
        (lambda: Adam(betas=(0.9, 1.0)), "1.0"),
        (lambda: Adam(betas=(-0.1, 0.9)), "-0.1"),
        (lambda: Adam(eps=0.0), "0.0"),
        (lambda: RMSprop(alpha=1.5), "1.5"),
        (lambda: Adagrad(lr_decay=-2), "-2"),
        (lambda: Blend(steps_per_epoch=0), "got 0"),
        (lambda: Blend(steps_per_epoch=5, period=0), "got 0"),
        (lambda: SWATS(switch_eps=0), "got 0"),
        (lambda: SWATS(switch_rtol=-1e-3), "-0.001"),
    ],
)
def test_bad_hyper_parameter_names_the_number(make, number):
    with pytest.raises(ValueError, match=number):
        make()


def test_rate_is_the_next_steps_and_assigning_makes_it_constant():
    params = parameters()
    optimizer = SGD(params, lr=step(1.0, every=2, factor=0.5))
    seen = []
    for _ in range(5):
        seen.append(optimizer.lr)
        before = values(params)
        feed(params, [1.0] * 8)
        optimizer.step()
        np.testing.assert_allclose(before - values(params), seen[-1])
    assert seen == [1, 1, 0.5, 0.5, 0.25]
    optimizer.lr = 0.125
    feed(params, [1.0] * 8)
    optimizer.step()
    assert optimizer.lr == 0.125
    with pytest.raises(ValueError, match="-1"):
        optimizer.lr = -1


def test_bad_rate_of_a_schedule():
    optimizer = SGD(parameters(), lr=lambda k: math.nan)
    with pytest.raises(ValueError, match="nan at step 0"):
        optimizer.step()


def test_schedules():
    assert [constant(0.3)(k) for k in (0, 99)] == [0.3, 0.3]
    assert [step(1.0, 10, 0.1)(k) for k in (0, 9, 10, 19, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01], rel=1e-15)
    assert [halving(8.0, 5, 3)(k) for k in (0, 4, 5, 7, 8, 10, 11)] == [8, 8, 4, 4, 2, 2, 1]
    assert [cosine(2.0, 8)(k) for k in (0, 4, 8, 9)] == pytest.approx([2, 1, 0, 0])
    assert cosine(2.0, 6, final=0.5)(2) == pytest.approx(0.5 + 1.5 * 0.75)  # (1 + cos 60 degrees) / 2
    assert [warmup(constant(1.0), 4)(k) for k in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [warmup(constant(1.0), 0)(k) for k in range(2)] == [1, 1]


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("constant", {0: 2, 50: 2}),
        ("step:every=10,factor=0.5", {9: 2, 10: 1, 20: 0.5}),
        ("halving:start=10,every=5", {9: 2, 10: 1, 15: 0.5}),
        ("cosine", {0: 2, 50: 1, 100: 0}),
        (" cosine : final=0.5 , warmup=4 ", {0: 0.5, 100: 1}),
    ],
)
def test_schedule_text(text, rates):
    schedule = parse_schedule(text, lr=2, total_steps=100)
    assert {k: schedule(k) for k in rates} == pytest.approx(rates, rel=1e-2 if "warmup" in text else 1e-12)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("cosin", 1, "did you mean 'cosine'"),
        ("", 1, "expected a schedule"),
        ("step", 1, "needs every=STEPS"),
        ("step:every=x", 12, "expected a whole number, got 'x'"),
        ("step:every=10,factr=2", 15, "did you mean 'factor'"),
        ("step:10", 6, "expected key=value"),
        ("step:every=0", 1, "got 0"),
        ("cosine cosine", 8, "expected the end"),
        ("cosine:final=1e999", 14, "finite"),
        ("cosine:warmup=1,warmup=2", 17, "twice"),
    ],
)
def test_bad_schedule_text(text, column, message):
    with pytest.raises(optim.ScheduleError, match=message) as caught:
        parse_schedule(text, lr=1, total_steps=100)
    first, second = str(caught.value).split("\n")
    assert first == text
    assert second.index("^") == column - 1 == caught.value.position - 1


# ---- clipping ----


def test_clip_by_hand():
    g = np.array([3.0, 4.0])
    clip(g, 1.0)
    np.testing.assert_allclose(g, [3 / 5.000001, 4 / 5.000001], rtol=1e-15)
    small = np.array([3.0, 4.0])
    clip(small, 6.0)
    np.testing.assert_array_equal(small, [3.0, 4.0])


@pytest.mark.pytorch
@pytest.mark.parametrize("max_norm", [0.1, 3.0, 100.0])
def test_clip_is_pytorchs(max_norm):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    p = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor(START, dtype=torch.float64)
    torch.nn.utils.clip_grad_norm_([p], max_norm)
    params = parameters()
    optimizer = SGD(params, lr=1.0, max_norm=max_norm)
    feed(params, START)
    before = values(params)
    optimizer.step()
    np.testing.assert_allclose(before - values(params), p.grad.numpy(), rtol=1e-12)


# ---- saving and loading ----


def through_json(state):
    """As a checkpoint would keep it: vectors as raw bytes, scalars as JSON text."""
    vectors = {name: np.frombuffer(v.tobytes(), v.dtype) for name, v in state["vectors"].items()}
    return {"vectors": vectors, "scalars": json.loads(json.dumps(state["scalars"], allow_nan=False))}


STATEFUL = {name: rule[0] for name, rule in RULES.items()} | {
    "blend": lambda p: Blend(p, steps_per_epoch=5, center=3, period=2),
    "schedule": lambda p: SGD(p, cosine(0.1, 60), 0.9),
    "clipped": lambda p: Adam(p, max_norm=0.5),
}


@pytest.mark.parametrize("at", [1, 17])
@pytest.mark.parametrize("name", STATEFUL)
def test_loaded_optimizer_goes_on_bit_for_bit(name, at):
    make, params = STATEFUL[name], parameters(np.float32)
    optimizer = make(params)
    saved = None
    for k in range(1, 41):
        if k == at + 1:
            saved = through_json(optimizer.state_dict()), values(params)
        feed(params, noisy_bowl(k, values(params).tolist()))
        optimizer.step()
    again = parameters(np.float32)
    resumed = make(again)
    resumed.flat.w[...] = saved[1]
    resumed.load_state_dict(saved[0])
    for k in range(at + 1, 41):
        feed(again, noisy_bowl(k, values(again).tolist()))
        resumed.step()
    np.testing.assert_array_equal(values(again), values(params))
    assert resumed.lr == optimizer.lr


def test_assigned_rate_is_saved():
    optimizer = SGD(parameters(), lr=cosine(0.1, 60))
    optimizer.lr = 0.3
    other = SGD(parameters(), lr=cosine(0.1, 60))
    other.load_state_dict(through_json(optimizer.state_dict()))
    assert other.lr == 0.3


def test_state_of_another_optimizer_is_refused_and_nothing_changes():
    adam = Adam(parameters())
    adam.m += 1
    wrong_rule = SGD(parameters()).state_dict()
    wrong_size = Adam(parameters()[:1]).state_dict()
    wrong_type = Adam(parameters(np.float32)).state_dict()
    for state, message in [(wrong_rule, "'sgd'.*'adam'"), (wrong_size, r"\(6,\).*\(8,\)"), (wrong_type, "float32")]:
        with pytest.raises(ValueError, match=message):
            adam.load_state_dict(state)
    with pytest.raises(ValueError, match=r"vectors \['v'\]"):
        SGD(parameters()).load_state_dict(SGD(parameters(), momentum=0.9).state_dict())
    with pytest.raises(ValueError, match="schedule"):
        SGD(parameters()).load_state_dict(SGD(parameters(), lr=cosine(0.1, 60)).state_dict())
    assert (adam.m == 1).all()


def test_state_is_a_copy():
    params = parameters()
    optimizer = SGD(params, momentum=0.9)
    state = optimizer.state_dict()
    feed(params, [1.0] * 8)
    optimizer.step()
    assert (state["vectors"]["v"] == 0).all()


def test_import_is_light():
    import subprocess
    import sys

    code = "import sys, optim; sys.exit(bool({'torch', 'matplotlib', 'cupy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plain_rules_have_no_switch():
    optimizer = Adam(parameters())
    optimizer.report(1, val_loss=0.5)
    assert isinstance(optimizer, Optimizer)
    assert (optimizer.phase, optimizer.switch_event, optimizer.verdict()) == ("adam", None, None)
