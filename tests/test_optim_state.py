"""An optimizer that is saved and loaded goes on bit for bit."""

import json
import re

import numpy as np
import pytest

from minidl.optim import (
    SGD,
    Adam,
    AdamW,
    AfterSteps,
    Blend,
    Hybrid,
    Optimizer,
    Rule,
)
from minidl.optim.schedule import cosine
from minidl.tensor import Tensor
from tests.test_optim import RULES, feed, noisy_bowl, parameters, values

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


def matched_at(step):
    then = SGD(lr=0.1, momentum=0.9, weight_decay=0.1)
    return lambda p: Hybrid(p, AdamW(weight_decay=0.1), then, AfterSteps(step), decay_after="matched")


BACK = {**STATEFUL, "hybrid, before": matched_at(20), "hybrid, after": matched_at(5)}


@pytest.mark.parametrize("name", BACK)
def test_back_to_the_start_it_takes_the_same_steps_again(name):
    """As in a search for a learning rate: each trial begins from the state before the first step."""
    params = parameters()
    optimizer, begin, ends = BACK[name](params), values(params), []
    start = through_json(optimizer.state_dict())
    for _ in range(2):
        optimizer.load_state_dict(start)
        optimizer.flat.w[...] = begin
        for k in range(1, 11):
            feed(params, noisy_bowl(k, values(params).tolist()))
            optimizer.step()
        ends.append(values(params))
    np.testing.assert_array_equal(*ends)


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


class Remembers(Rule):
    """A number that each step changes, as NAdam's product of its momenta, and one that comes only in some step."""

    name = "remembers"

    def __init__(self, params=None, lr=0.1, **common):
        super().__init__(params, lr, **common)
        self.product = 1.0

    def advance(self):
        super().advance()
        self.product *= 0.9
        if self.t == 5:
            self.late = 0.5

    def rule(self, g, p, lr):
        p[...] = -lr * self.product * getattr(self, "late", 1.0) * g


class Noisy(Rule):
    """Neelakantan et al. 2015: noise on the gradient, from a generator in self, as the first step advises."""

    name = "noisy"

    def __init__(self, params=None, lr=0.1, make=np.random.default_rng, **common):
        super().__init__(params, lr, **common)
        self.rng = make(0)

    def rule(self, g, p, lr):
        p[...] = -lr * (g + self.rng.normal(size=g.shape))


@pytest.mark.parametrize("kind", [Remembers, Adam])  # without a formula, and with one, for which there are loops
def test_an_advance_that_leaves_the_rules_out_is_told(kind):
    """Its rate would stay 0: a whole training would move nothing, in silence."""

    class Forgets(kind):
        def advance(self):
            self.product = 0.9

    w = Tensor(np.ones(3), requires_grad=True)
    w.grad = np.ones(3)
    with pytest.raises(TypeError, match=r"Forgets.advance has not counted .* with super\(\).advance\(\)"):
        Forgets([w]).step()


@pytest.mark.parametrize("anew", [True, False])
@pytest.mark.parametrize("at", [1, 4, 5, 12])
@pytest.mark.parametrize(
    "make",
    [
        Remembers,
        Noisy,
        lambda p: Hybrid(p, first=Remembers(), then=SGD(lr=0.1), switch=AfterSteps(8)),
        lambda p: Hybrid(p, first=Noisy(), then=SGD(lr=0.1), switch=AfterSteps(8)),
        lambda p: Hybrid(p, first=Adam(), then=Remembers(), switch=AfterSteps(3)),
        lambda p: Hybrid(p, first=Adam(), then=Noisy(), switch=AfterSteps(3)),
    ],
    ids=["alone", "noise", "first", "noise first", "then", "then noise"],
)
def test_numbers_that_an_own_rule_keeps_in_self_are_saved(make, at, anew):
    gradients = np.random.default_rng(0).normal(size=(16, 3))

    def train(optimizer, w, start):
        for k, gradient in enumerate(gradients[start:], start + 1):
            w.grad = gradient.copy()
            optimizer.step()
            if k == at and start == 0:
                saved.update(state=through_json(optimizer.state_dict()), w=w.data.copy())
        return w.data.copy()

    saved, w = {}, Tensor(np.ones(3), requires_grad=True)
    optimizer = make([w])
    straight = train(optimizer, w, 0)
    if anew:
        w = Tensor(np.ones(3), requires_grad=True)
        optimizer = make([w])
    optimizer.load_state_dict(saved["state"])
    w.data[...] = saved["w"]
    np.testing.assert_array_equal(train(optimizer, w, at), straight)


class Lookahead(SGD):
    """Zhang et al. 2019, with its slow weights where no saved state looks for them."""

    name, k = "lookahead", 2

    def bind(self, flat):
        super().bind(flat)
        self.slow, self.table = flat.w.copy(), np.linspace(0, 1, 5)

    def update(self):
        super().update()
        if self.t % self.k == 0:
            self.slow += 0.5 * (self.flat.w - self.slow)
            self.flat.w[...] = self.slow


class Listed(Lookahead):
    k = 9

    def bind(self, flat):
        super().bind(flat)
        self.listed = [flat.w.copy()]

    def update(self):
        super().update()
        self.listed[0] = self.listed[0] * 0.9


class History(SGD):
    """Numbers in a list, such as the losses that a line search looks back at."""

    def advance(self):
        super().advance()
        vars(self).setdefault("rates", []).append(self.rate)


class Norm(SGD):
    name = "norm"

    def advance(self):
        super().advance()
        self.norm = np.float32(self.t)


class Saves(Lookahead):
    def state_dict(self):
        state = super().state_dict()
        state["vectors"]["slow"] = self.slow.copy()
        return state


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Lookahead, "Lookahead changes self.slow, which its saved state does not include.*belong in vectors"),
        (lambda p: Hybrid(p, Lookahead(lr=0.1), SGD(lr=0.1), AfterSteps(9)), "changes self.slow"),
        (Listed, "changes self.listed"),
        (Norm, r"changes self.norm.*a NumPy number is saved only as float"),
        (History, "changes self.rates"),
        (lambda p: Noisy(p, make=np.random.RandomState), r"changes self.rng.*default_rng\(seed\) is saved"),
        (Noisy, None),
        (Saves, None),
        (Remembers, None),
    ],
)
def test_what_an_own_rule_keeps_that_is_not_saved_is_told(make, says, recwarn):
    """Its resumed run would go on from other values, in silence."""
    params = parameters()
    optimizer = make(params)
    optimizer.state_dict()
    for _ in range(4):
        feed(params, [1.0] * 8)
        optimizer.step()
        optimizer.zero_grad()
    for _ in range(2):
        optimizer.state_dict()
    told = [str(each.message) for each in recwarn]
    assert len(told) == (says is not None), told
    assert says is None or re.search(says, told[0])


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda p: SGD(p, 0.1, 0.9), {"momentum": np.float32(0.5), "weight_decay": 0.1, "max_norm": 1.0}),
        (lambda p: SGD(p, 0.1, 0.9, max_norm=0.1), {"max_norm": None, "nesterov": True}),
        (lambda p: Adam(p), {"betas": np.array([0.5, 0.9]), "eps": 0.1}),
        (lambda p: Remembers(p), {"weight_decay": 0.1}),
    ],
)
def test_options_set_by_hand_are_saved(make, options):
    params, again = parameters(), parameters()
    optimizer, resumed = make(params), make(again)
    start = through_json(optimizer.state_dict())
    for k in range(1, 11):
        if k == 6:
            for name, value in options.items():
                setattr(optimizer, name, value)
            saved = through_json(optimizer.state_dict())
            resumed.flat.w[...] = optimizer.flat.w
            resumed.load_state_dict(saved)
        for each, mine in ((optimizer, params), (resumed, again))[: 1 if k < 6 else 2]:
            feed(mine, noisy_bowl(k, values(mine).tolist()))
            each.step()
    np.testing.assert_array_equal(values(again), values(params))
    resumed.load_state_dict(start)
    assert repr(resumed) == repr(make(parameters())), "the options are those of the state"


class DecaysLate(SGD):
    """It sets an option after its base class."""

    name = "decays late"

    def __init__(self, params=None, lr=0.1):
        super().__init__(params, lr, 0.9)
        self.weight_decay = 0.5


def test_an_option_that_the_program_sets_before_it_loads_stays_where_the_state_has_none():
    """States of earlier versions have no options: the program that resumes sets them again."""
    for make, name, value in ((lambda p: SGD(p, 0.1, 0.9), "momentum", 0.5), (DecaysLate, "weight_decay", 0.5)):
        states = []
        for _ in range(2):
            optimizer = make(parameters())
            setattr(optimizer, name, value)
            if states:
                optimizer.load_state_dict(states[0])
                assert getattr(optimizer, name) == value
            states.append(through_json(optimizer.state_dict()))
            states[0]["scalars"].pop("options", None)


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


def test_a_state_with_a_generator_that_the_rule_lacks_is_refused_and_nothing_changes():
    """It was a KeyError, after its vectors were loaded."""

    class Draws(SGD):
        name = "draws"

        def __init__(self, params, lr):
            super().__init__(params, lr, momentum=0.9)
            self.rng = np.random.default_rng(0)

        def advance(self):
            super().advance()
            self.rng.random()

    old, new = Draws(parameters(), 0.1), Draws(parameters(), 0.2)
    old.v += 1
    for param in old.flat.params:
        param.grad = np.ones_like(param.data)
    old.step()
    del new.rng
    with pytest.raises(ValueError, match=r"a random generator, self.rng, which this Draws does not keep"):
        new.load_state_dict(old.state_dict())
    assert ((new.v == 0).all(), new.t, new.lr) == (True, 0, 0.2)


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

    code = "import sys, minidl.optim; sys.exit(bool({'torch', 'matplotlib', 'cupy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plain_rules_have_no_switch():
    optimizer = Adam(parameters())
    optimizer.report(1, val_loss=0.5)
    assert isinstance(optimizer, Optimizer)
    assert (optimizer.phase, optimizer.switch_event, optimizer.verdict()) == ("adam", None, None)
