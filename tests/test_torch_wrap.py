"""The optimizers inside PyTorch: the same steps as on minidl's own model, and what PyTorch's users expect of one."""

import copy
import io
import warnings

import numpy as np
import pytest

from minidl import Tensor, nn, ops
from minidl.optim import SGD, SWATS, Adam, AfterSteps, Hybrid, RMSprop

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
from minidl.optim.torch import wrap  # noqa: E402 (needs torch)

pytestmark = pytest.mark.pytorch


@pytest.fixture(autouse=True)
def one_thread():
    """For models this small, more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 16, 1, 8, 8))
LABELS = RNG.integers(0, 5, size=(12, 16))


def our_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, rng=0), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 16, rng=1), nn.ReLU(), nn.Linear(16, 5, rng=2),
    ).to(dtype=np.float64)  # fmt: skip


def torch_cnn():
    t = torch.nn
    model = t.Sequential(
        t.Conv2d(1, 4, 3, padding=1), t.ReLU(), t.MaxPool2d(2), t.Flatten(), t.Linear(64, 16), t.ReLU(), t.Linear(16, 5)
    ).double()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in our_cnn().state_dict().items()})
    return model


def torch_batch(model, optimizer, k):
    loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(IMAGES[k % 12])), torch.from_numpy(LABELS[k % 12]))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


OPTIMIZERS = {
    "swats": (SWATS, lambda: {"switch_rtol": 1e-2}),
    "hybrid": (
        Hybrid,
        lambda: {"first": Adam(), "then": SGD(momentum=0.9), "switch": AfterSteps(60), "lr_after": "projected"},
    ),
    "clipped": (
        Hybrid,
        lambda: {
            "first": RMSprop(lr=1e-3, max_norm=0.5),
            "then": SGD(lr=0.02, momentum=0.9, nesterov=True, max_norm=0.5),
            "switch": AfterSteps(60),
        },
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_steps_as_minidl_across_the_switch(name):
    kind, arguments = OPTIMIZERS[name]
    ours, theirs = our_cnn(), torch_cnn()
    our_optimizer, their_optimizer = (
        kind(ours.parameters(), **arguments()),
        wrap(kind, theirs.parameters(), **arguments()),
    )
    for k in range(150):
        loss = ops.cross_entropy(ours(Tensor(IMAGES[k % 12])), LABELS[k % 12])
        our_optimizer.zero_grad()
        loss.backward()
        our_optimizer.step()
        assert torch_batch(theirs, their_optimizer, k) == pytest.approx(float(loss), rel=1e-9)
    for (_, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-9)
    assert 0 < our_optimizer.switch_event.step < 120, "long before the end"
    assert their_optimizer.switch_event.step == our_optimizer.switch_event.step
    assert their_optimizer.phase == "sgd"
    assert their_optimizer.verdict().startswith("switched to sgd")


def test_memory_is_shared():
    model = torch_cnn()
    optimizer = wrap(Adam, model.parameters())
    w = optimizer.inner.flat.w
    with torch.no_grad():
        model[0].bias.fill_(7.0)
    np.testing.assert_array_equal(w[36:40], 7.0)
    w[36:40] = 3.0
    assert (model[0].bias == 3.0).all()


def test_model_weights_load_in_place():
    model = torch_cnn()
    optimizer = wrap(Adam, model.parameters())
    model.load_state_dict({name: torch.ones_like(value) for name, value in model.state_dict().items()})
    assert (optimizer.inner.flat.w == 1).all()
    torch_batch(model, optimizer, 0)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    model = torch_cnn()
    optimizer = wrap(SGD, model.parameters(), lr=0.1)
    torch_batch(model, optimizer, 0)
    optimizer.zero_grad(set_to_none=set_to_none)
    assert all((p.grad is None) if set_to_none else (p.grad == 0).all() for p in model.parameters())
    before = optimizer.inner.flat.w.copy()
    optimizer.step()
    np.testing.assert_array_equal(optimizer.inner.flat.w, before)


def test_closure():
    model = torch_cnn()
    optimizer = wrap(SGD, model.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (model(torch.from_numpy(IMAGES[0])) ** 2).mean()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(5)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("at", [10, 30])
def test_state_dict_round_trip_through_a_file(at):
    """In either phase, through torch.save with weights_only, into a fresh model: bit for bit, scheduler included."""

    def make(model):
        kind, arguments = OPTIMIZERS["hybrid"]
        optimizer = wrap(kind, model.parameters(), **{**arguments(), "switch": AfterSteps(20)})
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.5)

    model = torch_cnn()
    optimizer, scheduler = make(model)
    for k in range(40):
        if k == at:
            file = io.BytesIO()
            torch.save([model.state_dict(), optimizer.state_dict(), scheduler.state_dict()], file)
        torch_batch(model, optimizer, k)
        scheduler.step()
    file.seek(0)
    again = torch_cnn()
    resumed, resumed_scheduler = make(again)
    states = torch.load(file, weights_only=True)
    for part, state in zip([again, resumed, resumed_scheduler], states, strict=True):
        part.load_state_dict(state)
    for k in range(at, 40):
        torch_batch(again, resumed, k)
        resumed_scheduler.step()
    np.testing.assert_array_equal(resumed.inner.flat.w, optimizer.inner.flat.w)
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert resumed.switch_event == optimizer.switch_event


def test_errors_teach():
    model = torch_cnn()
    optimizer = wrap(Adam, model.parameters())
    with pytest.raises(ValueError, match="one flat vector"):
        optimizer.add_param_group({"params": [torch.zeros(3, requires_grad=True)]})
    model.to(torch.float32)
    with pytest.raises(RuntimeError, match=r"parameter 0, shape \(4, 1, 3, 3\).*after model.to"):
        optimizer.step()
    with pytest.raises(TypeError, match="float16"):
        wrap(Adam, [torch.zeros(3, dtype=torch.float16, requires_grad=True)])
    with pytest.raises(ValueError, match=r"unknown option of a group 'betas'.*all groups share the rule itself"):
        wrap(Adam, [{"params": [torch.zeros(3, requires_grad=True)], "betas": (0.5, 0.9)}])
    with pytest.raises(ValueError, match="at least one parameter"):
        wrap(Adam, [])


def test_what_is_no_optimizer_class_is_told():
    model = torch_cnn()
    with pytest.raises(TypeError, match=r"not an Adam that is already built"):
        wrap(Adam(lr=0.1), model.parameters())
    with pytest.raises(TypeError, match="this RMSprop is PyTorch's own: use it directly"):
        wrap(torch.optim.RMSprop, model.parameters())
    with pytest.raises(TypeError, match="not 'adam'"):
        wrap("adam", model.parameters())
    with pytest.raises(TypeError, match=r"parameter 0 is a Parameter.*minidl.optim.torch.wrap\(Adam, model.parameters"):
        Adam(model.parameters())


def test_a_copy_of_the_model_is_its_own():
    model = torch_cnn()
    optimizer = wrap(SGD, model.parameters(), lr=0.1)
    other = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch_batch(model, optimizer, 0)
    assert not torch.equal(other[0].weight, model[0].weight)
