"""How near a condition is to being met: the number, the level, the words; and that they agree with the yes or no."""

import math

import numpy as np
import pytest

from minidl.optim import AfterSteps, Progress, parse_switch
from minidl.optim.switch import as_condition
from minidl.optim.switch_state import singles, standings, state

REPORTS = [
    {"val_loss": 0.5, "val_accuracy": 0.90, "train_accuracy": 0.91, "train_loss": 0.4},
    {"val_loss": 0.3, "val_accuracy": 0.95, "train_accuracy": 0.96, "train_loss": 0.2},
    {"val_loss": 0.4, "val_accuracy": 0.94, "train_accuracy": 0.98, "train_loss": 0.1},
]


def progress(**changes) -> Progress:
    return Progress(
        **{"step": 40, "epoch": 3, "reports": REPORTS, "gammas": [2.0, 1.0, 1.5], "lambdas": [2.0, 1.5, 1.4]} | changes
    )


@pytest.mark.parametrize(
    ("text", "value", "level", "words"),
    [
        ("step:100", 40, 100, "step 40 of 100"),
        ("epoch:2", 3, 2, "3 of 2 epochs finished"),
        ("plateau:patience=2", 1, 2, "val_loss 0.4, best 0.3: 1 of 2 epochs without improvement"),
        ("plateau:metric=val_accuracy,patience=1", 1, 1,
         "val_accuracy 0.94, best 0.95: 1 of 1 epochs without improvement"),
        ("crossing:val_accuracy=0.97", 0.94, 0.97, "val_accuracy 0.94, waits for 0.97"),
        ("gap:0.02", 0.04, 0.02, "train_accuracy - val_accuracy = 0.0400, waits for 0.02"),
        ("swats:rtol=0.1", 0.1, 0.14, "gamma is 0.1 from Lambda = 1.4, waits for less than 0.14"),
        ("swats", 0.1, 1e-9, "gamma is 0.1 from Lambda = 1.4, waits for less than 1e-09"),
        ("swats:rtol=0.1,window=2", None, None, "gamma and Lambda are compared from step 4 on"),
    ],
)  # fmt: skip
def test_each_condition_tells_its_number_and_its_level(text, value, level, words):
    (one,) = standings(condition := parse_switch(text), progress())
    assert one.condition == text
    assert one.value == (None if value is None else pytest.approx(value))
    assert one.level == (None if level is None else pytest.approx(level))
    assert one.words == state(condition, progress()) == words
    assert one.met == condition(progress())


@pytest.mark.parametrize("text", ["plateau:patience=2", "crossing:val_loss=0.1", "gap:0.02", "swats"])
def test_before_there_is_anything_to_tell(text):
    (one,) = standings(parse_switch(text), Progress())
    assert one.value is None
    assert not one.met
    assert "no epoch finished yet" in one.words or "compared from step 2 on" in one.words


def test_odd_gammas():
    lost = progress(gammas=[2.0, math.nan], lambdas=[2.0, 2.0])
    assert "no gamma" in state(parse_switch("swats"), lost)
    climbing = progress(gammas=[-2.0, -1.0], lambdas=[-2.0, -1.0])
    assert state(parse_switch("swats:rtol=0.5"), climbing).endswith("and Lambda <= 0 is not a learning rate")


def test_joined_conditions_and_functions():
    condition = parse_switch("(step:90 | epoch:9) & gap:0.02 | swats")
    assert [str(one) for one in singles(condition)] == ["step:90", "epoch:9", "gap:0.02", "swats"]
    words = state(condition, progress())
    assert words == (
        "(step 40 of 90; or 3 of 9 epochs finished); and train_accuracy - val_accuracy = 0.0400, waits for 0.02; "
        "or gamma is 0.1 from Lambda = 1.4, waits for less than 1e-09"
    )

    def often(p: Progress) -> bool:
        return p.step > 3

    assert state(as_condition(often), progress()) == "<often> says yes"
    assert state(AfterSteps(90) | often, Progress()) == "step 0 of 90; or <often> says no"


def test_a_value_reaches_its_level_exactly_when_the_condition_is_met():
    rng = np.random.default_rng(0)
    for text in ("step:20", "epoch:2", "plateau:patience=2", "gap:0.01", "swats:rtol=0.3", "swats:rtol=0.2,window=3"):
        condition = parse_switch(text)
        for _ in range(200):
            n = int(rng.integers(1, 9))
            reports = [{name: float(rng.random()) for name in REPORTS[0]} for _ in range(int(rng.integers(0, 5)))]
            gammas, lambdas = rng.normal(1, 0.5, n).tolist(), rng.normal(1, 0.5, n).tolist()
            now = Progress(int(rng.integers(0, 40)), len(reports), reports, gammas, lambdas)
            (one,) = standings(condition, now)
            if one.value is None:
                reached = False
            elif text.startswith("swats"):
                reached = one.value < one.level and lambdas[-1] > 0
            else:
                reached = one.value >= one.level
            assert reached == one.met == condition(now)
