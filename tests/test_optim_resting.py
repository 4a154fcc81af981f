"""What is frozen or has no gradient is not moved, and its state stands still: each rule beside PyTorch's."""

import copy

import numpy as np
import pytest

from minidl import Tensor, nn, ops
from minidl.optim import SGD, SWATS, Adam, AdamW, AfterSteps, Blend, Hybrid, Projected
from tests.test_optim import RULES, START, parameters, values
from tests.test_optim_state import through_json

RNG = np.random.default_rng(5)
SHAPES = [(2, 3), (4,), (3, 2), (2,)]
# Which of four parameters get a gradient in which step: all, some, none, the same ones for a while.
PATTERNS = {
    "every other step": [[1, k % 2, 1, 1] for k in range(12)],
    "late": [[1, 1, 1, k > 4] for k in range(12)],
    "early": [[k < 5, 1, 1, k < 5] for k in range(12)],
    "at random": RNG.integers(0, 2, (30, 4)).tolist(),
    "never": [[0, 1, 1, 0]] * 8,
    "nobody for a while": [[1] * 4, [0] * 4, [0] * 4, [1] * 4, [1, 0, 1, 0]] * 3,
}
GRADIENTS = [[RNG.normal(size=shape) for shape in SHAPES] for _ in range(30)]
WEIGHTS = [RNG.normal(size=shape) for shape in SHAPES]


def leaves():
    return [Tensor(w.copy(), requires_grad=True) for w in WEIGHTS]


def drive(params, optimizer, pattern, how):
    """The steps of a pattern: what rests has no gradient, or is frozen with or without one."""
    for k, moves in enumerate(pattern):
        for p, g, moving in zip(params, GRADIENTS[k], moves, strict=True):
            p.requires_grad = bool(moving) or how == "no gradient"
            p.grad = g.copy() if moving or how == "frozen with a gradient" else None
        optimizer.step()


@pytest.mark.pytorch
@pytest.mark.filterwarnings("ignore:this step found no gradient")
@pytest.mark.parametrize("how", ["no gradient", "frozen", "frozen with a gradient"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", RULES)
def test_as_in_pytorch(name, pattern, how):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    make, _, torch_name, arguments = RULES[name]
    ours = leaves()
    drive(ours, make(ours), PATTERNS[pattern], how)
    theirs = [torch.tensor(w, requires_grad=True) for w in WEIGHTS]
    optimizer = getattr(torch.optim, torch_name)(theirs, **arguments)
    for k, moves in enumerate(PATTERNS[pattern]):
        for p, g, moving in zip(theirs, GRADIENTS[k], moves, strict=True):
            p.grad = torch.tensor(g) if moving else None
        optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_every_other_step_moves_adam_by_half():
    """PyTorch's number: with a step count shared by all it would be 0.408."""
    w, other = Tensor(np.zeros(1), requires_grad=True), Tensor(np.zeros(1), requires_grad=True)
    optimizer = Adam([w, other], lr=0.1)
    for k in range(10):
        w.grad, other.grad = (np.ones(1) if k % 2 == 0 else None), np.ones(1)
        optimizer.step()
    assert float(w) == pytest.approx(-0.5, abs=1e-6)
    assert float(other) == pytest.approx(-1.0, abs=1e-6)


def test_the_users_gradient_of_a_frozen_parameter_stays():
    params = parameters()
    optimizer = SGD(params, lr=1.0, max_norm=1.0)
    for p in params:
        p.grad = p.home.grad
        p.grad[...] = 3.0
    params[0].requires_grad = False
    optimizer.step()
    np.testing.assert_array_equal(params[0].grad, np.full((2, 3), 3.0))
    np.testing.assert_array_equal(values(params)[:6], START[:6])


def test_clipping_takes_the_norm_of_what_moves():
    params = parameters()
    optimizer = SGD(params, lr=1.0, max_norm=1.0)
    params[0].requires_grad = False
    params[0].grad, params[1].grad = np.full((2, 3), 100.0), np.array([3.0, 4.0])
    optimizer.step()
    np.testing.assert_allclose(START[6:] - values(params)[6:], [0.6, 0.8], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:this step found no gradient")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_swats_projects_what_moves_and_counts_its_own_steps(pattern):
    """Beside Algorithm 1 by hand: moments by each parameter's own step, gamma over what moves, lambda by all steps."""
    ours = leaves()
    optimizer = SWATS(ours, switch_rtol=1e-12)
    w, m, a = ([x.copy() for x in xs] for xs in (WEIGHTS, [0 * w for w in WEIGHTS], [0 * w for w in WEIGHTS]))
    t, lam, k = [0] * 4, 0.0, 0
    for gradients, moves in zip(GRADIENTS, PATTERNS[pattern], strict=False):
        pp = pg = 0.0
        k += 1
        for i in range(4):
            ours[i].grad = gradients[i].copy() if moves[i] else None
            if not moves[i]:
                continue
            t[i] += 1
            g = gradients[i]
            m[i], a[i] = 0.9 * m[i] + 0.1 * g, 0.999 * a[i] + 0.001 * g**2
            p = -1e-3 * np.sqrt(1 - 0.999 ** t[i]) / (1 - 0.9 ** t[i]) * m[i] / (np.sqrt(a[i]) + 1e-9)
            w[i] = w[i] + p
            pp, pg = pp + (p * p).sum(), pg + (p * g).sum()
        if pg != 0:
            lam = 0.999 * lam + 0.001 * pp / -pg
        optimizer.step()
        assert optimizer.projection.lambdas[-1] == pytest.approx(lam / (1 - 0.999**k), rel=1e-12)
    for x, y in zip(ours, w, strict=True):
        np.testing.assert_allclose(x.numpy(), y, rtol=1e-12)


def test_blend_slides_by_the_optimizers_steps():
    """The slide follows training: a parameter that comes late joins it where it is."""
    late, always = Tensor(np.zeros(1), requires_grad=True), Tensor(np.zeros(1), requires_grad=True)
    optimizer = Blend([late, always], lr=0.1, steps_per_epoch=1, center=2, period=2)
    for k in range(6):
        late.grad, always.grad = (np.ones(1) if k == 5 else None), np.ones(1)
        optimizer.step()
    assert float(late) == pytest.approx(-0.1), "SGD's step, for the slide ended at step 4"


@pytest.mark.parametrize("name", ["adam-decay", "momentum", "rmsprop-momentum"])
def test_across_a_checkpoint(name):
    """Saved while some have rested, it goes on bit for bit."""
    make, pattern = RULES[name][0], PATTERNS["at random"]
    whole = leaves()
    drive(whole, make(whole), pattern, "frozen")
    half = leaves()
    first = make(half)
    drive(half, first, pattern[:15], "frozen")
    saved, second = through_json(first.state_dict()), make(copy.deepcopy(half))
    second.load_state_dict(saved)
    again = second.flat.params
    for k in range(15, 30):
        for p, g, moving in zip(again, GRADIENTS[k], pattern[k], strict=True):
            p.requires_grad, p.grad = bool(moving), g.copy() if moving else None
        second.step()
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_frozen_layers_of_a_model_train_as_without_them():
    """A frozen backbone: the head takes the steps that it takes alone, whatever is frozen in front, decay and all."""
    x, labels = RNG.normal(size=(16, 5)), RNG.integers(0, 3, 16)
    model = nn.Sequential(nn.Linear(5, 4, rng=0), nn.Tanh(), nn.Linear(4, 3, rng=1)).to(dtype=np.float64)
    head = copy.deepcopy(model[2])
    for p in (model[0].weight, model[0].bias):
        p.requires_grad = False
    before = model[0].weight.numpy().copy()
    every = [model[0].weight, model[0].bias, model[2].weight, model[2].bias]
    both = AdamW(every, 0.01, weight_decay=0.1), AdamW(head.parameters(), 0.01, weight_decay=0.1)
    features = model[1](model[0](Tensor(x))).detach()
    for _ in range(5):
        for optimizer, output in zip(both, (model(Tensor(x)), head(features)), strict=True):
            optimizer.zero_grad()
            ops.cross_entropy(output, labels).backward()
            optimizer.step()
    np.testing.assert_array_equal(model[0].weight.numpy(), before)
    np.testing.assert_array_equal(model[2].weight.numpy(), head.weight.numpy())


def test_hybrid_switches_with_parameters_at_rest():
    params = leaves()
    hybrid = Hybrid(params, Adam(lr=0.01), SGD(momentum=0.9), AfterSteps(3) & Projected(rtol=10.0), "projected")
    params[1].requires_grad = False
    drive(params, hybrid, [[1, 0, 1, 1]] * 8, "frozen")
    assert hybrid.phase == "sgd"
    np.testing.assert_array_equal(params[1].numpy(), WEIGHTS[1])


def test_the_common_case_is_one_pass(monkeypatch):
    """Nothing is cut, copied or counted where all parameters have gradients."""
    params = leaves()
    optimizer = Adam(params)

    def never(*args):
        raise AssertionError("a step in parts")

    monkeypatch.setattr("minidl.optim.rule.parts", never)
    monkeypatch.setattr("minidl.optim.rule.count_steps", never)
    drive(params, optimizer, [[1] * 4] * 3, "frozen")
    assert optimizer.own_t is None
    assert "own_t" not in optimizer.state_dict()["scalars"]
