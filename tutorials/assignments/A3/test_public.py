"""Public tests of A3, small enough to check by hand. The hidden tests include corner cases."""

import numpy as np
from public import run, same

from minidl.optim.adam import Adam
from minidl.optim.hybrid import Hybrid
from minidl.optim.progress import Progress
from minidl.optim.projection import Projection
from minidl.optim.sgd import SGD
from minidl.optim.swats import SWATS
from minidl.optim.switch import AfterSteps, Gap, Plateau, Projected
from minidl.tensor import Tensor


def train(make, gradients):
    """The optimizer, and the weight after each step with these gradients."""
    parameter = Tensor(np.array([1.0]), requires_grad=True)
    optimizer, seen = make([parameter]), []
    for g in gradients:
        parameter.grad = np.array([g])
        optimizer.step()
        seen.append(float(parameter.data[0]))
    return optimizer, seen


def test_plateau():
    """Plateau: the best was 2, and it has not been beaten for two epochs"""
    progress = Progress(reports=[{"val_loss": v} for v in (3.0, 2.0, 2.5, 2.0)])
    assert Plateau().standing(progress) == (2.0, 2)
    assert Plateau(patience=2)(progress)
    assert not Plateau(patience=3)(progress)


def test_gap():
    """Gap"""
    assert Gap(0.05)(Progress(reports=[{"train_accuracy": 1.0, "val_accuracy": 0.9}]))
    assert not Gap(0.2)(Progress(reports=[{"train_accuracy": 1.0, "val_accuracy": 0.9}]))


def test_joined():
    """| and &"""
    progress = Progress(step=5)
    assert (AfterSteps(9) | AfterSteps(4))(progress)
    assert not (AfterSteps(9) & AfterSteps(4))(progress)


def test_projection():
    """p = -0.1 g is the SGD step with learning rate 0.1: gamma is 0.1, and so is Lambda"""
    projection = Projection(0.9)
    g = np.array([1.0, 2.0])
    for _ in range(3):
        projection.measure(-0.1 * g, g)
        projection.add()
    same(projection.gammas, [0.1] * 3)
    same(projection.lambdas, [0.1] * 3)


def test_projected():
    """Projected: |1.5 - 1.25| = 0.25 is below the tolerance 0.2 * 1.5"""
    progress = Progress(step=2, gammas=[2.0, 1.25], lambdas=[2.0, 1.5])
    same(Projected(rtol=0.2).distance(progress), [0.25, 0.3])
    assert Projected(rtol=0.2)(progress)
    assert Projected(rtol=0.2).distance(Progress(step=1, gammas=[2.0], lambdas=[2.0])) is None


def ready_to_switch(lam):
    """A Hybrid after its first step, with this Lambda, set to switch after one step."""
    parameters = [Tensor(np.array([1.0]), requires_grad=True)]
    then = SGD(lr=0.5, momentum=0.9)
    optimizer = Hybrid(parameters, Adam(lr=0.01), then, switch=AfterSteps(1), lr_after="projected")
    optimizer.progress.step, optimizer.progress.lambdas = 1, [lam]
    return optimizer


def test_rate_after():
    """Hybrid: with momentum 0.9 and Lambda = 0.5, the projected rate is 0.05"""
    same(ready_to_switch(0.5)._rate_after(), 0.05)


def test_a_rate_that_climbs():
    """Hybrid: with Lambda = -0.5 there is no usable rate, so it waits"""
    optimizer = ready_to_switch(-0.5)
    optimizer._decide()
    assert optimizer.switch_event is None
    assert optimizer.phase == "adam"


def test_hybrid():
    """Hybrid: one step of Adam (length 0.01), then SGD with learning rate 0.1"""
    optimizer, w = train(
        lambda p: Hybrid(p, Adam(lr=0.01), SGD(lr=0.5), switch=AfterSteps(1), lr_after=0.1), [2.0, 2.0, 2.0]
    )
    same(w, [0.99, 0.79, 0.59])
    assert optimizer.phase == "sgd"
    assert optimizer.switch_event.step == 1


def test_swats():
    """SWATS: with a constant gradient gamma is Lambda at step 2; the rate is then (1 - b1) Lambda"""
    optimizer, w = train(lambda p: SWATS(p, lr=0.01), [2.0, 2.0, 2.0])
    assert optimizer.switch_event is not None
    assert optimizer.switch_event.step == 2
    same(optimizer.lr, 0.1 * 0.005)  # Adam's step of 0.01 is an SGD step with rate 0.01 / 2
    same(w, [0.99, 0.98, 0.98 - 0.1 * 0.005 * 2])


if __name__ == "__main__":
    run(globals())
