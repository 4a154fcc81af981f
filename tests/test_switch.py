"""The switch conditions, and the text form that `--switch` takes."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.optim import (
    AfterEpochs,
    AfterSteps,
    AllOf,
    AnyOf,
    Crossing,
    Gap,
    Plateau,
    Progress,
    Projected,
    SwitchError,
    parse_switch,
)
from minidl.optim.switch import Function
from minidl.optim.switch_text import METRICS


def after(**metrics):
    """The progress after as many epochs as there are values: after(val_loss=[3, 2])."""
    reports = [dict(zip(metrics, row, strict=True)) for row in zip(*metrics.values(), strict=True)]
    return Progress(step=100 * len(reports), epoch=len(reports), reports=reports)


# ---- what they mean ----


def test_after_steps_and_epochs():
    assert [AfterSteps(3)(Progress(step=n)) for n in (2, 3, 4)] == [False, True, True]
    assert [AfterEpochs(2)(Progress(epoch=n)) for n in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize(
    ("condition", "values", "met_after"),
    [
        (Plateau(patience=1), [3, 2, 2], 3),
        (Plateau(patience=2), [3, 2, 2.5, 1, 2, 2], 6),
        (Plateau(patience=2), [3, 4, 5], 3),
        (Plateau(patience=1), [3, 2, 1], None),
        (Plateau(patience=1, min_delta=0.5), [3, 2, 1.6], 3),
        (Plateau(patience=2, min_delta=0.5), [3, 2.6, 2.2, 1.8], None),  # small gains add up to one that counts
        (Plateau("val_accuracy", patience=1), [0.1, 0.2, 0.2], 3),
        (Plateau("val_accuracy", patience=1), [0.1, 0.2, 0.3], None),
        (Plateau(patience=2), [1, math.nan, math.nan], 3),
        (Crossing("val_accuracy", 0.9), [0.8, 0.9, 0.7], 2),
        (Crossing("val_loss", 0.5), [0.8, 0.5], 2),
        (Crossing("val_loss", 0.5), [0.8, 0.6], None),
        (Crossing("val_accuracy", 0.9), [math.nan], None),
    ],
)
def test_condition_on_one_metric(condition, values, met_after):
    metric = condition.metric
    met = [n for n in range(len(values) + 1) if condition(after(**{metric: values[:n]}))]
    assert (met[0] if met else None) == met_after


def test_gap():
    assert not Gap(0.25)(Progress())
    assert Gap(0.25)(after(train_accuracy=[0.5, 1.0], val_accuracy=[0.5, 0.75]))
    assert not Gap(0.25)(after(train_accuracy=[1.0, 0.75], val_accuracy=[0.5, 1.0]))


def test_projected_absolute_and_relative():
    def at(*gammas, lam):
        return Progress(gammas=gammas, lambdas=[lam] * len(gammas))

    assert Projected()(at(1.0, 2.0, lam=2.0 + 9e-10))
    assert not Projected()(at(1.0, 2.0, lam=2.0 + 2e-9))
    assert Projected(eps=1e-6)(at(1.0, 2.0, lam=2.0 + 9e-7))
    assert Projected(rtol=0.01)(at(100.0, 2.0, lam=2.01))
    assert not Projected(rtol=0.01)(at(100.0, 2.0, lam=2.1))
    assert not Projected()(at(2.0, lam=2.0)), "step 1: gamma is Lambda by definition"
    assert not Projected()(Progress())
    assert not Projected(rtol=0.5)(at(-2.0, -2.0, lam=-2.0)), "a negative rate would climb"
    assert not Projected(rtol=0.5)(at(2.0, math.nan, lam=2.0)), "a step without a gamma"
    assert Projected(rtol=0.01, window=2)(at(9.0, 9.0, 1.0, 3.0, lam=2.0))
    assert not Projected(rtol=0.01, window=2)(at(1.0, 3.0, lam=2.0)), "Lambda has seen nothing but the window"
    assert not Projected(rtol=0.01, window=2)(at(9.0, 9.0, 1.0, 2.0, lam=2.0))


def test_joining_with_functions():
    condition = (lambda p: p.step > 5) | AfterEpochs(1)
    assert condition(Progress(step=6))
    assert condition(Progress(epoch=1))
    assert not condition(Progress(step=5))
    line = test_joining_with_functions.__code__.co_firstlineno + 1
    assert str(condition) == f"<lambda in line {line} of test_switch.py> | epoch:1"
    both = AfterEpochs(1) & (lambda p: p.step > 5)
    assert both(Progress(step=6, epoch=1))
    assert not both(Progress(step=6))
    assert isinstance((AfterSteps(1) | abs).parts[1], Function)
    with pytest.raises(TypeError, match="parse_switch"):
        AfterSteps(1) | "epoch:1"


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: a or b,
        lambda a, b: a and b,
        lambda a, b: not a,
        lambda a, b: (a | b) and a,
        lambda a, b: 1 if a else 2,
    ],
)
def test_python_s_own_or_and_not_would_choose_one_condition_silently(join):
    with pytest.raises(TypeError, match=r"join conditions with \| and &, not `or` and `and`"):
        join(Plateau(patience=2), AfterEpochs(6))


def test_a_condition_that_nobody_asked_is_not_true():
    """A class, or a function that returns a condition, was met after the first step."""
    for wrong in (Plateau, Gap):
        with pytest.raises(TypeError, match=rf"is the class {wrong.__name__} itself: write {wrong.__name__}\("):
            AfterSteps(3) | wrong
    unasked = AfterSteps(3) | (lambda progress: Plateau(patience=2))
    with pytest.raises(TypeError, match=r"in a function call them, condition\(progress\)"):
        unasked(Progress(step=1))


def test_joins_flatten_and_reason_names_what_is_met():
    a, b, c = AfterSteps(1), AfterEpochs(1), Gap(0.5)
    assert (a | b) | c == a | (b | c) == AnyOf((a, b, c))
    assert (a & b) & c == AllOf((a, b, c))
    assert (a | b) & c != a | (b & c)
    assert (a | b).reason(Progress(step=1)) == "step:1"
    assert (a | b).reason(Progress(step=1, epoch=1)) == "step:1 | epoch:1"


def test_only_those_that_read_gamma_ask_for_it():
    assert not (AfterSteps(1) | Plateau()).needs_projection
    assert (AfterSteps(1) & (AfterEpochs(1) | Projected())).needs_projection
    assert (AfterSteps(1) | (lambda p: True)).needs_projection


def test_unknown_metric_names_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'val_loss'"):
        Plateau("val_los")(after(val_loss=[1.0]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: AfterSteps(0),
        lambda: AfterSteps(1.5),
        lambda: AfterEpochs(-1),
        lambda: Plateau(patience=0),
        lambda: AfterSteps(True),
        lambda: Plateau(patience=2.5),
        lambda: Plateau(patience=True),
        lambda: Projected(window=1.5),
        lambda: Plateau(min_delta=-0.1),
        lambda: Plateau(min_delta=math.nan),
        lambda: Crossing("val_loss", math.nan),
        lambda: Gap(math.inf),
        lambda: Projected(eps=0.0),
        lambda: Projected(eps=1e-9, rtol=1e-3),
        lambda: Projected(rtol=math.nan),
        lambda: Projected(window=0),
        lambda: AnyOf((AfterSteps(1),)),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="got"):
        make()


def test_numpys_whole_numbers_are_whole_numbers():
    assert str(AfterSteps(np.int64(5)) | AfterEpochs(np.uint8(2))) == "step:5 | epoch:2"
    assert Plateau(patience=np.int32(3), min_delta=np.float64(0.5)) == Plateau(patience=3, min_delta=0.5)
    assert str(Plateau(min_delta=np.float64(0.5))) == "plateau:patience=2,min_delta=0.5"


# ---- the text form ----

positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
level = st.floats(allow_infinity=False, allow_nan=False)
count = st.integers(1, 10**9)
metric = st.sampled_from(METRICS)
single = st.one_of(
    st.builds(AfterSteps, count),
    st.builds(AfterEpochs, count),
    st.builds(Plateau, metric, count, positive | st.just(0.0)),
    st.builds(Crossing, metric, level),
    st.builds(Gap, level),
    st.builds(Projected, eps=positive, window=count),
    st.builds(Projected, rtol=positive, window=count),
    st.builds(Projected),
)
several = lambda parts: st.lists(parts, min_size=2, max_size=3).map(tuple)  # noqa: E731
conditions = st.recursive(single, lambda c: st.builds(AnyOf, several(c)) | st.builds(AllOf, several(c)))


@given(conditions)
def test_every_condition_parses_back_to_an_equal_one(condition):
    assert parse_switch(str(condition)) == condition


@given(st.text("stepochlauwrgm:=,.|&() \n19-e", max_size=30))
def test_any_text_is_a_condition_or_a_switch_error(text):
    try:
        condition = parse_switch(text)
    except SwitchError:
        with pytest.raises(SwitchError) as caught:
            parse_switch(text)
        first, second = str(caught.value).split("\n")
        assert len(first) == len(text)
        assert second.index("^") == caught.value.position - 1 <= len(text)
    else:
        assert parse_switch(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("step:1000", AfterSteps(1000)),
        ("epoch:3", AfterEpochs(3)),
        ("plateau", Plateau()),
        ("plateau:patience=3", Plateau(patience=3)),
        (
            "plateau:metric=val_accuracy,patience=3,min_delta=0.001",
            Plateau("val_accuracy", 3, 0.001),
        ),
        ("swats", Projected(eps=1e-9)),
        ("swats:rtol=1e-3", Projected(rtol=1e-3)),
        ("swats:eps=1e-6,window=5", Projected(eps=1e-6, window=5)),
        ("gap:0.02", Gap(0.02)),
        ("crossing:val_accuracy=0.97", Crossing("val_accuracy", 0.97)),
        ("step:1|epoch:2&gap:0.5", AfterSteps(1) | (AfterEpochs(2) & Gap(0.5))),
        (" ( step:1 | epoch:2 ) & gap:0.5 ", (AfterSteps(1) | AfterEpochs(2)) & Gap(0.5)),
    ],
)
def test_text(text, condition):
    assert parse_switch(text) == condition


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected a condition, such as step:1000"),
        ("plateu:patience=2", 1, "unknown condition 'plateu': did you mean 'plateau'?"),
        ("epoch:2 | stp:3", 11, "did you mean 'step'"),
        ("xyz", 1, "choose from step, epoch"),
        ("step", 1, "'step' needs a number: step:1000"),
        ("step:", 6, "expected a value for 'step'"),
        ("step:ten", 6, "expected a whole number, got 'ten'"),
        ("step:1.5", 6, "expected a whole number"),
        ("step:0", 1, "must be a whole number >= 1, got 0"),
        ("gap:nan", 5, "expected a finite number"),
        ("plateau:patence=2", 9, "did you mean 'patience'"),
        ("plateau:2", 9, "expected key=value"),
        ("plateau:patience=", 18, "expected a value for 'patience'"),
        ("plateau:metric=val_acuracy", 16, r"unknown metric 'val_acuracy': did you mean 'val_accuracy'\?$"),
        ("plateau:patience=2,patience=3", 20, "'patience' is given twice"),
        ("crossing:val_acc=0.9", 10, "did you mean 'val_accuracy'"),
        ("crossing:val_loss=1,val_accuracy=1", 1, "one metric and its level"),
        ("crossing", 1, "one metric and its level"),
        ("swats:eps=1e-3,rtol=1e-3", 1, "eps or rtol, not both"),
        ("(step:1", 8, r"expected \) or \| or &"),
        ("step:1)", 7, r"expected \| or & or the end"),
        ("step:1 epoch:2", 8, r"expected \| or & or the end"),
        ("step:1 |", 9, "expected a condition"),
        ("step:1 & | epoch:2", 10, "expected a condition"),
    ],
)
def test_error_shows_the_place(text, column, message):
    with pytest.raises(SwitchError, match=message) as caught:
        parse_switch(text)
    first, second = str(caught.value).split("\n")
    assert first == text
    assert second.startswith(" " * (column - 1) + f"^ position {column}: ")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is SwitchError
    assert (str(again), again.text, again.at, again.position) == (str(caught.value), text, column - 1, column)
    assert second.endswith(again.reason)
