"""What a wrapped optimizer keeps: parameters at rest, copies and pickles, checkpoints of PyTorch's own optimizers."""

import copy
import io
import pickle

import numpy as np
import pytest

from minidl.optim import SGD, SWATS, Adagrad, Adam, AdamW, AfterSteps, Blend, Hybrid, Projected, RMSprop
from tests.test_torch_wrap import IMAGES, one_thread, torch_batch, torch_cnn

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
from minidl.optim.torch import wrap  # noqa: E402 (needs torch)

pytestmark = [pytest.mark.pytorch, pytest.mark.usefixtures("one_thread")]
assert one_thread

RULES = {
    "sgd": (SGD, {"lr": 0.02, "weight_decay": 0.1}),
    "momentum": (SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    "adam": (Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw": (AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "amsgrad": (Adam, {"lr": 0.01, "amsgrad": True}),
    "rmsprop": (RMSprop, {"lr": 1e-3}),
    "rmsprop, momentum": (RMSprop, {"lr": 1e-3, "momentum": 0.5}),
    "adagrad": (Adagrad, {"lr": 0.02, "lr_decay": 0.1, "weight_decay": 0.1}),
}


def both(name):
    kind, arguments = RULES[name]
    ours, theirs = torch_cnn(), torch_cnn()
    return ours, wrap(kind, ours.parameters(), **arguments), theirs, theirs_for(kind, arguments, theirs)


def theirs_for(kind, arguments, model):
    return getattr(torch.optim, kind.__name__)(model.parameters(), **arguments)


def same(ours, theirs):
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# ---- what rests ----


@pytest.mark.parametrize("name", RULES)
def test_frozen_from_the_start(name):
    """A frozen backbone given to the optimizer with the rest: it is not decayed."""
    ours, our_optimizer, theirs, their_optimizer = both(name)
    for model in (ours, theirs):
        for p in model[0].parameters():
            p.requires_grad_(False)
    before = ours[0].weight.clone()
    for k in range(5):
        torch_batch(ours, our_optimizer, k)
        torch_batch(theirs, their_optimizer, k)
    assert torch.equal(ours[0].weight, before)
    same(ours, theirs)


@pytest.mark.parametrize("name", RULES)
def test_frozen_and_thawed_midway(name):
    ours, our_optimizer, theirs, their_optimizer = both(name)
    for k in range(12):
        for model, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
            for p in model[4].parameters():
                p.requires_grad_(not 3 <= k < 7)
            torch_batch(model, optimizer, k)
    same(ours, theirs)


@pytest.mark.parametrize("name", RULES)
def test_a_branch_unused_in_every_other_step(name):
    """Stochastic depth, or two heads in turn: the unused one has no gradient."""
    ours, our_optimizer, theirs, their_optimizer = both(name)
    for k in range(10):
        for model, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
            optimizer.zero_grad()
            features = model[:4](torch.from_numpy(IMAGES[k]))
            (model[4:](features) if k % 2 else features).square().mean().backward()
            optimizer.step()
    same(ours, theirs)


# ---- copies, pickles ----

COPY = {"deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}
KINDS = {
    "adam": (Adam, {}),
    "swats": (SWATS, {"switch_rtol": 1e-2}),
    "hybrid": (Hybrid, {"first": Adam(), "then": SGD(lr=0.05, momentum=0.9), "switch": AfterSteps(5)}),
}


@pytest.mark.parametrize("how", COPY)
@pytest.mark.parametrize("name", KINDS)
def test_model_and_optimizer_are_copied_together(name, how):
    kind, arguments = KINDS[name]
    model = torch_cnn()
    optimizer = wrap(kind, model.parameters(), **copy.deepcopy(arguments))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for k in range(3):
        torch_batch(model, optimizer, k)
        scheduler.step()
    again, its = COPY[how]((model, optimizer))
    for k in range(3, 9):
        torch_batch(model, optimizer, k)
    after = copy.deepcopy(model.state_dict())
    for k in range(3, 9):
        torch_batch(again, its, k)
    for key, value in again.state_dict().items():
        assert torch.equal(value, after[key])
        assert torch.equal(model.state_dict()[key], after[key]), "the copy has a memory of its own"
    assert its.phase == optimizer.phase
    assert its.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_named_parameters():
    model = torch_cnn()
    optimizer = wrap(SGD, model.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    torch_batch(model, optimizer, 0)
    again = torch_cnn()
    wrap(SGD, again.named_parameters(), lr=0.1).load_state_dict(optimizer.state_dict())


def test_hooks_are_called():
    model = torch_cnn()
    optimizer = wrap(Adam, model.parameters())
    heard = []
    optimizer.register_state_dict_pre_hook(lambda o: heard.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "extra": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: {k: v for k, v in state.items() if k != "extra"})
    optimizer.register_load_state_dict_post_hook(lambda o: heard.append("after loading"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: heard.append("step"))
    state = optimizer.state_dict()
    assert state["extra"] == 1
    optimizer.load_state_dict(state)
    torch_batch(model, optimizer, 0)
    assert heard == ["before saving", "after loading", "step"]


# ---- checkpoints of PyTorch's own ----


@pytest.mark.parametrize("rests", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_a_checkpoint_of_pytorchs_own_is_taken_over(name, rests):
    """Model and optimizer from torch.save go on here as they do there, rates and step counts included."""
    theirs = torch_cnn()
    kind, arguments = RULES[name]
    their_optimizer = theirs_for(kind, arguments, theirs)
    their_optimizer.param_groups[0]["lr"] *= 0.5
    for k in range(6):
        for p in theirs[0].parameters():
            p.requires_grad_(not (rests and k < 4))
        torch_batch(theirs, their_optimizer, k)
    file = io.BytesIO()
    torch.save([theirs.state_dict(), their_optimizer.state_dict()], file)
    file.seek(0)
    ours = torch_cnn()
    our_optimizer = wrap(kind, ours.parameters(), **arguments)
    model_state, optimizer_state = torch.load(file, weights_only=True)
    ours.load_state_dict(model_state)
    our_optimizer.load_state_dict(optimizer_state)
    for k in range(6, 12):
        assert torch_batch(ours, our_optimizer, k) == pytest.approx(torch_batch(theirs, their_optimizer, k), rel=1e-9)
    same(ours, theirs)


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "new"])
@pytest.mark.parametrize("name", RULES)
def test_pytorchs_own_goes_on_from_ours(name, begun):
    """As if it had run from the start; through a file, and with one parameter that rested at first."""
    ours, our_optimizer, theirs, their_optimizer = both(name)
    for k in range(6 if begun else 0):
        for model, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
            model[0].weight.requires_grad_(k > 1)
            torch_batch(model, optimizer, k)
    file = io.BytesIO()
    torch.save({"model": ours.state_dict(), "optimizer": our_optimizer.state_dict()}, file)
    file.seek(0)
    saved, kind, arguments = torch.load(file), *RULES[name]
    model = torch_cnn()
    model.load_state_dict(saved["model"])
    optimizer = theirs_for(kind, arguments, model)
    optimizer.load_state_dict(saved["optimizer"])
    again = torch_cnn()
    again.load_state_dict(saved["model"])
    ours_again = wrap(kind, again.parameters(), **arguments)
    ours_again.load_state_dict(saved["optimizer"])
    for k in range(6, 12):
        for each, its in ((model, optimizer), (again, ours_again), (theirs, their_optimizer)):
            torch_batch(each, its, k)
    same(model, theirs)
    same(again, theirs)


@pytest.mark.parametrize("alike", [True, False], ids=["the same memory", "copied"])
@pytest.mark.parametrize("name", RULES)
def test_ours_goes_on_from_pytorchs_own_that_went_on_from_ours(name, alike):
    """PyTorch carries our entries along, which are old by then."""
    ours, our_optimizer, theirs, their_optimizer = both(name)
    kind, arguments = RULES[name]
    middle, last = torch_cnn(), torch_cnn()
    middle_optimizer, last_optimizer = theirs_for(kind, arguments, middle), wrap(kind, last.parameters(), **arguments)
    for k in range(9):
        torch_batch(theirs, their_optimizer, k)
        if k < 3:
            torch_batch(ours, our_optimizer, k)
        elif k < 6:
            if k == 3:
                state = our_optimizer.state_dict()
                middle_optimizer.load_state_dict(state if alike else cut_apart(state))
                middle.load_state_dict(ours.state_dict())
            torch_batch(middle, middle_optimizer, k)
        else:
            if k == 6:
                last_optimizer.load_state_dict(middle_optimizer.state_dict())
                last.load_state_dict(middle.state_dict())
            torch_batch(last, last_optimizer, k)
    same(last, theirs)


def cut_apart(state):
    """Each tensor in memory of its own, as when the parameters lie on another device than the file's."""
    rows = {
        i: {k: v.clone() for k, v in row.items()} if isinstance(i, int) else row for i, row in state["state"].items()
    }
    return {**state, "state": rows}


def test_pytorchs_own_of_another_rule_does_not_begin_anew_without_a_word():
    ours, optimizer, theirs, _ = both("momentum")
    torch_batch(ours, optimizer, 0)
    adam = torch.optim.Adam(theirs.parameters())
    adam.load_state_dict(optimizer.state_dict())
    with pytest.raises(KeyError):
        torch_batch(theirs, adam, 1)


def test_a_state_by_parameter_makes_a_checkpoint_no_larger():
    ours, optimizer, _, _ = both("adam")
    torch_batch(ours, optimizer, 0)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    assert len(file.getvalue()) < 1.5 * sum(v.nbytes for v in optimizer.state_dict()["state"]["vectors"].values())


def test_a_hybrid_takes_over_adam_and_switches_as_if_it_had_run():
    theirs = torch_cnn()
    adam = torch.optim.Adam(theirs.parameters())
    for k in range(6):
        torch_batch(theirs, adam, k)
    ours = copy.deepcopy(theirs)
    hybrid = wrap(Hybrid, ours.parameters(), first=Adam(), then=SGD(lr=0.05), switch=AfterSteps(8))
    hybrid.load_state_dict(adam.state_dict())
    for k in range(6, 8):
        assert torch_batch(ours, hybrid, k) == pytest.approx(torch_batch(theirs, adam, k), rel=1e-9)
    same(ours, theirs)
    assert hybrid.switch_event.step == 8


@pytest.mark.parametrize(
    ("theirs", "kind", "arguments", "reason"),
    [
        (lambda p: torch.optim.Adam(p), SWATS, {}, "SWATS needs the projected rate"),
        (
            lambda p: torch.optim.Adam(p), Hybrid,
            {"first": Adam(), "then": SGD(), "switch": Projected(rtol=0.1), "lr_after": "projected"},
            "Hybrid needs the projected rate",
        ),
        (lambda p: torch.optim.Adam(p), Blend, {"steps_per_epoch": 5}, "Blend needs .* a state"),
        (lambda p: torch.optim.SGD(p, 0.1), Adam, {}, "a rule without betas"),
        (lambda p: torch.optim.Adam(p), SGD, {"momentum": 0.9}, "has exp_avg, exp_avg_sq, .* keeps momentum_buffer"),
        (lambda p: torch.optim.Adam(p, amsgrad=True), Adam, {}, "has amsgrad=True: build"),
        (lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True), SGD, {"momentum": 0.9}, "has nesterov=True: build"),
        (lambda p: torch.optim.AdamW(p), Adam, {}, "decay is that of 'adamw', this one is 'adam'"),
        (lambda p: torch.optim.Adam(p, weight_decay=0.1), AdamW, {}, "decay is that of 'adam', this one is 'adamw'"),
        (lambda p: torch.optim.Adam(p, maximize=True), Adam, {}, "it has maximize"),
        (lambda p: torch.optim.RMSprop(p, centered=True), RMSprop, {}, "it has centered"),
        (lambda p: torch.optim.NAdam(p), Adam, {}, "has exp_avg, exp_avg_sq, mu_product"),
    ],
)  # fmt: skip
def test_what_can_not_be_gone_on_from_is_refused_with_the_reason(theirs, kind, arguments, reason):
    model, other = torch_cnn(), torch_cnn()
    their_optimizer = theirs(model.parameters())
    for k in range(2):
        torch_batch(model, their_optimizer, k)
    optimizer = wrap(kind, other.parameters(), **copy.deepcopy(arguments))
    before = pickle.dumps(optimizer.inner.state_dict())
    with pytest.raises(ValueError, match=reason):
        optimizer.load_state_dict(their_optimizer.state_dict())
    assert pickle.dumps(optimizer.inner.state_dict()) == before


def test_a_checkpoint_of_other_groups_is_refused():
    model = torch_cnn()
    theirs = torch.optim.Adam(list(model.parameters())[:2])
    with pytest.raises(ValueError, match="different parameter groups"):
        wrap(Adam, model.parameters()).load_state_dict(theirs.state_dict())


def test_sparse_gradients_are_refused():
    embedding = torch.nn.Embedding(4, 3, sparse=True)
    optimizer = wrap(SGD, embedding.parameters(), lr=0.1)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match="sparse=False"):
        optimizer.step()
    assert np.isfinite(optimizer.inner.flat.w).all()
