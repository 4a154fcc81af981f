"""The study's parts: fair tuning, recipes, runs, the store, and what happens when runs or processes die."""

import json
import math
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason='the extra "study" is not installed')

from minidl.data import load_mnist
from minidl.data.batches import split
from minidl.data.idx import DataError
from minidl.study import runs, tuning
from minidl.study.contestants import CONTESTANTS, make_optimizer
from minidl.study.execute import execute
from minidl.study.pool import LocalPool, carry_out
from minidl.study.results import final_results, measure, write_tables
from minidl.study.runs import perform
from minidl.study.study import open_plan
from minidl.tensor import Tensor
from minidl.training.models import build_model
from tests.tiny_study import TINY

# ---- tuning ----


def search(space, grid, total, rank):
    """All settings that tuning tries, each ranked as soon as it is chosen."""
    return tuning.settings(space, grid, total, rank)[0]


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda c: c.key)
@pytest.mark.parametrize(("grid", "total"), [(6, 8), (4, 5), (2, 3)])
def test_every_contestant_tries_equally_many_settings(contestant, grid, total):
    rng = np.random.default_rng(0)
    tried = search(contestant.space, grid, total, lambda point: (float(rng.random()), 0.0))
    assert len(tried) == len(set(tried)) == total
    assert tried[:grid] == list(contestant.space.start[:grid])
    recipes = [json.dumps(contestant.recipe(point, 0.4), sort_keys=True) for point in tried]
    assert len(set(recipes)) == total


@pytest.mark.parametrize("sign", [1, -1])
def test_a_grid_whose_best_is_at_its_edge_widens_there(sign):
    adam = next(c for c in CONTESTANTS if c.key == "adam")
    tried = search(adam.space, 6, 9, lambda point: (-sign * point[0], 0.0))
    edge = max(p[0] for p in adam.space.start) if sign > 0 else min(p[0] for p in adam.space.start)
    assert [p[0] for p in tried[6:]] == [edge + sign * 0.5 * i for i in (1, 2, 3)]


def test_a_grid_whose_best_is_inside_gets_finer():
    adam = next(c for c in CONTESTANTS if c.key == "adam")
    assert search(adam.space, 6, 8, lambda point: (abs(point[0] + 3), 0.0))[6:] == [(-2.75,), (-3.25,)]


def test_nothing_is_chosen_before_all_results_are_known():
    adam = next(c for c in CONTESTANTS if c.key == "adam")
    tried, finished = tuning.settings(adam.space, 6, 8, lambda point: None if point == (-4,) else (0.0, 0.0))
    assert (len(tried), finished) == (6, False)


def test_edges_are_told():
    sgd = next(c for c in CONTESTANTS if c.key == "sgd").space
    tried = [(-1.0,), (-2.0,), (-1.5,)]
    assert [tuning.edges(sgd, best, tried) for best in tried] == [["lr"], ["lr"], []]


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


def test_hybrid_and_its_mirror_switch_at_the_same_step():
    hybrid, rates, there = train_steps({"opt": "hybrid", "lr": 0.01, "lr_sgd": 0.1, "at": 0.4})
    _, _, back = train_steps({"opt": "sgd-adam", "lr": 0.1, "lr_after": 0.01, "at": 0.4})
    assert there.switch_event.step == back.switch_event.step == 4
    assert (there.phase, back.phase) == ("sgd", "adam")
    assert rates == [0.01] * 4 + [0.1] * 6
    np.testing.assert_array_equal(hybrid[:4], train_steps({"opt": "adam", "lr": 0.01})[0][:4])


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda c: c.key)
def test_every_contestant_can_be_built_and_moves(contestant):
    path, _, _ = train_steps(contestant.recipe(contestant.space.start[0], 0.4))
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
        "recipe": (("lr", 1e-4), ("opt", "adam")), "seed": 1, "final": False, "evaluations": 1,
    }  # fmt: skip
    keys = {replace(run, **{name: value}).key for name, value in other.items()}
    assert len(keys | {run.key}) == len(other) + 1
    assert replace(run, dataset="elsewhere").key == run.key


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


def test_a_run_that_diverges_is_a_result(plan):
    result = perform(some_run(plan, opt="momentum", lr=1e20))["result"]
    assert "diverged at step" in result["diverged"]
    assert (result["test_accuracy"], result["test_loss"]) == (0.1, math.log(10))
    json.dumps(result, allow_nan=False)


def test_other_data_are_refused(plan):
    with pytest.raises(DataError, match="is not the study's"):
        perform(replace(some_run(plan), sha256="0" * 64))


def test_time_to_a_level_is_the_first_look_that_finds_it(plan):
    curve = [{"step": s, "val_accuracy": a} for s, a in ((10, 0.3), (20, 0.6), (30, 0.4), (40, 0.7))]
    result = {"curve": curve, "steps": 40, "switch": None, "diverged": None}
    result |= {f"{part}_{what}": 0.5 for part in ("train", "val", "test") for what in ("accuracy", "loss")}
    record = {"run": {"seed": 0}, "result": result, "times": {"cpu_seconds": 9.0, "curve": [1.0, 2.0, 3.0, 4.0]}}
    measured = measure(record, replace(TINY.regimes[0], levels=(0.5, 0.7, 0.9)))
    assert measured.reached == [(20, 2.0), (40, 4.0), None]
    assert measured.last == (40, 4.0)
    assert measured.measures["area"] == pytest.approx((0.45 + 0.5 + 0.55) / 3)


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


def test_the_study_is_complete_and_its_seeds_are_kept_apart(finished):
    plan, table = finished
    assert plan.missing() == []
    rows = [line.split(",") for line in table.decode().splitlines()]
    purpose, seed = rows[0].index("purpose"), rows[0].index("seed")
    assert {(r[purpose], r[seed]) for r in rows[1:]} == {("tuning", "1000"), *(("final", s) for s in "012")}
    assert len(rows) - 1 == sum(map(TINY.runs_of, TINY.regimes))


def test_the_controls_change_at_the_tailored_hybrids_step(finished):
    plan, _ = finished
    of = {c.key: c for c in TINY.contestants}
    for regime in TINY.regimes:
        step = {r.switch["step"] for r in final_results(plan, regime, of["hybrid"])}
        assert len(step) == 1
        for key in ("adam-cut", "sgd-adam"):
            assert {r.switch["step"] for r in final_results(plan, regime, of[key])} == step


def test_processes_interruptions_and_damage_change_nothing(finished, plan):
    """Other processes, stopped twice and gone on with, a result damaged in between: the same results.csv."""
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
        assert plan.store.damaged == 1
        execute(plan, pool, 2)
    assert tables(plan) == finished[1]
    assert not list(plan.store.runs.glob(".*"))


def test_opening_a_study_leaves_alone_what_another_process_is_writing(plan, monkeypatch):
    """As --report-only does, or a second study, in the folder of one that runs."""
    run, replace_file = some_run(plan), os.replace

    def opened_meanwhile(part, path):
        open_plan(TINY, plan.dataset, plan.store.folder)
        replace_file(part, path)

    monkeypatch.setattr("minidl.data.atomic.os.replace", opened_meanwhile)
    plan.store.put_error(run, "MemoryError: no more")
    assert plan.store.error(run) == "MemoryError: no more"
    plan.store.put(run, {"run": {}, "result": {}, "times": {}, "made": {}})
    assert open_plan(TINY, plan.dataset, plan.store.folder).store.get(run)


def test_an_error_that_another_process_takes_back_is_none(plan, monkeypatch):
    """It made the run that had crashed, between our look for the error and the reading of it."""
    run = some_run(plan)
    plan.store.put_error(run, "MemoryError: no more")
    read_text = Path.read_text

    def too_late(path):
        path.unlink()
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", too_late)
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
    assert errors == ["its process died 3 times: was it killed for want of memory?"]


# ---- studies that can't be ----


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": (0, 1000)}, r"\[1000\] are both for tuning and for final runs"),
        ({"seeds": (0,)}, "at least two seeds"),
        ({"grid": 4}, "grid <= tuning_runs"),
        ({"contestants": tuple(c for c in TINY.contestants if c.key != "hybrid")}, "take the moment of 'hybrid'"),
    ],
)
def test_studies_that_are_not_fair_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)
