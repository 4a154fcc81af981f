"""Hybrid: one switch, after a whole step, at the right rate, told and saved."""

import json
from itertools import islice, pairwise

import numpy as np
import pytest

from minidl import Tensor
from minidl.optim import (
    SGD,
    SWATS,
    Adagrad,
    Adam,
    AfterEpochs,
    AfterSteps,
    Condition,
    Crossing,
    Gap,
    Hybrid,
    Plateau,
    Projected,
    RMSprop,
)
from minidl.optim.schedule import cosine, warmup
from minidl.optim.swats_tensors import TensorSWATS
from tests import textbook

START = [1.0, -2.0, 0.5, 3.0]
NOISE = np.random.default_rng(5).normal(size=(2000, 4)).tolist()


def gradient(k, w):
    """Of 1/2 |w|^2 with noise, at step k = 1, 2, ..."""
    return [x + 0.3 * n for x, n in zip(w, NOISE[k - 1], strict=True)]


def parameter(dtype=np.float64):
    return Tensor(np.array(START, dtype), requires_grad=True)


def go(optimizer, p, steps, start=1):
    for k in range(start, start + steps):
        p.grad = np.array(gradient(k, p.numpy().tolist()), p.dtype)
        optimizer.step()


def hybrid(switch, p=None, **arguments):
    arguments = {"first": Adam(lr=0.01), "then": SGD(lr=0.1, momentum=0.9), **arguments}
    return Hybrid([parameter() if p is None else p], switch=switch, **arguments)


# ---- the switch ----


@pytest.mark.parametrize("first", ["adam", "rmsprop", "adagrad", "sgd"])
def test_any_first_phase_then_momentum_sgd_from_the_same_weights(first):
    ours, theirs = {
        "adam": (Adam(lr=0.01), textbook.adam(START, gradient, 0.01)),
        "rmsprop": (RMSprop(lr=0.01), textbook.rmsprop(START, gradient, 0.01)),
        "adagrad": (Adagrad(lr=0.01), textbook.adagrad(START, gradient, 0.01)),
        "sgd": (SGD(lr=0.01), textbook.sgd(START, gradient, 0.01)),
    }[first]
    p = parameter()
    optimizer = hybrid(AfterSteps(30), p, first=ours)
    *_, middle = islice(theirs, 30)
    then = textbook.sgd(middle, lambda k, w: gradient(k + 30, w), 0.1, 0.9)
    go(optimizer, p, 29)
    assert (optimizer.phase, optimizer.switch_event) == (first, None)
    go(optimizer, p, 1, start=30)
    assert (optimizer.phase, optimizer.lr) == ("sgd", 0.1)
    np.testing.assert_allclose(p.numpy(), middle, rtol=1e-12)
    for k in range(31, 200):
        go(optimizer, p, 1, start=k)
        np.testing.assert_allclose(p.numpy(), next(then), rtol=1e-11, atol=1e-12)
    assert optimizer.switch_event == (30, 0, 0.1, "step:30")


def test_switch_from_sgd_to_adam():
    p = parameter()
    optimizer = hybrid(AfterSteps(5), p, first=SGD(lr=0.1), then=Adam(lr=0.01))
    go(optimizer, p, 6)
    assert (optimizer.phase, optimizer.lr) == ("adam", 0.01)


def test_report_switches_between_steps():
    p = parameter()
    optimizer = hybrid(Plateau(patience=1), p)
    for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.6], start=1):
        go(optimizer, p, 10, start=10 * epoch)
        before = p.numpy().copy()
        optimizer.report(epoch, val_loss=loss, train_loss=1.0)
        np.testing.assert_array_equal(p.numpy(), before)
    assert optimizer.switch_event == (30, 3, 0.1, "plateau:patience=1")
    assert optimizer.progress.history("val_loss") == [3.0, 2.0, 2.5, 2.6], "kept on after the switch"


def test_report_counts_finished_epochs():
    """`for epoch in range(n)`, as elsewhere, would switch an epoch late."""
    optimizer = hybrid(AfterEpochs(1), parameter())
    with pytest.raises(ValueError, match="the number of finished epochs, 1 after the first, not 0"):
        optimizer.report(0, val_loss=1.0)
    assert optimizer.progress.reports == []
    optimizer.report(1, val_loss=1.0)
    assert optimizer.switch_event.epoch == 1


def test_a_metric_that_was_not_reported_says_how_to_report_it():
    optimizer = hybrid(Gap(0.02), parameter())
    with pytest.raises(
        KeyError, match=r"unknown metric 'train_accuracy'.*optimizer.report\(epoch, train_accuracy=...\)"
    ):
        optimizer.report(1, val_accuracy=0.5)


def test_condition_is_asked_after_every_step_and_report_until_it_is_met_and_never_again():
    asked = []

    def condition(progress):
        asked.append((progress.step, progress.epoch))
        return progress.step == 3

    p = parameter()
    optimizer = hybrid(condition, p)
    go(optimizer, p, 2)
    optimizer.report(1, val_loss=1.0)
    go(optimizer, p, 4)
    optimizer.report(2, val_loss=1.0)
    assert asked == [(1, 0), (2, 0), (2, 1), (3, 1)]
    assert optimizer.switch_event.condition == "<condition>"


def test_schedules_count_their_own_phase():
    p = parameter()
    rates = []
    optimizer = hybrid(
        AfterSteps(3), p, first=SGD(lr=warmup(lambda k: 0.1, 2)), then=SGD(lr=lambda k: 0.5 / (k + 1), momentum=0.9)
    )
    for k in range(1, 7):
        rates.append(optimizer.lr)
        go(optimizer, p, 1, start=k)
    np.testing.assert_allclose(rates, [0.05, 0.1, 0.1, 0.5, 0.25, 0.5 / 3])


# ---- the rate after it ----


def test_rate_after_number_function_and_peak_of_a_schedule():
    for lr_after, then, expected in [
        (None, SGD(lr=0.3), [0.3, 0.3]),
        (0.2, SGD(lr=0.3), [0.2, 0.2]),
        (lambda progress: progress.step / 100, SGD(lr=0.3), [0.04, 0.04]),
        (0.2, SGD(lr=lambda k: 1 / (k + 1)), [0.2, 0.1]),
    ]:
        p = parameter()
        optimizer = hybrid(AfterSteps(4), p, then=then, lr_after=lr_after)
        go(optimizer, p, 4)
        rates = [optimizer.lr]
        go(optimizer, p, 1, start=5)
        assert [*rates, optimizer.lr] == pytest.approx(expected, rel=1e-15)
        assert optimizer.switch_event.lr == rates[0]


def test_projected_rate_is_the_textbooks():
    """gamma and Lambda over 40 Adam steps from the textbook's own weights."""
    w, lam = [START, *islice(textbook.adam(START, gradient, 0.01), 40)], 0.0
    for k in range(1, 41):
        step = [b - a for a, b in zip(w[k - 1], w[k], strict=True)]
        g = gradient(k, w[k - 1])
        gamma = sum(x * x for x in step) / -sum(x * y for x, y in zip(step, g, strict=True))
        lam = 0.999 * lam + 0.001 * gamma
    p = parameter()
    optimizer = hybrid(AfterSteps(40), p, lr_after="projected")
    go(optimizer, p, 40)
    assert optimizer.lr == pytest.approx(0.1 * lam / (1 - 0.999**40), rel=1e-9)
    assert len(optimizer.progress.gammas) == 40
    assert optimizer.progress.gamma == pytest.approx(gamma, rel=1e-9)


@pytest.mark.parametrize("at_report", [False, True])
@pytest.mark.parametrize("then", [SGD(lr=1, momentum=0.9), SGD(lr=1), SGD(lr=1, momentum=0.9, nesterov=True)])
def test_matched_rate_gives_the_first_step_the_last_ones_length(then, at_report):
    """For the gradient of the last step: fed again, it moves the weights as far as Adam just did."""
    p = parameter()
    then = SGD(lr=1, momentum=then.momentum, nesterov=then.nesterov)
    optimizer = hybrid(AfterEpochs(1) if at_report else AfterSteps(20), p, then=then, lr_after="matched")
    go(optimizer, p, 19)
    before, g = p.numpy().copy(), np.array(gradient(20, p.numpy().tolist()))
    go(optimizer, p, 1, start=20)
    middle = p.numpy().copy()
    optimizer.zero_grad(set_to_none=False)  # the report must not need the gradient any more
    optimizer.report(1, val_loss=1.0)
    p.grad = g
    optimizer.step()
    lengths = np.linalg.norm(middle - before), np.linalg.norm(p.numpy() - middle)
    assert optimizer.phase == "sgd"
    assert lengths[1] == pytest.approx(lengths[0], rel=1e-12)


def measured(kind, params, lr):
    """What takes over at a rate that the first phase has measured."""
    if kind in (SWATS, TensorSWATS):
        return kind(params, lr=lr, **({"switch_rtol": 10.0} if kind is SWATS else {"rtol": 10.0}))
    return Hybrid(params, Adam(lr=lr), SGD(lr=1.0), AfterSteps(3), lr_after=kind)


@pytest.mark.parametrize("kind", ["matched", "projected", SWATS, TensorSWATS])
def test_a_measured_rate_includes_the_factors_of_groups(kind):
    """Two groups at a tenth of the rule's rate are the rule at a tenth of its rate, after the switch too."""
    plain, grouped = [parameter(), parameter()], [parameter(), parameter()]
    optimizers = [
        measured(kind, plain, 1e-3),
        measured(kind, [{"params": p, "lr": 1e-3} for p in grouped], 1e-2),
    ]
    for k in range(1, 7):
        for optimizer, params in zip(optimizers, (plain, grouped), strict=True):
            for p in params:
                p.grad = np.array(NOISE[k])
            optimizer.step()
    assert [optimizer.phase for optimizer in optimizers] == ["sgd", "sgd"]
    np.testing.assert_allclose(grouped[0].numpy(), plain[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(grouped[1].numpy(), plain[1].numpy(), rtol=1e-12)


def test_matched_rate_gives_unequal_groups_the_last_steps_length():
    a, b = parameter(), parameter()
    groups = [{"params": [a], "lr_scale": 0.1}, {"params": [b], "lr_scale": 3.0}]
    optimizer = Hybrid(groups, Adam(), SGD(), AfterSteps(5), lr_after="matched")
    places = []
    for k in (1, 2, 3, 4, 5, 5):
        a.grad, b.grad = np.array(NOISE[k]), np.array(NOISE[k + 50])
        optimizer.step()
        places.append(optimizer.flat.w.copy())
    lengths = [np.linalg.norm(after - before) for before, after in pairwise(places)]
    assert lengths[-1] == pytest.approx(lengths[-2], rel=1e-12)


def test_matched_rate_is_known_after_a_checkpoint_between_step_and_report():
    optimizers = []
    for _ in range(2):
        p = parameter()
        optimizers.append(hybrid(AfterEpochs(1), p, lr_after="matched"))
        go(optimizers[-1], p, 5 if len(optimizers) == 1 else 1)
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for optimizer in optimizers:
        optimizer.report(1, val_loss=1.0)
    assert optimizers[1].switch_event == optimizers[0].switch_event != None  # noqa: E711


@pytest.mark.parametrize("share", [lambda r: (r, r), lambda r: (Adam(), r), lambda r: (r, SGD())])
def test_a_rule_belongs_to_one_phase_of_one_hybrid(share):
    """A second one would move the first one's weights, at a rate that the first one's switch has set."""
    rule = SGD(lr=0.1)
    first, then = share(rule)
    if first is not then:
        Hybrid([parameter()], Adam(), rule, AfterSteps(3))
    with pytest.raises(ValueError, match="each phase of each Hybrid needs a rule of its own"):
        Hybrid([parameter()], first, then, AfterSteps(3))


def test_a_rule_in_a_hybrid_settles_and_hears_of_epochs():
    """As by itself: SWATS, which does both, never switched inside a Hybrid."""

    class Hears(SGD):
        heard = ()

        def settle(self):
            self.heard = (*self.heard, f"step {self.t}")

        def report(self, epoch, **metrics):
            self.heard = (*self.heard, f"epoch {epoch}")

    w = parameter()
    hybrid = Hybrid([w], first=Hears(lr=0.1), then=Hears(lr=0.1), switch=AfterSteps(2))
    for k in (1, 2, 3):
        w.grad = np.array(gradient(k, w.data))
        hybrid.step()
        hybrid.report(k, val_loss=1.0)
    assert hybrid.first.heard == ("step 1", "epoch 1", "step 2")
    assert hybrid.then.heard == ("epoch 2", "step 1", "epoch 3")


def test_a_rule_with_a_step_of_its_own_is_refused():
    class Steps(SGD):
        def step(self):
            super().step()

    with pytest.raises(TypeError, match=r"Steps has a step\(\) of its own, which a Hybrid does not call"):
        Hybrid([parameter()], first=Adam(), then=Steps(lr=0.1), switch=AfterSteps(2))


def test_a_hybrid_that_was_refused_takes_no_rules():
    first, then = Adam(), SGD(lr=0.1)
    with pytest.raises(ValueError, match="at least one parameter"):
        Hybrid([], first, then, AfterSteps(3))
    assert Hybrid([parameter()], first, then, AfterSteps(3)).phase == "adam"


def test_a_function_that_returns_no_rate_is_named():
    p = parameter()
    with pytest.raises(ValueError, match="the learning rate that lr_after returned must be one number, got None"):
        go(hybrid(AfterSteps(1), p, lr_after=lambda progress: None), p, 1)


def test_projected_rate_waits_until_it_is_positive():
    p = parameter()
    optimizer = hybrid(lambda progress: True, p, lr_after="projected")
    p.grad = np.zeros(4)
    optimizer.step()  # p.g = 0: no gamma, Lambda = 0
    assert optimizer.switch_event is None
    go(optimizer, p, 1)
    assert optimizer.switch_event.step == 2


def test_carried_momentum():
    p = parameter()
    optimizer = hybrid(AfterSteps(20), p, carry="momentum")
    go(optimizer, p, 20)
    m, w = [0.0] * 4, [START, *islice(textbook.adam(START, gradient, 0.01), 20)]
    for k in range(1, 21):
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradient(k, w[k - 1]), strict=True)]
    np.testing.assert_allclose(optimizer.then.v, np.array(m) / (1 - 0.9**20) / (1 - 0.9), rtol=1e-9)
    fresh = hybrid(AfterSteps(20), p)
    go(fresh, p, 20)
    assert (fresh.then.v == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": Adam([parameter()])}, "without parameters"),
        ({"lr_after": "projectd"}, "got 'projectd'"),
        ({"lr_after": "projected", "then": Adam()}, "rate for SGD, but then is Adam"),
        ({"lr_after": -0.5}, "got -0.5"),
        ({"carry": "all"}, "got 'all'"),
        ({"carry": "momentum", "then": SGD()}, "momentum > 0"),
        ({"carry": "momentum", "first": RMSprop()}, "first=Adam"),
        ({"carry": "momentum", "lr_after": "matched"}, "carry='nothing'"),
    ],
)
def test_choices_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        hybrid(AfterSteps(1), **arguments)


# ---- telling and saving ----


def test_numbers_of_the_decision_are_kept_without_a_switch():
    p = parameter()
    optimizer = hybrid(Projected() | Crossing("val_accuracy", 0.99), p)
    go(optimizer, p, 25)
    optimizer.report(1, val_accuracy=0.5)
    assert len(optimizer.progress.gammas) == len(optimizer.progress.lambdas) == 25
    said = optimizer.verdict()
    assert said.startswith("never switched: swats | crossing:val_accuracy=0.99 was not met in 25 steps, 1 epoch")
    assert "relative distance" in said
    assert optimizer.switch_event is None


def test_no_projection_where_nobody_asks():
    p = parameter()
    optimizer = hybrid(AfterSteps(30), p)
    go(optimizer, p, 25)
    assert len(optimizer.progress.gammas) == 0
    assert optimizer.verdict() == "never switched: step:30 was not met in 25 steps, 0 epochs"


def test_verdict_of_a_switch():
    p = parameter()
    optimizer = hybrid(AfterSteps(3) | Plateau(), p, lr_after=0.0123)
    go(optimizer, p, 5)
    assert optimizer.verdict() == "switched to sgd after step 3 (0 epochs finished), rate 0.0123: step:3"


@pytest.mark.parametrize("at", [1, 12, 20, 21, 33])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"lr_after": "projected", "carry": "momentum"},
        {"lr_after": "matched"},
        {"lr_after": 0.2, "then": lambda: SGD(lr=cosine(1.0, 40), momentum=0.9)},
        {"first": lambda: RMSprop(lr=cosine(0.01, 20)), "then": lambda: Adam()},
    ],
)
def test_loaded_hybrid_goes_on_bit_for_bit(at, arguments):
    def make(p):
        return hybrid(condition, p, **{k: v() if callable(v) else v for k, v in arguments.items()})

    condition = AfterSteps(20) & Plateau(patience=1)  # needs the reports from before the checkpoint

    def train(optimizer, p, start):
        for k in range(start, 41):
            if k == at and start == 1:
                saved.append((optimizer.state_dict(), p.numpy().copy()))
            go(optimizer, p, 1, start=k)
            if k in (10, 15):
                optimizer.report(k // 5, val_loss=1.0)

    saved = []
    p, again = parameter(np.float32), parameter(np.float32)
    optimizer, resumed = make(p), make(again)
    train(optimizer, p, 1)
    state, w = saved[0]
    state["scalars"] = json.loads(json.dumps(state["scalars"], allow_nan=False))
    resumed.flat.w[...] = w
    resumed.load_state_dict(state)
    train(resumed, again, at)
    np.testing.assert_array_equal(p.numpy(), again.numpy())
    assert resumed.switch_event == optimizer.switch_event != None  # noqa: E711
    assert resumed.switch_event.step == 20
    assert list(resumed.progress.gammas) == list(optimizer.progress.gammas)
    assert resumed.progress.reports == optimizer.progress.reports


@pytest.mark.parametrize("at", [2, 8])
def test_back_before_the_switch_no_option_set_by_hand_later_is_left(at):
    p = parameter()
    optimizer, begin, ends = hybrid(AfterSteps(5), p), p.numpy().copy(), []
    optimizer.then.momentum = 0.5
    start = optimizer.state_dict()
    for _ in range(2):
        optimizer.load_state_dict(start)
        p.data[...] = begin
        go(optimizer, p, at)
        optimizer.active.max_norm = 0.1
        go(optimizer, p, 10 - at, start=at + 1)
        ends.append(p.numpy().copy())
    np.testing.assert_array_equal(*ends)
    assert optimizer.then.momentum == 0.5, "it was set before the switch"


@pytest.mark.parametrize("at", [0, 1, 4, 7, 9])
def test_swats_in_a_hybrid_goes_back_too(at):
    """To before or after its own switch, which changes its rate and scales its decay."""
    p = parameter()
    first, then = SWATS(lr=0.1, switch_rtol=10.0, weight_decay=0.1), SGD(lr=0.1)
    optimizer = Hybrid([p], first=first, then=then, switch=AfterSteps(8))
    go(optimizer, p, at)
    state, begin, ends = optimizer.state_dict(), p.numpy().copy(), []
    for _ in range(2):
        go(optimizer, p, 12 - at, start=at + 1)
        ends.append(p.numpy().copy())
        optimizer.load_state_dict(state)
        p.data[...] = begin
    np.testing.assert_array_equal(*ends)
    assert first.switch_event is None or first.switch_event.step == 2


def test_back_before_the_switch_its_second_phase_is_as_built():
    """A rate that was set by hand after the switch belongs to the run that is given up."""
    p = parameter()
    optimizer = hybrid(AfterSteps(5), p)
    go(optimizer, p, 3)
    state, kept = optimizer.state_dict(), p.numpy().copy()
    go(optimizer, p, 4, start=4)
    optimizer.lr = 1e-4
    p.data[...] = kept
    optimizer.load_state_dict(state)
    go(optimizer, p, 17, start=4)
    straight = parameter()
    go(hybrid(AfterSteps(5), straight), straight, 20)
    np.testing.assert_array_equal(p.numpy(), straight.numpy())


def test_state_of_another_hybrid_is_refused():
    with pytest.raises(ValueError, match="another switch or lr_after"):
        hybrid(AfterSteps(3)).load_state_dict(hybrid(Projected()).state_dict())
    with pytest.raises(ValueError, match="is a hybrid"):
        hybrid(AfterSteps(3)).load_state_dict(Adam([parameter()]).state_dict())


class Waits:
    """A condition as other libraries' callbacks are written: it counts in itself."""

    def __init__(self):
        self.waited = 0

    def __call__(self, progress):
        self.waited += progress.step % 2
        return self.waited > 50

    def ask(self, progress):
        return self(progress)


class WaitsToo(Waits, Condition):
    def __str__(self):
        return "waits"


@pytest.mark.parametrize("make", [Waits, WaitsToo, lambda: Waits().ask, lambda: Waits() & AfterSteps(3)])
def test_a_condition_that_counts_in_itself_is_told_when_it_is_saved(make):
    p = parameter()
    optimizer = hybrid(make(), p)
    optimizer.state_dict()
    go(optimizer, p, 2)
    with pytest.warns(UserWarning, match=r"changes what it keeps in self, which is not saved") as told:
        optimizer.state_dict()
    assert len(told) == 1
    optimizer.state_dict()  # once


@pytest.mark.parametrize("switch", [max, lambda progress: False, AfterSteps(9) | Plateau(), [].__contains__])
def test_other_conditions_are_saved_in_silence(switch):
    optimizer = hybrid(switch)
    optimizer.progress.step += 1
    optimizer.state_dict()
