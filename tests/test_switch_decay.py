"""Weight decay across the switch: the weights shrink no faster after it than before."""

from functools import partial

import numpy as np
import pytest

from minidl import Tensor
from minidl.optim import SGD, SWATS, Adam, AdamW, AfterEpochs, AfterSteps, Hybrid
from minidl.optim.schedule import constant, cosine, linear, onecycle, warmup
from minidl.training.build import build
from tests.test_optim import feed, noisy_bowl, parameters, values
from tests.test_optim_state import through_json


def decayed(hybrid, params, steps):
    """How much w shrinks per step where the loss says nothing."""
    shares = []
    for _ in range(steps):
        before = values(params)
        for p in params:
            p.grad = np.zeros(p.shape)
        hybrid.step()
        shares.append(1 - values(params)[0] / before[0])
    return shares


@pytest.mark.parametrize("mu", [0.0, 0.9])
def test_matched_decay_goes_on_as_before(mu):
    """AdamW shrinks by 1e-3 * 0.1 per step; SGD at 0.1 with the same lambda would by 1e-2, with momentum by 1e-1."""
    params = parameters()
    hybrid = Hybrid(
        params, AdamW(lr=1e-3, weight_decay=0.1), SGD(lr=0.1, momentum=mu, weight_decay=0.1), AfterSteps(5),
        decay_after="matched",
    )  # fmt: skip
    shares = decayed(hybrid, params, 300)
    assert shares[:5] == pytest.approx([1e-4] * 5)
    assert shares[-1] == pytest.approx(1e-4, rel=0.01), "momentum has added up by then"
    assert hybrid.then.weight_decay == pytest.approx(1e-3 * (1 - mu))


def test_matched_decay_is_kept_by_a_checkpoint():
    def make(params):
        then = SGD(lr=0.1, momentum=0.9, weight_decay=0.1)
        return Hybrid(params, AdamW(weight_decay=0.1), then, AfterSteps(2), decay_after="matched")

    params, again = parameters(), parameters()
    hybrid, resumed = make(params), make(again)
    decayed(hybrid, params, 4)
    resumed.flat.w[...] = hybrid.flat.w
    resumed.load_state_dict(hybrid.state_dict())
    assert decayed(resumed, again, 3) == decayed(hybrid, params, 3)


def test_matched_decay_is_known_after_a_checkpoint_between_step_and_report():
    """The report switches; the rate of the last step, which the decay is matched to, was not saved."""
    hybrids = []
    for _ in range(2):
        params = parameters()
        then = SGD(lr=0.1, momentum=0.9, weight_decay=0.1)
        first = AdamW(lr=cosine(1e-3, 100), weight_decay=0.1)
        hybrids.append(Hybrid(params, first, then, AfterEpochs(1), decay_after="matched"))
    decayed(hybrids[0], hybrids[0].flat.params, 4)
    hybrids[1].load_state_dict(through_json(hybrids[0].state_dict()))
    for hybrid in hybrids:
        hybrid.report(1, val_loss=1.0)
    assert hybrids[1].then.weight_decay == hybrids[0].then.weight_decay > 0


@pytest.mark.parametrize("lr_after", [None, 0.1])
@pytest.mark.parametrize("make", [partial(warmup, steps=3), lambda s: warmup(lambda k: s(k), 3), None])
def test_a_warm_up_is_matched_at_its_peak(make, lr_after):
    """Matched to the rate that it begins with, the decay was as many times too large as the warm-up has steps."""
    peak = 0.1 if lr_after is None else 1.0
    schedule = make(constant(lr=peak)) if make else onecycle(peak, 100)
    then = SGD(lr=schedule, momentum=0.9, weight_decay=0.1)
    hybrid = Hybrid(params := parameters(), AdamW(lr=1e-3, weight_decay=0.1), then, AfterSteps(3), lr_after=lr_after,
                    decay_after="matched")  # fmt: skip
    decayed(hybrid, params, 5)
    assert hybrid.phase == "sgd"
    assert then.weight_decay * 0.1 / (1 - 0.9) == pytest.approx(1e-3 * 0.1)


def test_the_command_lines_warm_up_is_matched_at_its_peak_too():
    hybrid = build(
        "hybrid", params := parameters(), total_steps=100, steps_per_epoch=50, lr=1e-3, lr_sgd=0.1, momentum=0.9,
        weight_decay=0.1, switch="step:3", schedule_sgd="cosine:warmup=20",
    )  # fmt: skip
    decayed(hybrid, params, 5)
    assert hybrid.then.weight_decay * 0.1 / (1 - 0.9) == pytest.approx(1e-3 * 0.1)


@pytest.mark.parametrize("back", [1, 4])
def test_matched_decay_at_a_rate_of_zero_is_loaded_again(back):
    """Adam's schedule has come to 0, so the decay is 0 too, and goes on so; before the switch it is as it was."""
    params = parameters()
    first = AdamW(lr=linear(1e-3, 2), weight_decay=0.1)
    hybrid = Hybrid(params, first, SGD(weight_decay=0.1), AfterSteps(3), decay_after="matched")
    decayed(hybrid, params, back)
    state, kept = hybrid.state_dict(), hybrid.flat.w.copy()
    shares = decayed(hybrid, params, 6)
    hybrid.flat.w[...] = kept
    hybrid.load_state_dict(state)
    assert decayed(hybrid, params, 6) == shares


@pytest.mark.parametrize("after", [0.1, 0.01])
def test_matched_decay_of_a_group_goes_on_as_before(after):
    """1e-2 * 0.05 per step in the group, 1e-2 * 0.1 outside it, whatever lambda SGD was given."""
    outside, inside = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    hybrid = Hybrid(
        [{"params": [outside]}, {"params": [inside], "weight_decay": 0.05}], AdamW(lr=1e-2, weight_decay=0.1),
        SGD(lr=0.1, weight_decay=after), AfterSteps(2), decay_after="matched",
    )  # fmt: skip
    for share, params in ((1e-3, [outside, inside]), (5e-4, [inside, outside])):
        assert decayed(hybrid, params, 4) == pytest.approx([share] * 4), hybrid.phase


def test_swats_decays_as_before_the_switch():
    params = parameters()
    swats = SWATS(params, weight_decay=0.1, switch_rtol=1e9)
    for k in range(3):
        feed(params, noisy_bowl(k + 1, values(params).tolist()))
        swats.step()
    assert swats.phase == "sgd"
    swats.v[...] = 0
    assert decayed(swats, params, 1) == pytest.approx([1e-4])


@pytest.mark.parametrize(
    ("first", "then", "decay_after"),
    [(Adam(), SGD(weight_decay=0.1), "matched"), (AdamW(), SGD(), "matched"), (AdamW(), SGD(), "same")],
)
def test_matched_decay_needs_two_decays(first, then, decay_after):
    with pytest.raises(ValueError, match="decay_after"):
        Hybrid(parameters(), first, then, AfterSteps(2), decay_after=decay_after)
