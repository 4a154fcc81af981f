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
from minidl.study import CONTESTANTS, Regime, Shows, Study
from minidl.study.analysis import analyse
from minidl.study.claims import TITLE
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
    looks=6,  # at the validation split, while it trains
    shows=Shows(train=(0.9, 1.0), gap=(0.0, 0.2)),  # what it must show to be what we say it is
    hidden=(64,),
    margin=0.005,  # differences below half a point do not matter to us: decided now, not later
)
study = Study(
    name="mine",
    dataset="mnist5k",
    regimes=(regime,),
    contestants=contestants,
    seeds=(0, 1, 2, 3, 4, 5, 6, 7),  # of the runs that count
    tuning_seeds=(100, 101, 102),  # of the runs that only choose the settings
    rounds=((6, 1), (2, 3)),  # six settings with one seed each; the best two get three
)
print(study.runs_of(regime), "runs in all")

# %% [markdown]
# **Predict before you run.** Which of the four will be best, and by how much? Write down a number. And how far
# apart will the eight seeds of *one* contestant be?

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
# Each run is a row. First the tuning: the settings were drawn at random, evenly on a logarithmic scale. Which were
# tried, and what did validation say? A seed above 100 means that the setting was among the better two.

# %%
for row in rows:
    if row["purpose"] == "tuning" and row["contestant"] == "adam":
        accuracy = float(row["val_accuracy"])
        print(f"rate {float(row['lr']):.5f}, seed {row['seed']}: validation accuracy {accuracy:.3f}")

# %% [markdown]
# One seed would have chosen the rate by luck; three make that rarer. A setting of which one run collapses is not
# chosen at all, however well the others did.
#
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
def differences(a, b):
    """a - b for each seed that both have, in percentage points."""
    return 100 * np.array([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])


for other in ("adam", "sgd", "adam-cut"):
    d = differences(by_contestant["hybrid"], by_contestant[other])
    print(f"hybrid - {other:8}: mean {d.mean():+.2f} points, from {d.min():+.2f} to {d.max():+.2f}")

# %% [markdown]
# ## Words from numbers
#
# When may one say "better"? The study's report has one way, fixed beforehand. It takes the mean of these
# differences without the largest and smallest fifth, so that one run gone wrong does not decide. Around it lies
# an interval, by mixing the seeds at random again and again (a *bootstrap*), wide enough that *all* intervals of the
# report are right at once in 95 of 100 studies. And then it asks about a margin, here half a point:
#
# - the whole interval lies within the margin: **equivalent**. That is more than "no difference was found"!
# - else, it lies above zero: **better**; below zero: **worse**
# - else: **these runs cannot tell**

# %%
(block,) = analyse(plan)
for verdict in block.verdicts:
    x, claim = verdict.interval, verdict.claim
    if claim.measure == "accuracy":
        found = f"{100 * x.estimate:+.2f} ({100 * x.low:+.2f} to {100 * x.high:+.2f})"
        print(f"{claim.a:8} against {claim.b:8}: {found}: {verdict.word}")
print("the title's question, the switch against a cut of the rate:", block.word(TITLE))
print("what the regime does not show of what it must:", "; ".join(block.misses) or "nothing")

# %% [markdown]
# "These runs cannot tell" is a result too, and with eight seeds a common one. And where they
# can tell, the verdict is about *this* network, these thousand images, six epochs and six settings to tune
# with. The hybrid has a moment, two rates and a momentum to choose, Adam has one rate: among four numbers, six settings
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
# And if you compare twenty variants that are all the same, one of them will be "significantly" better: that is
# what 95 % means. That is why the report's intervals are wide enough for all of its comparisons together.
#
# ## The large study
#
# `python -m minidl.study --preset paper --out studies/paper` has seven regimes, two dozen contestants, twenty
# settings for each of them and twenty seeds. Its [plan](study/PLAN.md) was written before its first run. Where
# its table lies beside this tutorial, read it: how often was the switch ahead of a cut of the rate, seed by
# seed?

# %%
table = Path("study") / "results.csv"
if not table.exists():
    print("no table of the large study here: run the command above, or go on with your own")
else:
    large, switch = read(table), {}
    for name in dict.fromkeys(row["regime"] for row in large):
        runs = {key: accuracies(large, name, key) for key in ("hybrid", "adam-cut", "adam-cosine")}
        if all(runs.values()):
            switch[name] = differences(runs["hybrid"], runs["adam-cut"])
            ahead = (switch[name] > 0).mean()
            print(f"{name}: the switch above the cut for {ahead:.0%} of the seeds, {switch[name].mean():+.2f} points")
    if switch:
        show.dots(switch, "hybrid - adam-cut, percentage points of test accuracy, a dot for each seed")

# %% [markdown]
# The line against `adam-cut` is the one to look at: it asks whether the *switch* helps, or only the smaller
# rate that came with it. Now open the [report](study/report.html). Its first three sentences answer just that,
# with the words from above; below them lie the maps: a cell is a network trained in full, its place says when
# it left Adam and at what rate it went on. Look for three things: where the best cells lie, how wide the good
# region is, and where runs collapse.
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
# Where it is not smaller, the seed's luck with one contestant says nothing about the other. (With eight seeds,
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
# assert 0 < made <= 6 + 2 * 2 + len(study.seeds)
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
# Compare that with the differences above. Tune one side better than the other, and you can get any result.
#
# </details>
#
# **4.** The report says that generalization must be compared at equal *training* loss. Why not simply take the gap
# between training and test accuracy at the end?
#
# <details><summary>Answer</summary>
#
# ```python
# for key in keys:
#     done = [row for row in rows if row["contestant"] == key and row["purpose"] == "final"]
#     train, test = (100 * np.mean([float(row[f"{part}_accuracy"]) for row in done]) for part in ("train", "test"))
#     print(f"{key:9} train {train:.2f} %, test {test:.2f} %, gap {train - test:.2f} points")
# ```
#
# A network that has learnt less has a smaller gap: one that guesses has none at all. So a small gap may only
# mean that training stopped early. At equal training loss, both have learnt the training images equally well,
# and the one with the smaller validation loss carries over better.
#
# </details>
#
# ## What to read next
#
# [`minidl/study/contestants.py`](../minidl/study/contestants.py) and
# [`minidl/study/regimes.py`](../minidl/study/regimes.py): who takes part, and on what.
# The homework to this lesson is [A5](assignments/A5/README.md): a small study of your own. That was the way from the
# bytes of a file to a question that is still open. [Tutorial 13](13_as_fast_as_the_arithmetic.ipynb) is for those who
# wonder why it did not take longer; [tutorial 16](16_signals_through_a_deep_net.ipynb) goes on to deep networks.
