# %% [markdown]
# # 12. Read the study's report; run your own
#
# **Goal.** Does the switch from Adam to SGD help, and how can one tell? Run a small study, read its results, see how
# easy it is to fool yourself, and then read the large study.
#
# **Time.** 25 minutes. **Before this:** lessons 7 and 9.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install "./minidl[study]"`,
# then restart the session. Elsewhere: see the [README of the lessons](README.md).

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
# 1. **Was each tuned with the same effort?** Anything with a good learning rate beats anything with a bad one.
# 2. **On which images was it chosen?** Learning rates are chosen by validation; the test images are used once.
# 3. **How many seeds?** Another seed gives other initial weights and another order of the images, and so another
#    accuracy.
# 4. **What is the control?** The switch also changes the *learning rate*. Perhaps that alone helped.
#
# The fourth question needs a control: a contestant that stays with Adam and only lowers its learning rate, at the
# same step.
#
# The library's study takes care of all four. Here is a small one, with four contestants and one *regime*: a network,
# its training images and the number of epochs.

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
    looks=6,  # evaluations on the validation split during training
    shows=Shows(train=(0.9, 1.0), gap=(0.0, 0.2)),  # where Adam and SGD must end
    hidden=(64,),
    margin=0.005,  # smaller differences do not matter to us: decided before the runs
)
study = Study(
    name="mine",
    dataset="mnist5k",
    regimes=(regime,),
    contestants=contestants,
    seeds=(0, 1, 2, 3, 4, 5, 6, 7),  # of the final runs
    tuning_seeds=(100, 101, 102),  # of the tuning runs, which only choose the settings
    rounds=((6, 1), (2, 3)),  # six settings with one seed each; the best two get three
)
print(study.runs_of(regime), "runs in all")

# %% [markdown]
# **Predict before you run.** Which of the four will be best, and by how much? Write down a number. And how far apart
# will the eight seeds of *one* contestant lie?

# %%
folder = Path(tempfile.mkdtemp())
plan = open_plan(study, load_mnist(name="mnist5k"), folder)
with ThreadPoolExecutor(1) as executor:
    execute(plan, executor, workers=1)
write_tables(plan, folder)


def read(path):
    """The CSV file as a list of rows; a row is a dict from column name to text."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


rows = read(folder / "results.csv")
final = sum(row["purpose"] == "final" for row in rows)
print(len(rows), "rows, of which", final, "are final runs")
print("columns:", ", ".join(list(rows[0])[:8]), "...")

# %% [markdown]
# Each run is a row. First the tuning: the settings were drawn at random, uniformly on a logarithmic scale. Which
# learning rates were tried for Adam, and how did they do on the validation images? A seed above 100 means that the
# setting was among the best two.

# %%
for row in rows:
    if row["purpose"] == "tuning" and row["contestant"] == "adam":
        accuracy = float(row["val_accuracy"])
        print(f"learning rate {float(row['lr']):.5f}, seed {row['seed']}: validation accuracy {accuracy:.3f}")

# %% [markdown]
# With one seed, the choice of the learning rate depends much on luck; with three, less. A setting with a run that
# collapses is never chosen, however good its other runs are.
#
# Now the final runs: each is a dot, with a bar at the mean.


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
# Compare the distance between the dots of *one* contestant with the distance between the bars. Which contestant is
# better?
#
# ## Pairs
#
# With the same seed, all contestants have the same images, the same initial weights and the same order of the images.
# So compare them *within* a seed: the effect of a lucky seed on both cancels out.


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
# When may one say "better"? The study's report follows a rule that was fixed in advance. It takes the mean of these
# differences without the largest and the smallest fifth (a *trimmed mean*), so that a single failed run does not
# decide. It computes an interval around this mean by resampling the seeds many times (a *bootstrap*), wide enough
# that *all* intervals of the report are right at once in 95 of 100 studies. Then it compares the interval with a
# margin, here half a point:
#
# - the whole interval lies within the margin: **equivalent**. This says more than "no difference was found";
# - otherwise, it lies above zero: **better**, or below zero: **worse**;
# - otherwise: **these runs cannot tell**.

# %%
(block,) = analyse(plan)
for verdict in block.verdicts:
    x, claim = verdict.interval, verdict.claim
    if claim.measure == "accuracy":
        found = f"{100 * x.estimate:+.2f} ({100 * x.low:+.2f} to {100 * x.high:+.2f})"
        print(f"{claim.a:8} against {claim.b:8}: {found}: {verdict.word}")
print("the question of the title, the switch against a cut of the learning rate:", block.word(TITLE))
print("conditions that the regime does not meet:", "; ".join(block.misses) or "nothing")

# %% [markdown]
# "These runs cannot tell" is a result too, and with eight seeds a common one. Where the runs can tell, the verdict
# holds for *this* network, these thousand images, six epochs and six settings per contestant. The hybrid has four
# hyperparameters to tune, the time of the switch, two learning rates and a momentum, while Adam has one learning
# rate: for four hyperparameters, six settings are few. Change something and run the study again before you draw a
# wider conclusion.
#
# ## How to fool yourself
#
# **Predict before you run.** Suppose that there is no difference at all: two contestants, both with a mean accuracy
# of 90 % and a standard deviation of one point from seed to seed. Someone runs each with *one* seed. How often is the
# second "better by half a point or more"? And with ten seeds each?

# %%
rng = np.random.default_rng(0)
for n in (1, 3, 10, 30):
    a, b = rng.normal(90, 1, (2, 10_000, n)).mean(axis=2)
    print(f"{n:2} seeds: 'better by half a point or more' in {(b - a > 0.5).mean():.1%} of all such studies")

# %% [markdown]
# And if you compare twenty variants that are all the same, on average one of them will differ "significantly": that
# is what 95 % means. That is why the report's intervals are wide enough for all of its comparisons together.
#
# ## The large study
#
# `python -m minidl.study --preset paper --out studies/paper` has seven regimes, two dozen contestants, twenty
# settings for each of them and twenty seeds. Its [plan](study/PLAN.md) was written before its first run. If its
# results are in the folder `study` beside this lesson, read them: for how many seeds was the switch better than a cut
# of the learning rate?

# %%
table = Path("study") / "results.csv"
if not table.exists():
    print("no results of the large study here: run the command above, or continue with your own")
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
# The comparison with `adam-cut` is the important one: it asks whether the *switch* helps, or only the smaller
# learning rate that comes with it. Now open the [report](study/report.html). Its first three sentences answer this
# question with the verdicts above. Below them are the maps: each cell is the mean of a few full training runs, and its
# position shows when they switched from Adam to SGD and with which learning rate they continued. Look for three
# things: where the best cells are, how wide the good region is, and where runs collapse.
#
# ## Exercises
#
# **1.** How large is the standard deviation of hybrid minus Adam, first as if the seeds were not paired, then paired
# by seed? What does pairing gain?
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
# The smaller the second number is compared with the first, the more of the variation comes from the seeds, and the
# fewer seeds are needed. If it is not smaller, the luck of a seed with one contestant says nothing about the other.
# (With eight seeds, both numbers are rough estimates.)
#
# </details>
#
# **2.** Add a contestant to the study: RMSprop, or the hybrid that switches after 40 % of the steps. How many runs
# are done when you start it in the same folder?
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
# Only those of the new contestant: a run is stored under a description of everything that determines it, and is
# reused.
#
# </details>
#
# **3.** Someone tunes the hybrid with eight settings and Adam with one. By how much can that alone make the hybrid
# "better"? Use the tuning runs of Adam: compare the best with the average.
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
# Compare that with the differences above. If you tune one side better than the other, you can get any result.
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
# A network that has learned less has a smaller gap: one that guesses has none at all. So a small gap may only mean
# that training stopped early. At equal training loss, both fit the training images equally well, and the one with the
# smaller validation loss generalizes better.
#
# </details>
#
# ## What to read next
#
# [`minidl/study/contestants.py`](../minidl/study/contestants.py) and
# [`minidl/study/regimes.py`](../minidl/study/regimes.py): the contestants, and the tasks they are compared on. The
# assignment for this lesson is [A5](assignments/A5/README.md): a small study of your own. You have come from the bytes
# of a file to a question that is still open. [Lesson 13](13_as_fast_as_the_arithmetic.ipynb) shows where the time of
# a training step goes; [lesson 16](16_signals_through_a_deep_net.ipynb) is about deep networks.
