"""Every optimizer on a device that is not the CPU: same steps, same switch, and how much each step reads."""

import numpy as np
import pytest

from minidl import Tensor
from minidl.backend import backend_of
from minidl.optim import SGD, SWATS, Adam, AfterSteps, Formula, Hybrid, Line, Projected, Rule
from tests import device_checks as checks
from tests.counting import Counting, HostRead

READS = {
    "hybrid, matched",
    "hybrid, projected rate",
    "hybrid, projected",
    "swats",
    "swats, switches",
}  # those that look at gamma


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", checks.RULES)
def test_a_rule_is_the_cpus(name, dtype, device):
    checks.check_rule(name, device.backend.name, dtype)


@pytest.mark.parametrize("name", sorted(set(checks.RULES) - READS))
def test_a_step_reads_nothing_and_sends_nothing(name, device: Counting):
    for traffic in steps(device, checks.RULES[name], 6):
        assert traffic.uploads == traffic.downloads == 0


def steps(device, make, n):
    """The traffic of each of n steps, taken a second time: kernels are checked before their first use."""
    take_steps(device, make, n)
    return take_steps(device, make, n)


def take_steps(device, make, n):
    rng = np.random.default_rng(0)
    p = Tensor(device.from_host(rng.standard_normal(40)), requires_grad=True)
    optimizer, traffics = make([p]), []
    for _ in range(n):
        p.grad = device.from_host(rng.standard_normal(40))
        with device.measure() as traffic:
            optimizer.step()
        traffics.append(traffic)
    return traffics


def test_a_projection_reads_its_two_numbers_in_one_go_and_only_until_the_switch(device):
    """Whether to switch is decided after each step, by gamma: so each step waits for 16 bytes, p.p and p.g."""
    for make in (SWATS, lambda p: Hybrid(p, Adam(), SGD(), Projected(rtol=1e-9))):
        for traffic in steps(device, make, 4):
            assert (traffic.downloads, traffic.download_bytes, traffic.uploads) == (1, 16, 0)
    hybrid = steps(device, lambda p: Hybrid(p, Adam(), SGD(), AfterSteps(3), lr_after="projected"), 6)
    assert [t.downloads for t in hybrid] == [1, 1, 1, 0, 0, 0]
    with pytest.raises(HostRead), device.forbid_reads():
        take_steps(device, SWATS, 1)


def test_a_matched_rate_reads_once_at_the_switch(device):
    hybrid = steps(device, lambda p: Hybrid(p, Adam(), SGD(), AfterSteps(3), lr_after="matched"), 6)
    assert [(t.downloads, t.download_bytes) for t in hybrid] == [(0, 0), (0, 0), (1, 16), (0, 0), (0, 0), (0, 0)]


def test_vectors_and_state_lie_on_the_device(device):
    p = Tensor(device.from_host(np.ones(4)), requires_grad=True)
    optimizer = Adam([p])
    p.grad = device.from_host(np.ones(4))
    optimizer.step()
    assert all(backend_of(a) is device.backend for a in (p.data, p.grad, optimizer.m, optimizer.flat.w))
    assert all(type(v) is np.ndarray for v in optimizer.state_dict()["vectors"].values())


def test_a_rule_of_ones_own_is_never_replaced_by_a_kernel(device):
    """A class that changes a rule's formula, or how it decays, runs as it is written."""

    class Half(SGD):
        def rule(self, g, p, lr, v=None):
            super().rule(g, p, lr / 2)

    class Shrinking(Adam):
        def decayed(self, w, g, lr):
            return g + self.weight_decay * abs(w) * w

    for make in (lambda p: Half(p, 0.1), lambda p: Shrinking(p, 0.1, weight_decay=0.5)):
        weights = []
        for like in (np.array, device.from_host):
            p = Tensor(like([1.0, -2.0]), requires_grad=True)
            p.grad = like([0.5, 0.25])
            make([p]).step()
            weights.append(p.numpy())
        np.testing.assert_allclose(*weights, rtol=1e-12)


def test_a_rule_of_ones_own_with_a_formula_gets_a_kernel(device):
    """With a rule in place beside it or without: one launch a step, the same steps as on the CPU."""

    class Signs(Rule):
        name, vectors = "signs", ("s",)
        formula = Formula(
            Line("s", "s_old + sign(g) * min(abs(g), 1)", "sum of signs"),
            Line("p", "-lr * s / (1 + t) if s > 0 else -lr * exp(-s**2) - lr * abs(s)**1.5", "the step"),
        )

    class InPlace(Signs):
        formula = Signs.formula

        def rule(self, g, p, lr, s):
            xp = device.xp if not isinstance(g, np.ndarray) else np
            s += xp.sign(g) * xp.minimum(xp.abs(g), 1)
            p[...] = xp.where(s > 0, -lr * s / (1 + self.t), -lr * xp.exp(-s * s) - lr * xp.abs(s) ** 1.5)

    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((5, 40))
    for rule in (Signs, InPlace):
        ends = []
        for like in (np.array, device.from_host):
            p = Tensor(like(np.ones(40)), requires_grad=True)
            optimizer = rule([p], 0.1, weight_decay=0.1)
            for g in gradients:
                p.grad = like(g)
                with device.measure() as traffic:
                    optimizer.step()
            ends.append(p.numpy())
        np.testing.assert_allclose(*ends, rtol=1e-12)
        if device.backend.kernels:
            assert traffic.launches == 1 + (p.grad is not optimizer.flat.g)  # and the gradient's copy


def test_a_kernel_that_errs_at_a_small_rate_only_shows(device):
    """A step that is twice as long as it should be is found out, though at this rate it hardly moves the weights."""
    if not device.backend.kernels:
        pytest.skip("this device has no kernels")

    class Wrong(SGD):
        formula, rule = Formula(Line("p", "-2 * lr * g")), SGD.rule

    p = Tensor(device.from_host(np.ones(3, np.float32)), requires_grad=True)
    p.grad = device.from_host(np.ones(3, np.float32))
    with (
        pytest.warns(RuntimeWarning, match="the GPU kernel of the update rule 'sgd' is not used: Not equal"),
        pytest.warns(UserWarning, match="Wrong.rule and Wrong.formula give different first steps"),
    ):
        Wrong([p], 1e-6).step()
    np.testing.assert_array_equal(p.numpy(), np.float32(1) - np.float32(1e-6))
