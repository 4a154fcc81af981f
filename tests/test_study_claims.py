"""What the report says in words, for numbers made up so that the right answer is known."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason='the extra "study" is not installed')

from minidl.study.analysis import Block, Entry, compare, correct
from minidl.study.claims import CLAIMS, answer, judge, listed, sentence
from minidl.study.contestants import CONTESTANTS
from minidl.study.results import Result
from minidl.study.statistics import holm, paired
from minidl.study.study import Tuned
from tests.tiny_study import TINY

SEEDS = range(10)


def results(level, noise=0.001, salt=0):
    """Ten runs around a test accuracy, with noise of their own and noise that belongs to the seed."""
    rng, shared = np.random.default_rng(salt), np.random.default_rng(99).normal(0, 0.01, len(SEEDS))
    measures = [
        {"test_accuracy": level + s + e, "test_loss": 1 - level, "gap": 0.1 + e}
        for s, e in zip(shared, rng.normal(0, noise, len(SEEDS)), strict=True)
    ]
    return tuple(Result(seed, {}, m, [], (1, 1.0)) for seed, m in zip(SEEDS, measures, strict=True))


def tuned(contestant, place=-1.0):
    point = (place, *contestant.space.start[0][1:])
    return Tuned([point], {point: (-0.9, 0.1)}, True)


def block(name="a regime", factor=-1.0, **levels):
    """A regime in which the contestants have these test accuracies, `adam_cut=0.97`."""
    by_key = {key.replace("_", "-"): level for key, level in levels.items()}
    entries = tuple(
        Entry(c, tuned(c, factor), results(by_key[c.key], salt=i), {})
        for i, c in enumerate(CONTESTANTS)
        if c.key in by_key
    )
    regime = TINY.regimes[0]
    return Block(type(regime)(**{**vars(regime), "name": name}), entries)


BETTER, SAME, WORSE = 0.95, 0.9701, 0.99  # of the cut, where the hybrid is at 0.97


def blocks(*cuts):
    return [block(f"regime {i}", hybrid=0.97, adam_cut=cut, adam=0.9, sgd=0.9) for i, cut in enumerate(cuts)]


@pytest.mark.parametrize(
    ("cuts", "first", "phrases"),
    [
        ((BETTER, BETTER), "No: the switch to SGD gives more", ["The switch ends higher than the cut for regime 0"]),
        ((SAME, SAME), "As far as these runs can tell, yes", ["the two can't be told apart for regime 0"]),
        ((WORSE, WORSE), "does not the same but more", ["The cut ends higher than the switch for regime 0"]),
        ((BETTER, SAME), "Not always: in 1 of 2 regimes", ["for regime 0", "told apart for regime 1"]),
        (
            (WORSE, SAME),
            "As far as these runs can tell, yes, and in 1 of 2 regimes it does more",
            ["The cut ends higher than the switch for regime 0"],
        ),
        ((BETTER, WORSE), "It depends: in 1 of 2 regimes", ["in 1 it gives less", "cut ends higher"]),
    ],
)
def test_the_first_paragraph_says_what_the_numbers_say(cuts, first, phrases):
    lines = answer(blocks(*cuts))
    assert first in lines[0]
    for phrase in phrases:
        assert phrase in " ".join(lines)
    assert "higher test accuracy than a constant rate for both regimes" in lines[-1]


def test_a_cut_that_does_not_help_is_said_not_to():
    lines = answer([block(hybrid=0.97, adam_cut=0.9001, adam=0.9)])
    assert lines[-1] == "The cut alone gives Adam a higher test accuracy than a constant rate in no regime."


def test_a_cut_that_tuning_rejects_is_said_to_be_none():
    lines = answer([block(hybrid=0.97, adam_cut=0.9, adam=0.9, factor=0.0)])
    assert lines[-1].startswith("For the a regime tuning found no cut better than none")


def test_without_runs_nothing_is_claimed():
    assert "not done yet" in answer([block(hybrid=0.97)])[0]
    assert sentence([]) == "There are no results for it yet."


def test_verdicts_are_the_tests_with_holms_correction():
    found = block(hybrid=0.972, adam=0.97, sgd=0.9715, adam_cut=0.9725, sgd_cut=0.972)
    verdicts = [v for row in judge([found]) for v in row]
    assert len(verdicts) == 7  # the claims of which both sides take part
    raw = []
    for v in verdicts:
        a, b = (found.entry(key).values(v.claim.measure) for key in (v.claim.a, v.claim.b))
        raw.append(paired(a, b).p)
    assert [v.comparison.p for v in verdicts] == raw
    assert [v.comparison.p_holm for v in verdicts] == holm(raw)
    for v in verdicts:
        right_sign = v.comparison.difference.mean * v.claim.sign > 0
        word = "not shown" if v.comparison.p_holm >= 0.05 else "holds" if right_sign else "the opposite holds"
        assert v.word == word


def test_a_loss_that_is_smaller_is_a_claim_that_holds():
    """test_loss is 1 - level for every seed: the tailored hybrid's is smaller, and the claim says smaller."""
    row = next(row for row in judge(blocks(SAME)) if row and row[0].claim.measure == "test_loss")
    assert row[0].comparison.difference.mean < 0
    assert row[0].word == "holds"


def test_sentences():
    row = judge(blocks(BETTER, SAME, WORSE))[0]
    assert sentence(row) == (
        "It holds for the regime 0; the opposite holds for the regime 2; it is not shown for the regime 1."
    )
    assert sentence(judge(blocks(SAME, SAME))[0]) == "It is not shown in any regime."
    assert sentence(judge(blocks(BETTER, BETTER, BETTER))[0]) == "It holds for all 3 regimes."
    assert [listed(list("abc")), listed(["a"])] == ["a, b and c", "a"]


def test_only_seeds_that_both_have_are_compared():
    a, b = results(0.9), results(0.8, salt=1)
    assert compare(a[:6], b[3:], "test_accuracy").difference.n == 3
    assert compare(a[:1], b, "test_accuracy") is None
    assert correct([]) == []


def test_claims_name_contestants_and_measures_that_exist():
    keys = {c.key for c in CONTESTANTS}
    assert {c.a for c in CLAIMS} | {c.b for c in CLAIMS} <= keys
    assert {c.measure for c in CLAIMS} <= {"test_accuracy", "test_loss", "gap"}
