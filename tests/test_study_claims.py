"""What the report says in words, for numbers made up so that the right answer is known."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from minidl.study.analysis import (
    Block,
    Entry,
    Levels,
    _levels,
    _misses,
    _verdict,
    decided_before,
    difference,
    measured,
    tuned_again,
)
from minidl.study.claims import ACCURACY, BOTH, CLAIMS, GAP, LOSS, SPEED, TITLE, Claim, claims_for
from minidl.study.contestants import CONTESTANTS, Contestant
from minidl.study.regimes import Shows
from minidl.study.statistics import BETTER, EQUIVALENT, OPEN, WORSE, simultaneous
from minidl.study.tuning import Tuned
from minidl.study.words import answer, details, spelled, tally
from tests.tiny_study import TINY

SEEDS = range(20)
REGIME = replace(TINY.regimes[0], margin=0.002, train_images=100, epochs=10, batch_size=10)  # as record() has them
BY_KEY = {c.key: c for c in CONTESTANTS}
KEYS = list(BY_KEY)


def record(seed, accuracy, curve=(), loss=0.5):
    result = {"test_accuracy": accuracy, "test_loss": loss, "train_accuracy": 1.0, "val_accuracy": accuracy}
    run = {"seed": seed, "epochs": 10, "train_images": 100, "batch_size": 10}  # 100 steps
    return {"run": run, "result": {**result, "switch": None, "diverged": None, "curve": list(curve)}}


def entry(key, level, noise=0.0005):
    """Twenty runs around a test accuracy, with noise of their own and noise that belongs to the seed."""
    rng, shared = np.random.default_rng(len(key)), np.random.default_rng(99).normal(0, 0.01, len(SEEDS))
    own = rng.normal(0, noise, len(SEEDS))
    own -= own.mean()
    finals = {s: record(s, float(level + shared[s] + own[s])) for s in SEEDS}
    return Entry(BY_KEY[key], Tuned([()], [None], [], 0), (0.5,), (), finals, 0, len(finals))


def entries(noise, levels):
    return {key.replace("_", "-"): entry(key.replace("_", "-"), level, noise) for key, level in levels.items()}


def block(name="a regime", misses=(), noise=0.0005, **levels):
    """A regime in which the contestants have these test accuracies, `adam_cut=0.97`."""
    regime = replace(REGIME, name=name)
    verdicts = tuple(_verdict(claim, regime, found) for claim, found in differences(noise, **levels))
    return Block(regime, entries(noise, levels), Levels(None, None), misses, True, verdicts, {})


@cache  # half a second of resampling, for numbers that many tests share
def differences(noise, **levels):
    """The claims that can be judged in such a regime, each with its difference."""
    draft = Block(REGIME, entries(noise, levels), Levels(None, None), (), True, (), {})
    claims = [c for c in CLAIMS if c.measure == ACCURACY and {c.a, c.b} <= set(draft.entries)]
    (found,) = simultaneous([[difference(draft, claim) for claim in claims]])
    return list(zip(claims, found, strict=True))


CUTS = {BETTER: 0.95, EQUIVALENT: 0.97, WORSE: 0.99}  # of the cut, where the switch is at 0.97


def told(name, word):
    """A regime in which this is found of the title's question."""
    noise = 0.02 if word == OPEN else 0.0005
    return block(name, noise=noise, hybrid=0.97, adam=0.9, adam_cut=CUTS.get(word, 0.97))


@pytest.mark.parametrize(("word", "cut"), CUTS.items())
def test_the_word_of_a_claim(word, cut):
    assert block(hybrid=0.97, adam_cut=cut).word(TITLE) == word


def test_noise_hides_a_difference():
    noisy = block(hybrid=0.97, adam_cut=0.969)
    noisy.entries["hybrid"] = entry("hybrid", 0.97, noise=0.02)
    (found,) = simultaneous([[difference(noisy, TITLE)]])
    assert _verdict(TITLE, REGIME, found[0]).word == OPEN


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (
            (BETTER, BETTER, EQUIVALENT),
            "Mostly yes: switching from Adam to SGD did more than cutting Adam's learning rate",
        ),
        ((WORSE, EQUIVALENT, BETTER), "Mostly no: switching from Adam to SGD did no more"),
        ((BETTER, WORSE), "It depends: "),
        ((BETTER, BETTER), "Yes: switching"),
        ((EQUIVALENT,), "No: switching from Adam to SGD did no more"),
        ((BETTER, BETTER, OPEN), "Mostly yes: "),
        ((BETTER, OPEN), "Where these runs can tell, yes: "),
        ((WORSE, OPEN, OPEN), "Where these runs can tell, no: "),
        ((OPEN, OPEN), "These runs cannot tell whether "),
    ],
)
def test_the_answer_counts_the_regimes(words, first):
    blocks = [told(f"regime {i}", word) for i, word in enumerate(words)]
    found = answer(blocks, KEYS)
    assert len(found) == 3
    assert found[0].startswith(first)
    counts = tally(blocks, TITLE)
    assert {word: counts[word] for word in words} == {word: words.count(word) for word in words}
    assert spelled(counts) in found[0]
    every = f"better in all {len(words)} regimes" if len(words) > 1 else "better in the one regime"  # Adam is at 0.9
    assert f"the switch was {every}; the cut was {every}." in found[1]
    assert f"followed by a cosine was {spelled(tally(blocks, BOTH))}." in details(blocks)
    assert not details([])


def test_a_regime_that_is_not_what_it_claims_takes_no_part():
    good, bad = block("good", hybrid=0.97, adam_cut=0.99), block("bad", ("it is not",), hybrid=0.97, adam_cut=0.9)
    assert answer([good, bad], KEYS)[0] == answer([good], KEYS)[0]
    assert "in the one regime)" in answer([good, bad], KEYS)[0]
    assert "not done yet" in answer([bad], KEYS)[0]
    assert "not done yet" in answer([block(hybrid=0.9)], KEYS)[0]


def test_a_study_without_a_cut_does_not_wait_for_it():
    assert "does not ask" in answer([block(hybrid=0.97, adam=0.9)], ["hybrid", "adam"])[0]


def test_a_regime_whose_runs_go_on_takes_no_part():
    done, begun = block("done", hybrid=0.97, adam_cut=0.99), block("begun", hybrid=0.97, adam_cut=0.9)
    assert answer([done, replace(begun, complete=False)], KEYS) == answer([done], KEYS)
    assert "not done yet" in answer([replace(begun, complete=False)], KEYS)[0]


def test_a_cut_that_is_worse_than_none_is_no_control():
    failed = block("failed", hybrid=0.97, adam=0.97, adam_cut=0.9)
    fair = block("fair", hybrid=0.97, adam=0.9, adam_cut=0.95)
    assert "but in 1 the cut did worse than Adam without one" in answer([failed, fair], KEYS)[0]
    assert "no control" not in answer([fair], KEYS)[0]


def there_at(share, step):
    """A final run whose validation accuracy reaches 0.8 at that step of 100, and that switches at that share."""
    made = record(0, 0.97, [{"step": s, "val_accuracy": 0.8 * (s >= step)} for s in range(1, 101)])
    made["result"]["switch"] = {"step": round(100 * share), "lr": 0.1}
    return made


@pytest.mark.parametrize(("step", "early"), [(20, True), (31, False)])
def test_a_speed_that_was_decided_before_the_switch_is_told(step, early):
    """The switch comes at 30 % and the cut at 50 %."""
    claim = replace(TITLE, measure=SPEED)
    found = block(hybrid=0.97, adam_cut=0.97)
    for key, share in (("hybrid", 0.3), ("adam-cut", 0.5)):
        contestant = replace(BY_KEY[key], axes=(), fixed=(("at", share),))
        finals = {seed: there_at(share, step) for seed in SEEDS}
        found.entries[key] = replace(found.entries[key], contestant=contestant, finals=finals)
    found = replace(found, levels=Levels(0.8, None))
    assert decided_before(found, claim) is early
    (interval,) = simultaneous([[difference(found, claim)]])[0]
    found = replace(found, verdicts=(*found.verdicts, _verdict(claim, REGIME, interval)))
    said = "about as fast in the one regime (in the a regime most runs got there before the switch or the cut)"
    assert (said in details([found])) is early


def test_what_never_switched_is_adam_tuned_again():
    found = block(adam=0.95, swats=0.96, swats_tensor=0.93, hybrid=0.97, adam_cut=0.97)
    assert [(e.contestant.key, round(d, 2)) for e, d in tuned_again(found)] == [
        ("swats", 0.01),
        ("swats-tensor", -0.02),
    ]
    assert details([found]).endswith("it is Adam tuned again, and ended -2.01 to +1.00 points from Adam.")
    found.entries["swats-tensor"].finals[0]["result"]["switch"] = {"step": 5, "lr": 0.1}
    assert [e.contestant.key for e, _ in tuned_again(found)] == ["swats"]
    assert "measure of luck" not in details([block(adam=0.95, hybrid=0.97, adam_cut=0.97)])


def test_the_luck_of_tuning_is_the_estimate_of_the_claim():
    """The trimmed mean of the differences seed by seed, which is not that of one minus that of the other."""
    found = block(adam=0.95, swats_tensor=0.95, hybrid=0.97, adam_cut=0.97)
    for seed, change in zip(SEEDS, [0.05] * 5 + [0.0] * 15, strict=True):
        found.entries["swats-tensor"].finals[seed] = record(seed, 0.9 + seed / 1000 + change)
        found.entries["adam"].finals[seed] = record(seed, 0.9 + seed / 1000)
    ((_, luck),) = tuned_again(found)
    ((claim,),) = simultaneous([[difference(found, Claim("", "swats-tensor", "adam"))]])
    assert luck == claim.estimate == pytest.approx(0.05 / 12)


def test_equal_differences_are_equal_in_every_bit():
    """0.912 - 0.909 and 0.853 - 0.85 are 3 of 1,000 images both; neither says more than the range of all five."""
    found = block(hybrid=0.97, adam=0.97)
    pairs = [(0.912, 0.909), (0.853, 0.85), (0.633, 0.63), (0.88, 0.9), (0.931, 0.901)]
    for key, values in zip(("hybrid", "adam"), zip(*pairs, strict=True), strict=True):
        finals = {seed: record(seed, value) for seed, value in enumerate(values)}
        found.entries[key] = replace(found.entries[key], finals=finals)
    differences = difference(found, Claim("", "hybrid", "adam"))
    assert differences == [0.003, 0.003, 0.003, -0.02, 0.03]
    assert _verdict(TITLE, REGIME, simultaneous([[differences]])[0][0]).word == OPEN


def test_a_seed_that_is_missing_keeps_its_place():
    """Seeds are mixed alike for all comparisons of a regime: one of fewer seeds has NaN where the others have them."""
    found = block(hybrid=0.97, adam=0.95, sgd=0.9)
    del found.entries["adam"].finals[3], found.entries["adam"].finals[7]
    differences = difference(found, Claim("", "hybrid", "adam"))
    assert [i for i, d in enumerate(differences) if np.isnan(d)] == [3, 7]
    assert len(differences) == len(difference(found, Claim("", "hybrid", "sgd"))) == 20


@pytest.mark.extra("jinja2", "matplotlib")
def test_a_mean_of_fewer_seeds_says_so():
    from minidl.study.report import accuracy

    few = entry("adam", 0.9)
    del few.finals[19]
    assert accuracy(few).endswith(" (19 of 20 seeds)")
    assert accuracy(replace(few, collapsed=2)).endswith(" (2 collapsed, 19 of 20 seeds)")


@pytest.mark.extra("jinja2")
def test_a_bar_in_a_name_ends_no_cell():
    from minidl.study.report import markdown

    text = markdown([block("a | b", hybrid=0.97, adam=0.9, adam_cut=0.95)], KEYS)
    assert {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")} == {3}


def test_counts_in_words():
    assert spelled({BETTER: 2, EQUIVALENT: 1, WORSE: 0, OPEN: 2}) == (
        "better in 2 of 5 regimes, equivalent in 1, undecided in 2"
    )
    assert spelled({BETTER: 0, EQUIVALENT: 0, WORSE: 0, OPEN: 6}) == "undecided in all 6 regimes"
    assert spelled({BETTER: 1, EQUIVALENT: 0, WORSE: 0, OPEN: 0}, way=True) == "faster in the one regime"
    assert spelled(dict.fromkeys((BETTER, EQUIVALENT, WORSE, OPEN), 0)) == "not compared"


def test_the_answer_says_when_the_switch_came():
    early, late = block("early", hybrid=0.97, adam_cut=0.97), block("late", hybrid=0.97, adam_cut=0.97)
    steps = REGIME.steps
    for where, share, rate in ((early, 0.1, 0.03), (late, 0.6, 0.2)):
        for run in where.entries["hybrid"].finals.values():
            run["result"]["switch"] = {"step": round(share * steps), "lr": rate}
    assert "after 10 to 60 % of the run, with SGD's learning rate at 0.03 to 0.2." in answer([late, early], KEYS)[2]
    assert "after 10 % of the run, with SGD's learning rate at 0.03." in answer([early], KEYS)[2]


def test_what_a_regime_must_show_is_checked():
    adam = {"adam": entry("adam", 0.9), "sgd": entry("sgd", 0.9)}
    regime = replace(REGIME, shows=Shows(train=(0.99, 1.0), gap=(0.05, 0.2), test=(0.85, 1.0)))
    assert _misses(regime, adam) == []
    (first, second) = _misses(replace(regime, shows=Shows(gap=(0.2, 1.0))), adam)
    assert first.startswith("adam's gap is ")
    assert second.endswith(", not 20 to 100 points")


# ---- measures ----

CURVE = [
    {"step": 20, "val_accuracy": 0.5, "val_loss": 1.0, "train_loss": 1.0},
    {"step": 60, "val_accuracy": 0.9, "val_loss": 0.5, "train_loss": 0.1},
    {"step": 100, "val_accuracy": 0.8, "val_loss": 0.8, "train_loss": 0.01},
]


def test_measures_of_a_run():
    run = record(0, 0.9, CURVE, loss=0.5)
    assert measured(run, ACCURACY, Levels(None, None)) == 0.9
    assert measured(run, LOSS, Levels(None, None)) == pytest.approx(np.log(0.5))
    assert measured(run, SPEED, Levels(0.7, None)) == pytest.approx(0.4)  # step 40 of 100
    assert measured(run, SPEED, Levels(0.95, None)) == 1.0
    assert measured(run, GAP, Levels(None, 0.1)) == pytest.approx(np.log(0.5))
    assert np.isnan(measured(run, GAP, Levels(None, 0.001)))


def test_better_is_positive_for_every_measure():
    quick = [{**p, "val_accuracy": p["val_accuracy"] + 0.09, "val_loss": p["val_loss"] / 2} for p in CURVE]
    finals = {s: record(s, 0.95, quick, 0.4) for s in SEEDS}, {s: record(s, 0.9, CURVE) for s in SEEDS}
    a, b = (
        Entry(BY_KEY[key], Tuned([()], [None], [], 0), (), (), each, 0, len(SEEDS))
        for key, each in zip(("hybrid", "adam"), finals, strict=True)
    )
    both = Block(REGIME, {"hybrid": a, "adam": b}, Levels(0.7, 0.1), (), True, (), {})
    for measure in (ACCURACY, SPEED, GAP, LOSS):
        assert min(difference(both, Claim("", "hybrid", "adam", measure))) > 0
        assert max(difference(both, Claim("", "adam", "hybrid", measure))) < 0
    for level in (0.7, 0.89):  # at the second, a alone gets there; at the last, neither does: nothing is told
        assert min(difference(replace(both, levels=Levels(level, 0.1)), Claim("", "hybrid", "adam", SPEED))) > 0
    never = replace(both, levels=Levels(0.999, 0.1))
    assert np.isnan(difference(never, Claim("", "hybrid", "adam", SPEED))).all()
    rare = replace(both, levels=Levels(0.7, 0.005))
    assert np.isnan(difference(rare, Claim("", "hybrid", "adam", GAP))).all()


@pytest.mark.parametrize(("accuracy", "level"), [(0.9, 0.875), (0.3, 0.125), (0.27, None), (0.19, None)])
def test_a_level_that_guessing_reaches_is_none(accuracy, level):
    """At 0.19 the error of 0.81, and a quarter more, left an accuracy of -0.01: all were there from the start."""
    tuning = (record(1000, accuracy),)
    entries = {k: replace(entry(k, 0.9), tuning=tuning) for k in ("hybrid", "adam")}
    claim = Claim("", "hybrid", "adam", SPEED)
    found = _levels(entries, [claim], guessing=0.1)
    assert found.accuracy == (None if level is None else pytest.approx(level))
    both = Block(REGIME, {k: replace(e, finals={s: record(s, 0.3, CURVE) for s in SEEDS}) for k, e in entries.items()},
                 found, (), True, (), {})  # fmt: skip
    assert np.isnan(difference(both, claim)).all() == (level is None)


def test_a_tuning_run_that_diverged_makes_no_training_loss_to_compare_at():
    """Its last loss is no number: all would be compared at their first look, as if their losses were equal there."""
    lost, whole = record(1000, 0.1, [{"step": 100, "train_loss": 1.8e308}]), record(1000, 0.9, CURVE)
    lost["result"]["diverged"] = "training diverged"
    hybrid, adam = (replace(entry(k, 0.9), tuning=(whole,)) for k in ("hybrid", "adam"))
    claim = Claim("", "hybrid", "adam", GAP)
    for runs, level in (((lost, whole), 0.01), ((lost,), 0.01)):
        entries = {"hybrid": hybrid, "adam": replace(adam, tuning=runs)}
        assert _levels(entries, [claim], guessing=0.1).train_loss == level
    nobody = {k: replace(e, tuning=(lost,)) for k, e in (("hybrid", hybrid), ("adam", adam))}
    levels = _levels(nobody, [claim], guessing=0.1)
    assert levels.train_loss is None
    assert np.isnan(measured(whole, GAP, levels))


def test_an_optimizer_of_ones_own_moves_no_level():
    """One that learns nothing would bring the level of speed down for all the others."""
    own = Contestant("own", "mine", "own", (), ())
    entries = {k: replace(entry(k, 0.9), tuning=(record(1000, 0.9),)) for k in ("hybrid", "adam")}
    entries["own"] = replace(entries["adam"], contestant=own, tuning=(record(1000, 0.2),))
    claims = [Claim("", "hybrid", "adam", SPEED), Claim("", "own", "adam", SPEED)]
    assert _levels(entries, claims, guessing=0.1).accuracy == pytest.approx(0.875)


def test_an_optimizer_of_ones_own_has_claims():
    lion = Contestant("lion", "Lion", "own", (), ())
    found = claims_for([BY_KEY["adam"], BY_KEY["hybrid"], lion])
    assert {(c.a, c.b, c.measure) for c in found if c.a == "lion"} == {
        ("lion", "adam", ACCURACY), ("lion", "hybrid", ACCURACY), ("lion", "adam", SPEED), ("lion", "adam", LOSS)
    }  # fmt: skip
    assert all({c.a, c.b} <= {"adam", "hybrid", "lion"} for c in found)


def test_every_claim_is_about_somebody():
    keys = {c.key for c in CONTESTANTS}
    assert all({c.a, c.b} <= keys and c.a != c.b for c in CLAIMS)
    assert len({(c.a, c.b, c.measure) for c in CLAIMS}) == len(CLAIMS)


# ---- the picture of the claims ----


def test_what_lies_beyond_the_axis_is_an_arrowhead_and_no_point():
    figures = pytest.importorskip("minidl.study.figures")
    intervals = [(0.0005, -0.001, 0.002)] * 8 + [(0.3, 0.25, 0.35), (0.0, -0.4, 0.001)]
    claim, regime = SimpleNamespace(margin=lambda regime: 0.001), SimpleNamespace(name="a regime")
    verdicts = [
        SimpleNamespace(interval=SimpleNamespace(estimate=e, low=low, high=high), word=OPEN, regime=regime, claim=claim)
        for e, low, high in intervals
    ]
    (ax,) = figures.differences(verdicts, "points").axes
    points = [(line.get_marker(), *line.get_xydata()[0]) for line in ax.lines if len(line.get_xydata()) == 1]
    drawn = {kind: [[x, y] for marker, x, y in points if marker == kind] for kind in "o<>"}
    assert [x for x, _ in drawn["o"]] == pytest.approx([0.0] + [0.05] * 8), "rows from the bottom up"
    assert [y for _, y in drawn["o"]] == [0, *range(2, 10)]
    assert drawn[">"] == [[pytest.approx(0.3), 1]]
    assert drawn["<"] == [[pytest.approx(-0.3), 0]]
    assert ax.get_xlabel() == "points; arrowheads: beyond the axis"
    (ax,) = figures.differences(verdicts[:8], "points").axes
    assert ax.get_xlabel() == "points"
