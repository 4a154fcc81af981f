"""The study's parts: fair tuning, recipes, runs, the store, maps, and what happens when runs or processes die."""

import gzip
import json
import math
import os
import platform
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from minidl.data import load_mnist
from minidl.data.idx import DataError
from minidl.data.proof import signed
from minidl.data.splits import Examples, split
from minidl.optim import SGD, AfterSteps, Hybrid
from minidl.optim.average import AveragedAdam
from minidl.study import curve, runs, tuning
from minidl.study.check import check
from minidl.study.contestants import CONTESTANTS, SMALL, make_optimizer
from minidl.study.execute import execute, run_study
from minidl.study.made import NAMES, differing, has_pins, identity, made, pinned, pins, sources, to_be_made
from minidl.study.own import with_own
from minidl.study.pool import LocalPool, carry_out
from minidl.study.provenance import _processor
from minidl.study.results import _row, write_tables
from minidl.study.runs import mislabel, perform, trial_of
from minidl.study.store import PACK, Store
from minidl.study.studies import STUDIES
from minidl.study.study import open_plan
from minidl.tensor import Tensor
from minidl.training.models import build_model
from minidl.training.search import Log, Remainder, draw
from tests.tiny_study import MAP, TINY

# ---- tuning ----


def test_an_axis_is_even_on_its_scale():
    assert [Log("lr", 1e-4, 1e-2).value(u) for u in (0, 0.5, 1)] == [1e-4, 1e-3, 1e-2]
    assert [Remainder("momentum", 0, 0.99).value(u) for u in (0, 0.5, 1)] == pytest.approx([0, 0.9, 0.99])
    for bad in ((0, 1), (1, 0.1), (-1, 1), (1, math.inf)):
        with pytest.raises(ValueError, match="0 < low < high"):
            Log("lr", *bad)
    with pytest.raises(ValueError, match="high < 1"):
        Remainder("momentum", 0.5, 1)


def test_places_are_drawn_evenly_and_shared_along_an_axis_in_common():
    lr, at = Log("lr", 1e-4, 1), Log("at", 0.01, 1)
    points = draw((lr, at), 2000, seed=1)
    for column in zip(*points, strict=True):  # Kolmogorov and Smirnov's distance from a flat distribution: 1.63/sqrt(n)
        assert np.abs(np.sort(column) - np.arange(1, 2001) / 2000).max() < 1.63 / math.sqrt(2000)
    assert abs(np.corrcoef(np.array(points).T)[0, 1]) < 0.08
    assert [p[0] for p in draw((Log("lr", 1, 10),), 2000, seed=1)] == [p[0] for p in points]
    assert [p[1] for p in draw((at, lr), 2000, seed=1)] == [p[0] for p in points]
    assert draw((lr,), 5, seed=2) != draw((lr,), 5, seed=1)


@pytest.mark.parametrize("preset", STUDIES.values(), ids=lambda s: s.name)
def test_every_contestant_of_a_preset_tries_equally_many_different_settings(preset):
    count = preset.rounds[0][0]
    for contestant in preset.contestants:
        recipes = [json.dumps(contestant.recipe(p), sort_keys=True) for p in draw(contestant.axes, count, 1)]
        assert len(set(recipes)) == count
        assert all(
            v <= 0.5 for p in draw(contestant.axes, 50, 1) for k, v in contestant.recipe(p).items() if k == "factor"
        )


def test_the_published_study_has_the_size_that_its_plan_says():
    paper = STUDIES["paper"]
    assert paper.rounds == ((20, 1), (5, 3))
    assert len(paper.seeds) == 20
    assert paper.pinned
    runs_of = {r.name: paper.runs_of(r) for r in paper.regimes}
    text = (Path(__file__).parents[1] / "tutorials/study/PLAN.md").read_text()
    for name, count in runs_of.items():
        row = next(line for line in text.split("## Cost")[1].splitlines() if line.startswith(f"| {name}"))
        assert f"| {count:,} |" in row
    assert f"| {sum(runs_of.values()):,} |" in text
    assert {c.key for c in paper.taking_part(paper.regimes[-1])} == set(SMALL)


POINTS = [(float(i),) for i in range(6)]


def stand(known, rounds=((6, 1), (3, 2), (1, 3))):
    """Where the tuning stands if a setting's rank is known for so many seeds: {setting: [rank with 1 seed, ...]}."""
    return tuning.tune(POINTS, rounds, lambda i, n: known.get(i, [])[n - 1] if len(known.get(i, [])) >= n else None)


def test_the_better_ones_get_more_seeds_and_the_best_of_those_wins():
    one = {i: [(-accuracy, 0.0)] for i, accuracy in enumerate((0.1, 0.9, 0.8, 0.7, 0.2, 0.3))}
    first = stand(one)
    assert not first.finished
    assert first.needed == [(i, 1) for i in range(6)] + [(1, 2), (2, 2), (3, 2)]
    two = one | {1: [(-0.9, 0.0), (-0.5, 0.0)], 2: [(-0.8, 0.0), (-0.8, 0.0)], 3: [(-0.7, 0.0), (-0.85, 0.0)]}
    assert stand(two).needed[-1] == (3, 3)
    done = stand(two | {3: [*two[3], (-0.84, 0.0)]})
    assert (done.finished, done.winner) == (True, (3.0,))


def test_who_has_nothing_to_tune_has_tuning_runs_for_the_levels(digits, tmp_path):
    """Without them the training loss to compare at was infinite, and all were equivalent at the first look."""
    fixed = (("opt", "adam"), ("lr", 0.001))
    adam = replace(next(c for c in TINY.contestants if c.key == "adam"), fixed=fixed, axes=())
    plan = open_plan(replace(TINY, contestants=(adam,), regimes=TINY.regimes[:1]), digits, tmp_path)
    runs = plan.known_runs(plan.study.regimes[0], adam)
    assert [run.seed for run in runs if not run.final] == [1000]
    plan.given_up = {run.key for run in runs}
    seeds = [run.seed for run in plan.known_runs(plan.study.regimes[0], adam)]
    assert seeds == [1000, 1001, 0, 1, 2]
    assert plan.study.runs_of(plan.study.regimes[0]) == len(seeds)


def test_nothing_is_chosen_before_all_results_are_known():
    found = stand({0: [(-0.5, 0.0)]})
    assert (found.finished, len(found.needed)) == (False, 6)


def test_winners_in_the_outer_tenth_are_told():
    axes = (Log("lr", 1e-4, 1), Log("at", 0.01, 1))
    assert tuning.edges(axes, (0.05, 0.5)) == ["lr"]
    assert tuning.edges(axes, (0.1, 0.9)) == []
    assert tuning.edges(axes, (0.95, 0.01)) == ["lr", "at"]


def test_a_setting_with_a_collapsed_run_is_not_chosen(digits, tmp_path):
    """The best mean has one dead run among its seeds: the other one wins, and an all-dead field still has a winner."""
    plan = open_plan(replace(TINY, rounds=((3, 2),)), digits, tmp_path)
    regime, adam = replace(TINY.regimes[0], floor=0.5, map=None), next(c for c in TINY.contestants if c.key == "adam")
    for i, accuracies in enumerate([(0.99, 0.3), (0.6, 0.61), (0.55, 0.9)]):
        recipe = adam.recipe(plan.tuned(regime, adam).points[i])
        for run, accuracy in zip(plan.tuning_runs(regime, recipe, 2), accuracies, strict=True):
            plan.store.put(run, record_of(run, val_accuracy=accuracy))
    assert plan.tuned(regime, adam).best == 2
    assert plan.tuned(replace(regime, floor=0.99), adam).best == 2


def record_of(run, **result):
    """A made-up record of a run."""
    found = {
        "steps": 1,
        "diverged": None,
        "switch": None,
        "val_accuracy": 0.5,
        "val_loss": 1.0,
        "weights": "0",
        "curve": [{"step": 1, "val_accuracy": 0.5, "val_loss": 1.0, "train_loss": 1.0, "lr": 0.1}],
    }
    if run.final:
        found |= {f"{part}_{what}": 0.5 for part in ("train", "test") for what in ("accuracy", "loss")}
    times = {"cpu_seconds": 1.0, "seconds": 1.0, "curve": []}
    return {"run": asdict(run), "result": found | result, "times": times, "made": made()}


# ---- recipes ----


def train_steps(recipe, steps=10):
    """The weights after each step, and the optimizer; gradients are drawn by a seed."""
    model = build_model("linear", (4, 4), 3)
    optimizer = make_optimizer(recipe, model.parameters(), steps, steps_per_epoch=5)
    rng, path, rates = np.random.default_rng(0), [], []
    for _ in range(steps):
        rates.append(optimizer.lr)
        for p in model.parameters():
            p.grad = Tensor(rng.normal(0, 1, p.shape).astype(np.float32)).data
        optimizer.step()
        path.append(optimizer.flat.w.copy())
    return np.array(path), rates, optimizer


def test_a_cut_changes_the_rate_and_nothing_else():
    adam, _, _ = train_steps({"opt": "adam", "lr": 0.01})
    cut, rates, optimizer = train_steps({"opt": "adam", "lr": 0.01, "at": 0.4, "factor": 0.1})
    np.testing.assert_array_equal(cut[:4], adam[:4])
    np.testing.assert_allclose(np.diff(cut[3:], axis=0), 0.1 * np.diff(adam[3:], axis=0), rtol=1e-3, atol=1e-7)
    assert rates == [0.01] * 4 + [0.001] * 6
    assert optimizer.t == 10  # its averages went on


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("linear", [0.01 - 0.001 * k for k in range(10)]), ("exponential:gamma=0.5", [0.01] * 5 + [0.005] * 5)],
)
def test_a_recipe_may_have_any_schedule_of_the_command_line(schedule, rates):
    assert train_steps({"opt": "adam", "lr": 0.01, "schedule": schedule})[1] == pytest.approx(rates)
    cycled = {"opt": "adam", "lr": 0.01, "betas": (0.7, 0.9), "schedule": "onecycle"}
    assert train_steps(cycled)[1][9] == pytest.approx(4e-8)


def test_a_moment_in_per_cent_is_refused():
    with pytest.raises(ValueError, match="a moment is a share of the run, from 0 to 1, got 40"):
        train_steps({"opt": "adam", "lr": 0.01, "at": 40, "factor": 0.1})


def test_hybrid_and_its_mirror_switch_at_the_same_step():
    hybrid, rates, there = train_steps({"opt": "hybrid", "lr": 0.01, "lr_sgd": 0.1, "momentum": 0.9, "at": 0.4})
    _, _, back = train_steps({"opt": "sgd-adam", "lr": 0.1, "momentum": 0.9, "lr_after": 0.01, "at": 0.4})
    assert there.switch_event.step == back.switch_event.step == 4
    assert (there.phase, back.phase) == ("sgd", "adam")
    assert rates == [0.01] * 4 + [0.1] * 6
    np.testing.assert_array_equal(hybrid[:4], train_steps({"opt": "adam", "lr": 0.01})[0][:4])


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda c: c.key)
def test_every_contestant_can_be_built_and_moves(contestant):
    path, _, _ = train_steps(contestant.recipe((0.5,) * len(contestant.axes)))
    assert np.isfinite(path).all()
    assert (np.diff(path, axis=0) != 0).any(axis=1).all()


# ---- a run ----


@pytest.fixture(scope="module")
def digits():
    return load_mnist(name="mnist5k")


@pytest.fixture
def plan(tmp_path, digits):
    return open_plan(TINY, digits, tmp_path / "study")


def some_run(plan, final=True, **recipe):
    return plan.run(TINY.regimes[0], recipe or {"opt": "adam", "lr": 1e-3}, 0, final)


def test_the_key_is_all_that_decides_a_run(plan):
    run = some_run(plan)
    other = {
        "sha256": "0", "train_images": 1, "val_images": 1, "epochs": 1, "batch_size": 1, "filters": (1,), "hidden": (),
        "recipe": (("lr", 1e-4), ("opt", "adam")), "seed": 1, "final": False, "looks": 1, "wrong_labels": 0.2,
        "network": "a.py:Net",
    }  # fmt: skip
    keys = {replace(run, **{name: value}).key for name, value in other.items()}
    assert len(keys | {run.key}) == len(other) + 1
    assert replace(run, dataset="elsewhere").key == run.key
    own = replace(run, network="/here/a.py:Net", code=(("/here/a.py:Net", "1" * 64),))
    moved = replace(run, network="/there/b.py:Net", code=(("/there/b.py:Net", "1" * 64),))
    edited = replace(own, code=(("/here/a.py:Net", "2" * 64),))
    assert own.key == moved.key != edited.key
    assert trial_of(json.loads(json.dumps(asdict(run)))) == run


def test_a_run_repeats_bit_for_bit(plan):
    run = some_run(plan, opt="hybrid", lr=1e-3, lr_sgd=0.01, at=0.4)
    first, second = perform(run), perform(run)
    assert first["result"] == second["result"]
    assert first["result"]["switch"] == {"step": 12, "lr": 0.01}
    assert [look["step"] for look in first["result"]["curve"]] == [6, 12, 18, 24, 30]


def test_the_test_split_is_read_once_in_a_final_run_and_never_in_tuning(plan, digits, monkeypatch):
    read = []
    evaluate = runs.evaluate

    def spy(model, examples):
        read.append(len(examples))
        return evaluate(model, examples)

    monkeypatch.setattr(runs, "evaluate", spy)
    perform(some_run(plan, final=False))
    assert read == [200]  # the validation split, once
    read.clear()
    perform(some_run(plan))
    assert read.count(len(digits.test_labels)) == 1
    assert read[-1] == len(digits.test_labels)


def test_training_and_validation_examples_do_not_overlap(digits):
    marked = replace(digits, train_images=digits.train_images.copy())
    marked.train_images[:, 0, :2] = np.stack(np.divmod(np.arange(4000), 256), 1)  # each image carries its number
    splits = split(marked, seed=5, counts=(3_000, 1_000))
    numbers = [{(int(i[0, 0]), int(i[0, 1])) for i in part.images} for part in (splits.train, splits.val)]
    assert [len(n) for n in numbers] == [3_000, 1_000]
    assert not numbers[0] & numbers[1]
    with pytest.raises(DataError, match="4,000 training images in all"):
        split(digits, counts=(3_900, 200))
    for wrong in ((-5, 20), (0, 10), (10, -1)):
        with pytest.raises(DataError, match=rf"counts=\({wrong[0]}, {wrong[1]}\): at least 1 image to train on"):
            split(digits, counts=wrong)
    assert (len(split(digits, counts=(1, 0)).train), len(split(digits, counts=(1, 0)).val)) == (1, 0)
    with pytest.raises(DataError, match=r"must be in \[0, 1\), got nan"):
        split(digits, math.nan)


def test_a_run_that_diverges_is_a_result(plan):
    result = perform(some_run(plan, opt="momentum", lr=1e20))["result"]
    assert "diverged at step" in result["diverged"]
    assert (result["test_accuracy"], result["test_loss"]) == (0.1, pytest.approx(math.log(10), rel=1e-5))
    json.dumps(result, allow_nan=False)


def test_a_run_whose_last_step_spoils_the_weights_has_diverged_too(plan, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom minidl.optim import Rule\n"
        "class Last(Rule):\n"
        "    name = 'last'\n"
        "    def rule(self, g, p, lr):\n"
        "        p[...] = -lr * g if self.t < 30 else np.nan\n"
    )
    result = perform(some_run(plan, opt=f"{tmp_path / 'mine.py'}:Last", lr=0.1))["result"]
    assert result["diverged"] == "training diverged at step 30: the loss after it is not finite"
    assert {result[f"{part}_accuracy"] for part in ("val", "train", "test")} == {0.1}
    assert {result[f"{part}_loss"] for part in ("val", "train", "test")} == {2.30259}


def test_other_data_are_refused(plan):
    with pytest.raises(DataError, match="is not the study's"):
        perform(replace(some_run(plan), sha256="0" * 64))


def test_a_fifth_of_the_labels_is_wrong_and_no_other(digits):
    labels = (np.arange(1000) % 10).astype(np.uint8)
    found = mislabel(Examples(np.zeros((1000, 1, 1)), labels), 0.2, 10, np.random.default_rng(0)).labels
    wrong = found != labels
    assert wrong.sum() == 200
    assert found.dtype == labels.dtype
    moves = np.bincount((found[wrong].astype(int) - labels[wrong]) % 10, minlength=10)
    assert moves[0] == 0
    assert moves[1:].min() > 8
    assert (labels == np.arange(1000) % 10).all()


def test_wrong_labels_are_in_training_and_validation_and_never_in_the_test(plan, digits):
    run = replace(some_run(plan), wrong_labels=0.2)
    clean, noisy = (runs.draw_splits(replace(run, wrong_labels=share), digits) for share in (0.0, 0.2))
    for part, count in (("train", 60), ("val", 40), ("test", 0)):
        a, b = getattr(clean, part), getattr(noisy, part)
        np.testing.assert_array_equal(a.images, b.images)
        assert (a.labels != b.labels).sum() == count
    again = runs.draw_splits(run, digits)
    np.testing.assert_array_equal(again.train.labels, noisy.train.labels)


def test_a_tuning_run_keeps_one_look_with_the_training_loss_before_it(plan):
    """The same last point as a final run's curve, whose training loss is that since the look before."""
    final, tuned = perform(some_run(plan))["result"], perform(some_run(plan, final=False))["result"]
    assert len(final["curve"]) == 5
    assert tuned["curve"] == final["curve"][-1:]
    assert tuned["weights"] == final["weights"]
    assert "test_accuracy" not in tuned


def test_an_average_is_what_is_evaluated(plan, monkeypatch):
    seen = []
    monkeypatch.setattr(curve, "evaluate", lambda model, examples: seen.append(runs.fingerprint(model)) or (1.0, 0.5))
    perform(some_run(plan, opt="adam-ema", lr=1e-3, decay=0.9))
    averaged = list(seen)
    seen.clear()
    perform(some_run(plan, opt="adam", lr=1e-3))
    assert len(averaged) == len(seen) == 5
    assert not set(averaged) & set(seen)


def test_the_average_of_a_hybrids_phase_is_what_is_evaluated():
    w = Tensor(np.ones(3, np.float32), requires_grad=True)
    hybrid = Hybrid([w], first=SGD(lr=0.1), then=AveragedAdam(lr=0.1), switch=AfterSteps(1))
    for _ in range(4):
        w.grad = np.ones(3, np.float32)
        hybrid.step()
    moved = w.numpy().copy()
    with curve.as_evaluated(hybrid):
        assert (w.numpy() > moved).all()  # behind: it was there before
    np.testing.assert_array_equal(w.numpy(), moved)


def test_a_condition_on_validation_hears_of_it(plan):
    result = perform(some_run(plan, opt="hybrid", lr=0.01, lr_sgd=0.01, momentum=0.9, switch="epoch:2"))["result"]
    assert result["switch"]["step"] == 12
    result = perform(
        some_run(plan, opt="hybrid", lr=1e-9, lr_sgd=0.01, momentum=0.9, switch="plateau:patience=1,min_delta=0.1")
    )
    assert result["result"]["switch"]["step"] <= 18


@pytest.mark.parametrize("switch", ["gap:-1|step:29", "crossing:val_accuracy=0.01|swats", "epoch:1 & gap:-1"])
def test_a_part_of_a_condition_hears_of_validation_too(plan, switch):
    run = some_run(plan, opt="hybrid", lr=0.01, lr_sgd=0.01, momentum=0.9, switch=switch)
    assert perform(run)["result"]["switch"]["step"] == 6  # an epoch


def test_own_conditions_and_rules_hear_of_validation(plan, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from minidl.optim import SGD, Adam, Hybrid\n"
        "def there(progress):\n"
        "    return progress.epoch == 2 and progress.history('val_accuracy')[-1] > 0\n"
        "def hybrid(params, lr):\n"
        "    return Hybrid(params, first=Adam(lr=lr), then=SGD(lr=0.1), switch=there)\n"
        "class Halves(SGD):\n"
        "    name = 'halves'\n"
        "    def report(self, epoch, val_loss, **metrics):\n"
        "        self.lr /= 2\n"
    )
    hybrid, halves = (perform(some_run(plan, opt=f"{tmp_path / 'mine.py'}:{n}", lr=0.01)) for n in ("hybrid", "Halves"))
    assert hybrid["result"]["switch"] == {"step": 12, "lr": 0.1}
    assert halves["result"]["curve"][-1]["lr"] == 0.01 / 16  # the last look is before the last report


def test_built_in_optimizers_are_validated_only_where_they_read_it():
    listening = {c.key for c in CONTESTANTS if runs.listens(train_steps(c.recipe((0.5,) * len(c.axes)), steps=1)[2])}
    assert listening == {"hybrid-plateau"}


# ---- the whole study ----


def tables(plan):
    write_tables(plan, plan.store.folder)
    return (plan.store.folder / "results.csv").read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits):
    """The tiny study, made by an executor of threads; and its results.csv."""
    plan = open_plan(TINY, digits, tmp_path_factory.mktemp("study"))
    with ThreadPoolExecutor(2) as executor:
        execute(plan, executor, 2)
    return plan, tables(plan)


def test_a_variable_that_the_user_has_set_is_in_the_table(finished):
    """OPENBLAS_CORETYPE, without the other pins: all runs were made, and then the tables ended in a KeyError."""
    plan, _ = finished
    regime, run = next(iter(plan.wanted()))
    record = plan.store.get(run)
    record = record | {"made": record["made"] | {"pins": {"OPENBLAS_CORETYPE": "Zen"}}}
    assert _row(plan, regime, record)["pins"] == "OPENBLAS_CORETYPE=Zen"


def test_the_study_is_complete_and_its_seeds_are_kept_apart(finished):
    plan, table = finished
    assert plan.missing() == []
    rows = [line.split(",") for line in table.decode().splitlines()]
    purpose, seed = rows[0].index("purpose"), rows[0].index("seed")
    told = {(r[purpose], r[seed]) for r in rows[1:]}
    assert told == {("tuning", "1000"), ("tuning", "1001"), ("map", "2000"), *(("final", s) for s in "012")}
    assert len(rows) - 1 == sum(map(TINY.runs_of, TINY.regimes))


def test_a_study_tells_where_it_stands_and_gives_its_rows(finished):
    plan, table = finished
    assert re.fullmatch(r"<study tiny in \S+: (\d+) runs done of \1 known so far>", repr(plan))
    rows = plan.rows()
    assert len(rows) == len(table.splitlines()) - 1
    assert {row["contestant"] for row in rows} >= {"hybrid", "map hybrid"}
    assert max(row["test_accuracy"] for row in rows if row["purpose"] == "final") > 0.7


def test_a_map_moves_the_moment_and_what_comes_after_it_and_nothing_else(finished):
    plan, _ = finished
    regime = TINY.regimes[0]
    for kind, name, places in (("hybrid", "lr_sgd", (0.01, 0.1)), ("adam-cut", "factor", (0.1, 0.5))):
        cells = plan.map_runs(regime, kind)
        assert set(cells) == {(at, value) for at in (0.1, 0.5) for value in places}
        winner = next(c for c in TINY.contestants if c.key == kind)
        recipe = winner.recipe(plan.tuned(regime, winner).winner)
        for (at, value), (run,) in cells.items():
            assert dict(run.recipe) == recipe | {"at": at, name: value} | (
                {"momentum": 0.9} if kind == "hybrid" else {}
            )
            assert (run.seed, run.final) == (2000, False)
    assert plan.map_runs(TINY.regimes[1], "hybrid") == {}


def test_a_pack_holds_all_runs_and_another_folder_goes_on_from_it(finished, tmp_path):
    plan, table = finished
    packed = plan.store.pack()
    before = packed.read_bytes()
    assert plan.store.pack().read_bytes() == before  # the same runs, the same file
    (tmp_path / PACK).write_bytes(before)
    packed.unlink()
    other = open_plan(TINY, plan.dataset, tmp_path)
    assert other.missing() == []
    assert tables(other) == table
    lines = gzip.decompress(before).splitlines()
    lines[3] = lines[3].replace(b'"val_accuracy":0.', b'"val_accuracy":0.9', 1)
    lines[5] = lines[5][:50]
    (tmp_path / PACK).write_bytes(gzip.compress(b"\n".join(lines)))
    damaged = Store(tmp_path)
    assert len(damaged.all()) == len(lines) - 2
    assert [line.split(" is damaged")[0] for line in damaged.damaged] == [
        f"{tmp_path / PACK}, line {n}" for n in (4, 6)
    ]
    (tmp_path / PACK).write_bytes(before[:300])
    assert len(Store(tmp_path).damaged) == 1


@pytest.mark.parametrize("spoil", ["bit", "swap", "signed", "list", "kind", "size", "code", "part"])
def test_a_record_that_does_not_prove_itself_is_made_again(plan, spoil):
    run, other = some_run(plan), some_run(plan, opt="adam", lr=1e-2)
    for each in (run, other):
        plan.store.put(each, record_of(each))
    file = plan.store.runs / f"{run.key}.json"
    content = json.loads(file.read_text())
    if spoil == "bit":
        file.write_bytes(file.read_bytes().replace(b"0.5", b"0.7", 1))
    elif spoil == "swap":
        file.write_bytes((plan.store.runs / f"{other.key}.json").read_bytes())
    elif spoil == "signed":  # edited and signed again, but no longer the run that it is named after
        content["run"]["seed"] = 9
        file.write_text(json.dumps(signed(content)))
    elif spoil == "list":
        file.write_text("[" * 100_000)
    else:
        where, name, value = {
            "kind": ("result", "val_accuracy", "high"), "size": ("run", "epochs", 10**9),
            "code": ("run", "network", "/tmp/other.py:Net"), "part": ("result", "curve", []),
        }[spoil]  # fmt: skip
        content[where][name] = value
        file.write_text(json.dumps(signed(content)))
    store = Store(plan.store.folder)
    assert store.get(run) is None
    assert store.get(other)
    assert len(store.damaged) == 1
    assert str(file) in store.damaged[0]


def test_processes_interruptions_and_damage_change_nothing(finished, plan):
    """Other processes, stopped twice and resumed, a result damaged in between: the same results.csv."""
    with LocalPool(2) as pool:
        for wanted in (7, 30):
            execute(plan, pool, 2, stopped=lambda n=wanted, s=plan.store: len(list(s.runs.glob("*.json"))) >= n)
            assert plan.missing()
            plan = open_plan(TINY, plan.dataset, plan.store.folder)
        victim = sorted(plan.store.runs.glob("*.json"))[0]
        victim.write_text(victim.read_text()[:100])
        half = plan.store.runs / ".half.json.1234.part"
        half.write_text("{")
        os.utime(half, (1, 1))  # a young one may be another process's
        plan = open_plan(TINY, plan.dataset, plan.store.folder)
        assert len(plan.store.damaged) == 1
        execute(plan, pool, 2)
    assert tables(plan) == finished[1]
    assert not list(plan.store.runs.glob(".*"))


def test_opening_a_study_leaves_alone_what_another_process_is_writing(plan, monkeypatch):
    """As --report-only does, or a second study, in the folder of one that runs."""
    run, replace_file = some_run(plan), os.replace

    def opened_meanwhile(part, path, **places):
        open_plan(TINY, plan.dataset, plan.store.folder)
        replace_file(part, path, **places)

    monkeypatch.setattr("minidl.data.atomic.os.replace", opened_meanwhile)
    plan.store.put_error(run, "MemoryError: no more")
    assert plan.store.error(run) == "MemoryError: no more"
    plan.store.put(run, record_of(run))
    assert open_plan(TINY, plan.dataset, plan.store.folder).store.get(run)


def test_an_error_that_another_process_takes_back_is_none(plan, monkeypatch):
    """It made the run that had crashed, between our look for the error and the reading of it."""
    run = some_run(plan)
    plan.store.put_error(run, "MemoryError: no more")
    read_bytes = Path.read_bytes

    def too_late(path):
        path.unlink()
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", too_late)
    assert plan.store.error(run) is None


def test_an_edited_study_makes_only_the_runs_that_are_new(finished):
    plan, _ = finished
    more = open_plan(replace(TINY, seeds=(0, 1, 2, 3)), plan.dataset, plan.store.folder)
    missing = more.missing()
    assert {(run.seed, run.final) for run in missing} == {(3, True)}
    assert len(missing) <= len(TINY.regimes) * len(TINY.contestants)


def test_a_crashed_run_is_noted_and_tried_again(plan):
    def fall_over(run):
        if ("opt", "swats") in run.recipe:
            raise MemoryError("no more")
        return perform(run)

    with ThreadPoolExecutor(1) as executor:
        wanted = plan.missing()
        carry_out(wanted, executor, 1, plan.store.put, note(plan), lambda: False, fall_over)
        assert set(plan.crashed().values()) == {"MemoryError: no more"}
        assert len(plan.crashed()) == sum(("opt", "swats") in run.recipe for run in wanted)
        assert all(plan.store.get(run) for run in wanted if run.key not in plan.given_up)
        again = open_plan(TINY, plan.dataset, plan.store.folder)
        execute(again, executor, 1)
    assert again.crashed() == {}
    assert again.missing() == []


def test_an_error_in_a_user_s_own_file_is_noted_with_its_line(plan, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from minidl.optim import Rule\n"
        "class Late(Rule):\n"
        "    name = 'late'\n"
        "    def rule(self, g, p, lr):\n"
        "        p[...] = -lr * g\n"
        "        [0][self.t // 7]\n"
    )
    run = some_run(plan, opt=f"{file}:Late", lr=0.1)
    with ThreadPoolExecutor(1) as executor:
        carry_out([run], executor, 1, plan.store.put, note(plan), lambda: False)
    error = f"{file}, line 6: IndexError: list index out of range\n  [0][self.t // 7]"
    assert plan.store.error(run) == error


OWN = """
from minidl.optim import SGD, Adam, AfterSteps, Hybrid, Rule


class Map(Rule):
    '''A rule whose key begins as that of a heat map, and whose name takes more room than a table has for it.'''

    name = "map-like"
    axes = {"lr": (0.01, 0.1), "rho": (0.5, 1.0)}

    def __init__(self, params, lr, rho=None, total_steps=None):
        super().__init__(params, lr)
        self.rho = rho / total_steps

    def rule(self, g, p, lr):
        p[...] = -lr * self.rho * g


def half(params, lr, at=None, factor=None, total_steps=None, steps_per_epoch=None):
    then = SGD(lr=factor * steps_per_epoch)
    return Hybrid(params, first=Adam(lr=lr), then=then, switch=AfterSteps(round(at * total_steps)))
"""


def test_an_own_optimizer_gets_its_whole_recipe_and_the_length_of_the_run(plan, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    recipe = {"opt": f"{tmp_path / 'mine.py'}:half", "lr": 0.01, "at": 0.6, "factor": 0.1}
    _, rates, optimizer = train_steps(recipe)
    assert rates == [0.01] * 6 + [0.5] * 4  # 10 steps, 5 an epoch
    assert optimizer.switch_event.step == 6
    assert perform(some_run(plan, **recipe))["result"]["switch"] == {"step": 18, "lr": 0.1 * 6}
    never = some_run(plan, opt=f"{tmp_path / 'mine.py'}:Map", lr=0.01, rho=0.5)
    assert perform(never)["result"]["switch"] is None


def test_own_settings_have_columns_and_an_own_key_is_no_map_s(digits, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    alone = replace(TINY, contestants=(), regimes=TINY.regimes[:1])
    plan = open_plan(with_own(alone, tmp_path / "mine.py", digits), digits, tmp_path / "study")
    (own,) = plan.study.contestants
    assert own.name == "A rule whose key begins as that of a heat map, and whose ..."
    with ThreadPoolExecutor(2) as executor:
        execute(plan, executor, 2)
    rows = plan.rows()
    assert {(row["contestant"], row["purpose"]) for row in rows} == {("map-like", "tuning"), ("map-like", "final")}
    tried = [own.recipe(point)["rho"] for point in plan.tuned(plan.study.regimes[0], own).points]
    assert {row["rho"] for row in rows} == set(tried)
    head, *lines = tables(plan).decode().splitlines()
    assert {float(line.split(",")[head.split(",").index("rho")]) for line in lines} == set(tried)


@pytest.mark.extra("jinja2", "matplotlib")
def test_a_study_from_python_says_which_runs_crashed(digits, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from minidl.optim import Rule\n"
        "class Late(Rule):\n"
        "    name, axes = 'late', {'lr': (0.01, 0.1)}\n"
        "    def rule(self, g, p, lr):\n"
        "        p[...] = -lr * g\n"
        "        [0][self.t // 7]\n"
    )
    study = replace(TINY, contestants=(), regimes=TINY.regimes[:1])
    with ThreadPoolExecutor(2) as executor:
        plan = run_study(study, tmp_path / "study", executor, own=tmp_path / "mine.py")
    told = capsys.readouterr().err
    assert f"{len(plan.crashed())} runs crashed: {tmp_path / 'mine.py'}, line 6: IndexError" in told
    assert "tries them again" in told


def note(plan):
    def failed(run, error):
        plan.store.put_error(run, error)
        plan.given_up.add(run.key)

    return failed


# ---- processes that die ----


def die_once(run):
    """Carry out a run, but the first process that is given the run of seed 1000 is killed."""
    flag = os.environ["MINIDL_TEST_FLAG"]
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return perform(run)
    os.kill(os.getpid(), signal.SIGKILL)


def always_die(run):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_costs_only_its_own_run(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDL_TEST_FLAG", str(tmp_path / "flag"))
    wanted, errors = plan.missing()[:6], []
    with LocalPool(2) as pool:
        carry_out(wanted, pool, 2, plan.store.put, lambda run, error: errors.append(error), lambda: False, die_once)
        assert (tmp_path / "flag").exists()
        assert not errors
        assert all(plan.store.get(run) for run in wanted)
        carry_out(wanted[:1], pool, 2, plan.store.put, lambda r, e: errors.append(e), lambda: False, always_die)
    assert errors == ["its process died 3 times: did it run out of memory?"]


# ---- what runs are made with, and checking them ----


def test_a_machine_that_cannot_hold_the_pins_is_not_said_to(monkeypatch):
    """On ARM64 the libraries ignored them, with pages of warnings, and the rows were said to be made with AVX2."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pinned():
        assert not any(name in os.environ for name in NAMES)
        assert not has_pins(made())
        assert to_be_made(with_pins=True)["pins"] == made()["pins"]


@pytest.mark.parametrize(("lines", "said"), [
    ("processor\t: 0\nmodel name\t: AMD EPYC: 7003\nflags\t\t: fpu\n\nprocessor\t: 1\n", "AMD EPYC: 7003"),
    ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4\n",
     "CPU implementer 0x41, CPU part 0xd08"),
])  # fmt: skip
def test_the_processor(lines, said, tmp_path):
    """ARM64 has no line "model name"."""
    (tmp_path / "cpuinfo").write_text(lines)
    assert _processor(tmp_path / "cpuinfo") == said


def test_the_sources_hash_knows_every_file_of_the_package():
    root = Path(__file__).parents[1]
    assert sources() == sources()
    assert len(sources()) == 16
    assert set(pins()) == {"OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"}
    assert (root / "optim/adam.py").exists()


def test_rows_made_otherwise_do_not_mix(finished, tmp_path):
    plan, _ = finished
    here = made()
    assert differing(here, here) == []
    assert identity(here) != identity(here | {"numpy": "1.0"})
    assert identity(here) == identity(here | {"sources": "x"})  # which only a report minds
    (tmp_path / PACK).write_bytes(plan.store.pack().read_bytes())
    other = open_plan(TINY, plan.dataset, tmp_path)
    other.made = here | {"numpy": "1.0"}
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match=r"made in another environment.*numpy"):
        execute(other, executor, 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_what_is_no_plain_file_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / PACK)
    assert Store(tmp_path).damaged == [f"{tmp_path / PACK} is not a regular file"]
    (tmp_path / "runs" / "0123.json").mkdir(parents=True)
    with pytest.raises(ValueError, match="is not a regular file: remove it"):
        Store(tmp_path)


def test_rows_are_made_again_and_compared(finished, tmp_path):
    plan, _ = finished
    said = []
    folder = plan.store.folder
    assert check(Store(folder), 3, None, 1, 5, said.append, lambda *how: (ThreadPoolExecutor(1), 1))
    assert [line.split()[0] for line in said[1:]] == ["same"] * 3
    victims = list(plan.store.all().values())
    store = Store(tmp_path)
    for record in victims:
        record = json.loads(json.dumps(record))
        record["result"]["weights"] = "f" * 16
        store.put(trial_of(record["run"]), record)
    said.clear()
    assert not check(Store(tmp_path), 2, None, 1, 5, said.append, lambda *how: (ThreadPoolExecutor(1), 1))
    assert [line.split()[0] for line in said[1:]] == ["DIFFERS"] * 2
    for record in victims:
        store.put(trial_of(record["run"]), record | {"made": record["made"] | {"numpy": "1.0"}})
    with pytest.raises(ValueError, match="none of the"):
        check(Store(tmp_path), 2, None, 1, 5, said.append, lambda *how: (ThreadPoolExecutor(1), 1))
    with pytest.raises(ValueError, match="no runs to check"):
        check(Store(tmp_path / "empty"), 2, None, 1, 5, said.append, lambda *how: (ThreadPoolExecutor(1), 1))


def test_rows_of_an_own_file_are_checked_where_the_file_is_now(plan, tmp_path):
    (tmp_path / "then.py").write_text(OWN)
    run = some_run(plan, opt=f"{tmp_path / 'then.py'}:Map", lr=0.1, rho=1.0)
    plan.store.put(run, perform(run))
    (tmp_path / "then.py").rename(tmp_path / "now.py")
    for own, word in ((None, "crashed"), (tmp_path / "now.py", "same")):
        said = []
        check(Store(plan.store.folder), 1, None, 1, 5, said.append, lambda *how: (ThreadPoolExecutor(1), 1), own)
        assert said[1].split()[0] == word


# ---- studies that can't be ----


def one(**changes):
    """A study's regimes: its first, changed."""
    return {"regimes": (replace(TINY.regimes[0], **changes),)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": (0, 1000)}, r"\[1000\] are used both for tuning and for final runs"),
        ({"seeds": (0,)}, "at least two seeds"),
        ({"rounds": ((3, 1), (4, 2))}, "fewer settings and more seeds"),
        ({"rounds": ((3, 1), (1, 3))}, "ask for 3 tuning seeds, there are 2"),
        ({"contestants": TINY.contestants[:1] * 2}, "two contestants have the key 'sgd'"),
        ({"seeds": (0, 1, 0)}, "the seed 0 appears twice in seeds: the same run would count as two"),
        ({"tuning_seeds": (1000, 1000)}, "the seed 1000 appears twice in tuning_seeds"),
        ({"seeds": (0, -1)}, "each of seeds must be a whole number >= 0, got -1"),
        ({"seeds": (0, 0.5)}, "each of seeds must be a whole number >= 0, got 0.5"),
        ({"regimes": ()}, "at least one regime"),
        (one(floor=20), r"small MLP: floor must be in \[0, 1\), got 20"),
        (one(margin="0.01"), "small MLP: margin must be one number, got '0.01'"),
        (one(hidden=16), r"small MLP: hidden must be a tuple of whole numbers, such as \(16,\), got 16"),
        (one(filters=lambda: 2), "small MLP: filters must be a tuple of whole numbers, .* got <function"),
        (one(filters=(0,)), "each of small MLP: filters must be a whole number >= 1, got 0"),
        (one(network=lambda: None), "small MLP: network must be a text such as 'nets.py:Net', got <function"),
        (one(shows=None), r"small MLP: shows must be a Shows, such as Shows\(\), got None"),
        ({"regimes": (replace(TINY.regimes[0], batch_size=0),)}, "batch_size must be a whole number >= 1, got 0"),
        ({"regimes": (replace(TINY.regimes[0], looks=0),)}, "looks must be a whole number >= 1, got 0"),
        ({"regimes": (replace(TINY.regimes[0], wrong_labels=20),)}, r"wrong_labels must be in \[0, 1\), got 20"),
        ({"regimes": (replace(TINY.regimes[0], margin=-0.1),)}, "margin must be a finite number >= 0, got -0.1"),
        ({"regimes": (replace(TINY.regimes[0], map=replace(MAP, moments=(5, 20))),)}, "a moment is a share of the run"),
        ({"regimes": (replace(TINY.regimes[0], map=replace(MAP, seeds=(7, 7))),)}, "the seed 7 appears twice in the"),
        ({"regimes": TINY.regimes[:1] * 2}, "two regimes are called .*: their results would be mixed"),
        (  # each had the other's maps and curves in the report
            {"regimes": tuple(replace(TINY.regimes[0], name=name) for name in ("Net", "CNN", "net"))},
            "'Net' and 'net' would share the file names of their figures",
        ),
        ({"regimes": (replace(TINY.regimes[0], contestants=("adan",)),)}, "unknown contestant 'adan'"),
    ],
)
def test_studies_that_are_not_fair_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)


def test_data_of_one_class_are_refused(digits, tmp_path):
    """All are right there, those that diverge too: it would compare 100 % with 100 %."""
    one = replace(digits, **{name: np.zeros_like(getattr(digits, name)) for name in ("train_labels", "test_labels")})
    with pytest.raises(ValueError, match="one class"):
        open_plan(TINY, one, tmp_path)
