# %% [markdown]
# # 12. Read the study's report; run your own
#
# **Goal.** Does the switch from Adam to SGD help, and how would one know? Run a small study, read its table,
# see how easily one is fooled, and then read the large one.
#
# **Time.** 25 minutes. **Before this:** tutorials 7 and 9.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install
# "./minidl[study]"`, then restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
import csv
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from minidl.data import load_mnist
from minidl.study import CONTESTANTS, Regime, Study
from minidl.study.execute import execute
from minidl.study.results import write_tables
from minidl.study.study import open_plan
from minidl.teach import show

# %% [markdown]
# ## A fair question
#
# "Hybrid got 97.9 %, Adam 97.6 %: the switch helps." Before you believe such a sentence, ask:
#
# 1. **Was each tuned with the same effort?** With a good rate against a bad one, anything wins.
# 2. **On which images was it chosen?** Rates are chosen by validation; the test images are looked at once.
# 3. **How many seeds?** Another seed gives other first weights and another order, and so another accuracy.
# 4. **What is the control?** After the switch the *rate* is another one too. Perhaps that alone is what helped!
#
# For the fourth, there must be a contestant that stays with Adam and only cuts its rate, at the same step.
#
# The library's study does all four. Here is a small one: a network, 1,000 images, four contestants.

# %%
keys = ("sgd", "adam", "hybrid", "adam-cut")
contestants = tuple(c for c in CONTESTANTS if c.key in keys)
for contestant in contestants:
    print(f"{contestant.key:9} {contestant.name}")

regime = Regime(
    name="small MLP",
    train_images=1_000,
    val_images=1_000,
    epochs=6,
    batch_size=50,
    evaluations=6,
    levels=(0.8, 0.85),  # validation accuracies to reach
    claim=((0.9, 1.0), (0.0, 0.2)),  # training accuracy and gap that it should show
    hidden=(64,),
)
study = Study(
    name="mine",
    dataset="mnist5k",
    regimes=(regime,),
    contestants=contestants,
    seeds=(0, 1, 2, 3, 4, 5),  # of the runs that count
    tuning_seeds=(100,),  # of the runs that only choose the rates
    grid=3,
    tuning_runs=4,
)
print(study.runs_of(regime), "runs in all")

# %% [markdown]
# **Predict before you run.** Which of the four will be best, and by how much? Write down a number. And how far
# apart will the six seeds of *one* contestant be?

# %%
folder = Path(tempfile.mkdtemp())
plan = open_plan(study, load_mnist(name="mnist5k"), folder)
with ThreadPoolExecutor(1) as executor:
    execute(plan, executor, workers=1)
write_tables(plan, folder)


def read(path):
    """The table as a list of rows; a row is a dict from column to text."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


rows = read(folder / "results.csv")
final = sum(row["purpose"] == "final" for row in rows)
print(len(rows), "rows, of which", final, "are final runs")
print("columns:", ", ".join(list(rows[0])[:8]), "...")

# %% [markdown]
# Each run is a row. First the tuning: which rates were tried, and what did validation say?

# %%
for row in rows:
    if row["purpose"] == "tuning" and row["contestant"] in ("sgd", "adam"):
        accuracy = float(row["val_accuracy"])
        print(f"{row['contestant']:5} rate {float(row['lr']):.5f}: validation accuracy {accuracy:.3f}")

# %% [markdown]
# Now the runs that count, each a dot, with a bar at the mean.


# %%
def accuracies(rows, regime, contestant):
    """The test accuracy of each final run, by seed."""
    return {
        int(row["seed"]): float(row["test_accuracy"])
        for row in rows
        if (row["regime"], row["contestant"], row["purpose"]) == (regime, contestant, "final") and row["test_accuracy"]
    }


by_contestant = {key: accuracies(rows, regime.name, key) for key in keys}
show.dots({key: list(values.values()) for key, values in by_contestant.items()}, "test accuracy")

# %% [markdown]
# Look at how far apart the dots of *one* contestant lie, beside the distance of the bars. So who is better?
#
# ## Pairs
#
# With the same seed, all contestants have the same images, the same first weights and the same order. So
# compare *within* a seed: what a lucky seed gives to both cancels out.


# %%
# Student's t for 95 %, by the number of differences: how uncertain a spread from so few of them is
STUDENT = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def compare(a, b):
    """a - b for each seed in percentage points, and what one may conclude from it, in words."""
    d = 100 * np.array([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])
    if len(d) not in STUDENT:
        return d, f"{len(d)} pairs of runs: too few"
    mean, half = d.mean(), STUDENT[len(d)] * d.std(ddof=1) / np.sqrt(len(d))
    verdict = "cannot tell" if abs(mean) < half else "better" if mean > 0 else "worse"
    return d, f"{mean:+.2f} points, +- {half:.2f}: {verdict}"


for other in ("adam", "sgd", "adam-cut"):
    print(f"hybrid - {other:8}: {compare(by_contestant['hybrid'], by_contestant[other])[1]}")

# %% [markdown]
# Where the interval contains 0, these runs cannot tell. That is a result too, and a common one. And where they
# can tell, the verdict is about *this* network, these thousand images, six epochs and four settings to tune
# with. The hybrid has two rates and a moment to choose, Adam has one rate: among three numbers, four settings
# do not go far. Change something and run it again before you believe more than that.
#
# ## How to fool yourself
#
# **Predict before you run.** Suppose that there is no difference at all: two contestants, both with accuracies
# of 90 % that vary by one point from seed to seed. Somebody runs each with *one* seed. How often is the second
# "better by half a point or more"? With ten seeds each?

# %%
rng = np.random.default_rng(0)
for n in (1, 3, 10, 30):
    a, b = rng.normal(90, 1, (2, 10_000, n)).mean(axis=2)
    print(f"{n:2} seeds: 'better by half a point or more' in {(b - a > 0.5).mean():.1%} of all such studies")

# %% [markdown]
# And whoever compares twenty variants that are all the same will find one that is "significantly" better, by
# the meaning of 95 %. The study's report corrects for that (Holm's method).
#
# ## The large study
#
# `python -m minidl.study --preset paper --out studies/paper` runs six regimes (under-fit, good fit and
# over-fit, as MLP and as CNN), seventeen contestants and ten seeds. Where its table lies beside this tutorial,
# read it:

# %%
table = Path("study") / "results.csv"
if not table.exists():
    print("no table of the large study here: run the command above, or go on with your own")
else:
    large, switch = read(table), {}
    for name in dict.fromkeys(row["regime"] for row in large):
        runs = {key: accuracies(large, name, key) for key in keys}
        print(name)
        for other in ("adam", "sgd", "adam-cut"):
            differences, verdict = compare(runs["hybrid"], runs[other])
            print(f"   hybrid - {other:8}: {verdict}")
        switch[name] = differences  # from the last one, adam-cut
    show.dots(switch, "hybrid - adam-cut, percentage points of test accuracy, a dot for each seed")

# %% [markdown]
# The line against `adam-cut` is the one to look at: it asks whether the *switch* helps, or only the smaller
# rate that came with it. Read the report's first paragraph, which answers just that, in the same way, from the
# same numbers.
#
# ## Exercises
#
# **1.** How large is the spread of one contestant over the seeds, and that of the differences of hybrid and
# Adam? What is the gain of pairing?
#
# <details><summary>Answer</summary>
#
# ```python
# h, a = by_contestant["hybrid"], by_contestant["adam"]
# alone = np.sqrt(np.var(list(h.values()), ddof=1) + np.var(list(a.values()), ddof=1))
# paired = np.std([h[seed] - a[seed] for seed in h], ddof=1)
# print(f"not paired {100 * alone:.2f} points, paired {100 * paired:.2f} points")
# ```
#
# The smaller the second number is beside the first, the more the seeds explain, and the fewer seeds are enough.
# Where it is not smaller, the seed's luck with one contestant says nothing about the other. (With six seeds,
# both numbers are rough themselves.)
#
# </details>
#
# **2.** Add a contestant of your own to the study: RMSprop, or the hybrid that switches after 40 %. How many
# runs are made when you start it in the same folder?
#
# <details><summary>Answer</summary>
#
# ```python
# from dataclasses import replace
#
# more = tuple(c for c in CONTESTANTS if c.key in (*keys, "rmsprop"))
# larger = open_plan(replace(study, contestants=more), load_mnist(name="mnist5k"), folder)
# before = len(list((folder / "runs").rglob("*.json")))
# with ThreadPoolExecutor(1) as executor:
#     execute(larger, executor, workers=1)
# made = len(list((folder / "runs").rglob("*.json"))) - before
# print(made, "new runs")
# assert 0 < made <= study.tuning_runs + len(study.seeds)
# ```
#
# Only those of the new contestant: a run is stored under a description of all that decides it, and found again.
#
# </details>
#
# **3.** Somebody tunes the hybrid with eight settings and Adam with one. By how much can that alone make the
# hybrid "better"? Use the tuning runs of Adam: best rate against the average one.
#
# <details><summary>Answer</summary>
#
# ```python
# tuning = [
#     float(row["val_accuracy"])
#     for row in rows
#     if row["contestant"] == "adam" and row["purpose"] == "tuning"
# ]
# print(f"best {max(tuning):.3f}, mean of all tried {np.mean(tuning):.3f}")
# assert max(tuning) > np.mean(tuning)
# ```
#
# Compare that with the differences above. Whoever tunes one side better than the other can have any result.
#
# </details>
#
# **4.** Which contestant reached 85 % on validation in the fewest steps? (Column `steps_to_level_2`; empty
# where it never did.)
#
# <details><summary>Answer</summary>
#
# ```python
# for key in keys:
#     steps = [row["steps_to_level_2"] for row in rows if row["contestant"] == key]
#     reached = [int(step) for step in steps if step]
#     print(f"{key:9} reached it in {len(reached)} runs, after {reached} steps")
# ```
#
# Runs that never reach the level must not be left out of an average: the study's report counts them as "later
# than the end" (they are *censored*).
#
# </details>
#
# ## What to read next
#
# [`minidl/study/contestants.py`](../minidl/study/contestants.py) and
# [`minidl/study/regimes.py`](../minidl/study/regimes.py): who takes part, and on what. The last assignment, A5,
# asks for a small study of your own. That was the way from the bytes of a file to a question that is still open. One
# lesson is left, for those who wonder why it did not take longer: [tutorial 13](13_as_fast_as_the_arithmetic.ipynb).
