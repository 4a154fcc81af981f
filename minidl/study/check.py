"""Checking published results: rows drawn at random are run again and must have the same bits.

A row can be checked where everything that affects its bits agrees: `bits`, the versions, the machine and the pins. The
hash of the sources may differ: this check is what shows whether the change left the results alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

from minidl.study.made import can_hold_pins, device_of, has_pins, identity, to_be_made
from minidl.study.pool import carry_out
from minidl.study.runs import Trial, perform, trial_of
from minidl.study.store import Record, Store
from minidl.study.streams import local_pool

COMPARED = ("steps", "diverged", "switch", "val_accuracy", "weights")  # of a result; losses follow from the weights


def check(
    store: Store,
    rows: int,
    dataset: str | None,
    workers: int | None = None,
    seed: int | None = None,
    tell: Callable[[str], None] = print,
    pool: Callable[[str, int | None, bool], tuple[Executor, int]] = local_pool,
    own: Path | None = None,
) -> bool:
    """Rerun `rows` rows of a study and report for each whether it has the same bits. Returns whether all have.

    dataset  where the data are on this machine (default: where they were when the row was made)
    workers  how many rows at a time; None: the default of `pool`
    seed     of the draw; None: a new one each time, which is printed
    own      where the user's file is on this machine (default: where it was then)

    Raises ValueError if the study has no rows, or none that can be checked here.
    """
    records = list(store.all().values())
    if not records:
        raise ValueError(f"{store.folder} has no runs to check")
    pinned, device = has_pins(records[0]["made"]), device_of(records[0]["made"])
    if pinned and not can_hold_pins():
        raise ValueError("these rows were made with AVX2 instructions, which this processor or BLAS does not have")
    here = identity(to_be_made(pinned, device=device))
    able = [record for record in records if identity(record["made"]) == here]
    if not able:
        theirs = identity(records[0]["made"])
        raise ValueError(f"none of the {len(records):,} rows can be checked here: made with {theirs}, this is {here}")
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    drawn = random.Random(seed).sample(sorted(able, key=lambda r: trial_of(r["run"]).key), min(rows, len(able)))
    tell(f"{len(able):,} of {len(records):,} rows can be checked here; {len(drawn)} drawn (--draw {seed})")
    found = dict[str, Record | str]()
    runs = [_here(trial_of(record["run"]), dataset, own) for record in drawn]
    executor, places = pool(device, workers, pinned)
    with executor:
        carry_out(
            runs, executor, places, lambda run, record: found.update({run.key: record}),
            lambda run, error: found.update({run.key: error}), lambda: False,
            partial(perform, device=device),
        )  # fmt: skip
    same = [_compare(record, found[run.key], tell) for record, run in zip(drawn, runs, strict=True)]  # all are reported
    return all(same)


def _here(run: Trial, dataset: str | None, own: Path | None) -> Trial:
    """The run with its data and its user's file where they are on this machine."""
    moved = {} if own is None else {text: f"{own}:{text.rpartition(':')[2]}" for text, _ in run.code}
    return replace(
        run,
        dataset=run.dataset if dataset is None else dataset,
        network=moved.get(run.network or "", run.network),
        recipe=tuple((name, moved.get(value, value) if name == "opt" else value) for name, value in run.recipe),
        code=tuple((moved.get(text, text), sha256) for text, sha256 in run.code),
    )


def _compare(published: Record, now: Record | str, tell: Callable[[str], None]) -> bool:
    run = trial_of(published["run"])
    what = f"{run.key}  {dict(run.recipe)['opt']}, seed {run.seed}, {run.train_images:,} images"
    if isinstance(now, str):
        tell(f"crashed  {what}: {now}")
        return False
    different = [n for n in COMPARED if published["result"][n] != now["result"][n]]
    tell(f"{'DIFFERS' if different else 'same   '}  {what}{': ' + ', '.join(different) if different else ''}")
    return not different
