# %% [markdown]
# # 17. The recipe to 99 %
#
# **Goal.** Go from a network that learns to one that is good: look at its errors, change one thing at a time, and know
# which of the changes helped and which were luck. Schedule, augmentation, dropout and random search are the tools; an
# interval is what keeps you honest.
#
# **Time.** 25 minutes. **Before this:** tutorials 8 and 9.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
import math

import numpy as np

from minidl import nn, no_grad, ops
from minidl.data import load_mnist
from minidl.data.batches import batches, split
from minidl.optim import Adam
from minidl.optim.schedule import cosine
from minidl.teach import show

# %% [markdown]
# Of the 4,000 training images we learn from 2,000 and keep 2,000 for validation. So many, because we want to see
# *small* differences. The test images stay in the drawer until the end.
#
# The network is a small CNN, and the training loop is the one of tutorial 4, with three switches: each is a change
# that we might make.

# %%
dataset = load_mnist(name="mnist5k")
splits = split(dataset, val_fraction=0.5, seed=0)


def network(seed, dropout=0.0):
    """Two convolutions with stride 2, a layer of 64 units, the output."""
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, rng=rng),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, rng=rng),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, 64, rng=rng),
        nn.ReLU(),
        nn.Dropout(dropout, rng=seed),
        nn.Linear(64, 10, init="xavier", rng=rng),
    )


def shifted(images, by, rng):
    """Each image moved at random by up to `by` pixels, up or down and left or right."""
    padded = np.pad(images, ((0, 0), (by, by), (by, by)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:], axis=(1, 2))
    down, right = rng.integers(0, 2 * by + 1, (2, len(images)))
    return windows[np.arange(len(images)), down, right]


def train(seed, schedule=False, shift=0, dropout=0.0, epochs=8, lr=0.005, data=splits.train):
    """Train a network; every choice has a default that leaves it out."""
    model, rng = network(seed, dropout), np.random.default_rng(seed)
    steps = epochs * math.ceil(len(data) / 50)
    optimizer = Adam(model.parameters(), lr=cosine(lr, steps) if schedule else lr)
    for _ in range(epochs):
        images = shifted(data.images, shift, rng) if shift else data.images
        for x, labels in batches(images, data.labels, 50, rng):
            loss = ops.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def answers(model, data):
    """The logits for all images of a split."""
    with no_grad():
        x, _ = next(batches(data.images, data.labels, len(data)))
        return model(x).numpy()


def accuracy(model, data=splits.val):
    return float((answers(model, data).argmax(1) == data.labels).mean())


base = train(seed=0)
print(f"{sum(p.size for p in base.parameters()):,} weights, validation accuracy {accuracy(base):.1%}")

# %% [markdown]
# ## How exactly do we know this?
#
# 2,000 images are a sample. Had we drawn others, another number would stand there. The accuracy p of n images has a
# standard error of $\sqrt{p(1-p)/n}$, and about 19 times of 20 the truth lies within two of these.
#
# **Predict before you run.** How wide is the interval with 2,000 images? How many images would one need to tell
# 99.0 % from 99.1 %?


# %%
def interval(p, n):
    """Wilson's interval for a share p of n, 95 %. Near 0 and 1 it is right where two standard errors are not."""
    z = 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - half, middle + half


low, high = interval(accuracy(base), len(splits.val))
print(f"validation accuracy {accuracy(base):.1%}, 95 % interval {low:.1%} to {high:.1%}")
for n in (400, 2_000, 10_000):
    low, high = interval(0.99, n)
    print(f"99.0% of {n:>6,} images: {low:.2%} to {high:.2%}")
needed = 2 * 1.96**2 * 0.99 * 0.01 / 0.001**2
print(f"to tell 99.0% from 99.1% with two samples: about {needed:,.0f} images each")

# %% [markdown]
# More than MNIST has. (Two networks on the *same* images can be compared more finely, since what is hard for one is
# hard for the other: exercise 1.) Keep this in mind when somebody reports an improvement of a tenth of a point.
#
# ## Look at the errors first
#
# Before any change: what does it get wrong? A *confusion matrix* has the label by row and the answer by column; the
# right ones, on the diagonal, are left out here.

# %%
logits = answers(base, splits.val)
guesses, labels = logits.argmax(1), splits.val.labels
confusion = np.zeros((10, 10), dtype=int)
np.add.at(confusion, (labels, guesses), 1)
np.fill_diagonal(confusion, 0)
show.numbers(confusion)
worst = np.dstack(np.unravel_index(np.argsort(confusion, axis=None)[::-1][:5], (10, 10)))[0]
print(f"{confusion.sum()} errors; most often:", ", ".join(f"{a} taken for {b} ({confusion[a, b]})" for a, b in worst))

# %% [markdown]
# **Predict before you run.** Below are the errors of which the network was most sure. What is special about these
# images? Which change would help: a larger network, more images, or images that are moved, tilted, thicker?

# %%
wrong = np.flatnonzero(guesses != labels)
sure = np.exp(logits[wrong] - np.log(np.exp(logits[wrong]).sum(1, keepdims=True))).max(1)
order = wrong[np.argsort(-sure)][:20]
show.digits(splits.val.images[order], labels[order], guesses[order])
print(f"the network gave its wrong answer a probability of {np.sort(sure)[-20:].mean():.1%} on average")

# %% [markdown]
# Some are hard for us too. Many are plain digits written in another way: slanted, wide, off the middle. The network
# has seen too few ways of writing. It is very sure, too, which is what over-fitting looks like (tutorial 9): on the
# 2,000 images that it learned from it makes hardly an error.

# %%
print(f"training accuracy {accuracy(base, splits.train):.1%}")

# %% [markdown]
# ## One change at a time
#
# Three changes, each by itself:
#
# - **schedule**: the rate falls along a cosine to zero over the run (`optim/schedule.py`);
# - **shifts**: *augmentation*. In each epoch each image is moved by up to one pixel: the digit stays the same, and
#   the network hardly sees the same picture twice;
# - **dropout**: in training a fifth of the 64 units is set to zero, other ones at each step.
#
# One run of each says little: another seed is another network. So each is run with four seeds, and compared with
# the baseline *of the same seed*. The mean of the four differences has an interval too: Student's, with 3.18
# standard errors for four values.
#
# **Predict before you run.** Rank the three changes by what they bring. Will their gains add up?

# %%
changes = {
    "baseline": {},
    "schedule": {"schedule": True},
    "shifts": {"shift": 1},
    "dropout": {"dropout": 0.2},
    "schedule and shifts": {"schedule": True, "shift": 1},
}
seeds = range(4)
found = {name: np.array([accuracy(train(seed, **how)) for seed in seeds]) for name, how in changes.items()}


def difference(name):
    """Mean difference from the baseline in points, and half of its 95 % interval, over the seeds."""
    points = 100 * (found[name] - found["baseline"])
    return points.mean(), 3.18 * points.std(ddof=1) / math.sqrt(len(points))


for name, values in found.items():
    gain, half = difference(name)
    words = "" if name == "baseline" else f"  {gain:+.2f} points ({gain - half:+.2f} to {gain + half:+.2f})"
    print(f"{name:20} {values.mean():.2%}{words}")
show.dots({name: 100 * values for name, values in found.items()}, xlabel="validation accuracy in %")

# %% [markdown]
# Alone, neither the schedule (-0.01 points) nor dropout (+0.01 points) does anything that four seeds could show. The
# shifts bring about one point, +0.91 points, but even so their interval still has zero in it: two seeds more and we
# would know. Only the last row is clear of zero: +1.50 points, from +0.47 to +2.53. Gains do *not* add up; here the
# schedule is worth something only to a network that has not learned all its images by heart.
#
# Without the intervals we would have thrown the schedule away, and kept the dropout of a lucky seed. Batch
# normalization (tutorial 16) and weight decay (tutorial 9) would be rows of the same table.
#
# ## Random search
#
# The changes have numbers of their own: which rate, how much dropout, how far to shift? To try all combinations on
# a grid wastes runs: with 3 values for each of 3 numbers, 27 runs try only 3 rates. Bergstra & Bengio 2012: draw
# each number at random, and every run tries a new value of each. Rates are drawn by their logarithm, for what
# matters is the factor.
#
# **Predict before you run.** Eight runs of four epochs. Will the best of them be as good when it is run again with
# other seeds?

# %%
rng = np.random.default_rng(3)
trials = []
for _ in range(8):
    how = {
        "lr": float(10 ** rng.uniform(-3.3, -1.7)),
        "dropout": float(rng.choice([0.0, 0.1, 0.2, 0.4])),
        "shift": int(rng.integers(0, 3)),
        "schedule": True,
        "epochs": 4,
    }
    trials.append((accuracy(train(seed=0, **how)), how))
trials.sort(key=lambda trial: -trial[0])
for value, how in trials:
    print(f"{value:.2%}  rate {how['lr']:.4f}, dropout {how['dropout']}, shift {how['shift']}")
best_value, best = trials[0]
again = [accuracy(train(seed, **best)) for seed in (11, 12, 13)]
print(f"the best again, with three other seeds: {np.mean(again):.2%} on average, when it was chosen {best_value:.2%}")

# %% [markdown]
# The best was 94.85% when it was chosen and has 94.33% when it is run again. It was chosen for its luck too: the
# best of eight is good *and* lucky, and only new seeds tell how much of which. The list also shows what matters
# most: all the slow rates are at its bottom, whatever else was drawn. So one searches again, near the good rates,
# with more epochs; `python -m minidl.tune` does such a search.
#
# ## The recipe, once
#
# Now all is decided: schedule and shifts, twice as many epochs, for augmented images are not used up so soon, and all
# 4,000 training images. The test images are looked at once.

# %%
everything = split(dataset, val_fraction=0.0, seed=0).train
final = train(seed=0, schedule=True, shift=1, epochs=16, data=everything)
score = accuracy(final, splits.test)
low, high = interval(score, len(splits.test))
before, after = accuracy(base, splits.test), score
print(f"test accuracy {score:.1%}, 95 % interval {low:.1%} to {high:.1%}; the baseline has {before:.1%}")
assert after > before

# %% [markdown]
# From 94.2% to 96.8%: nearly half of the errors are gone, and not one of the changes was a larger network. 99 % is
# out of reach with 4,000 images; it takes the full MNIST.
#
# On the full MNIST, measured on 2026-11-27 with the functions of this lesson (`name="mnist"`, 50,000 images to learn
# from and 10,000 to validate with; the mean of three seeds; one run takes about 20 seconds on one core):
#
# | | validation | test |
# |---|---|---|
# | baseline, 8 epochs | 97.98 % | 98.20 % |
# | dropout | 98.08 % | 98.26 % |
# | shifts | 98.42 % | 98.74 % |
# | schedule | 98.71 % | 98.92 % |
# | schedule and shifts | 98.90 % | 99.14 % |
# | schedule and shifts, 16 epochs, all 60,000 images | | **99.22 %** |
#
# Two things to take home. 99 % is there, with 27,690 weights. And the order is another one: with 25 times as
# many images the schedule, which did nothing above, brings more than the shifts. What helps depends on what is
# lacking; with 2,000 images it is ways of writing. A recipe that was found on one data set is a suggestion for the
# next, no law.
#
# ## Exercises
#
# **1.** Two networks on the same images: only the images count on which just one of them is right. If they were
# equally good, each of these would be like the toss of a coin (McNemar's test). Compare `base` and `final` on the
# test images.
#
# <details><summary>Answer</summary>
#
# ```python
# test = splits.test
# one = answers(base, test).argmax(1) == test.labels
# two = answers(final, test).argmax(1) == test.labels
# only_base, only_final = int((one & ~two).sum()), int((two & ~one).sum())
# n = only_base + only_final
# chance = sum(math.comb(n, k) for k in range(min(only_base, only_final) + 1)) / 2 ** (n - 1)
# print(f"only the baseline is right: {only_base}; only the final network: {only_final}; by chance: {chance:.1e}")
# assert chance < 0.05
# ```
#
# The images that both get right or both get wrong say nothing about the difference, and most are of that kind. So a
# difference shows here that two intervals, side by side, would not have shown.
#
# </details>
#
# **2.** Shift by up to three pixels. Does more augmentation help more?
#
# <details><summary>Answer</summary>
#
# ```python
# far = [accuracy(train(seed, schedule=True, shift=3)) for seed in range(2)]
# print(f"shifts of up to 1: {found['schedule and shifts'][:2].mean():.2%}; of up to 3: {np.mean(far):.2%}")
# ```
#
# Not within the same number of epochs. MNIST's digits are centred, so images that lie far off the middle are work for
# the network that no test image asks for. Augmentation should make what *could have been* in the data.
#
# </details>
#
# **3.** Turn the digits by up to 10 degrees, too. What must one *not* do to digits that one may do to photographs
# of cats?
#
# <details><summary>Answer</summary>
#
# ```python
# def turned(images, degrees, rng):
#     """Each image turned by a random angle, the nearest pixel taken."""
#     angle = np.radians(rng.uniform(-degrees, degrees, len(images)))[:, None, None]
#     y, x = np.mgrid[:28, :28] - 13.5
#     down = np.rint(np.cos(angle) * y - np.sin(angle) * x + 13.5).astype(int).clip(0, 27)
#     right = np.rint(np.sin(angle) * y + np.cos(angle) * x + 13.5).astype(int).clip(0, 27)
#     return images[np.arange(len(images))[:, None, None], down, right]
#
#
# sample = splits.train.images[:10]
# show.digits(np.concatenate([sample, turned(sample, 10, np.random.default_rng(0))]))
# ```
#
# One must not mirror them, and not turn them far: a 6 on its head is a 9. A cat in a mirror is a cat.
#
# </details>
#
# **4.** Somebody tries 100 settings with one seed each and reports the best validation accuracy. How far above the
# truth is it, if all are equally good, with 98 % on 2,000 images?
#
# <details><summary>Answer</summary>
#
# ```python
# rng = np.random.default_rng(0)
# best_of_100 = (rng.binomial(2000, 0.98, (1000, 100)) / 2000).max(axis=1)
# print(f"true 98.00%; the best of 100, on average: {best_of_100.mean():.2%}")
# assert best_of_100.mean() > 0.985
# ```
#
# Nearly a point, from luck alone: half of all errors gone without anything having improved. Whoever tries more must
# check the winner on images that did not choose it.
#
# </details>
#
# ## What to read next
#
# [`optim/schedule.py`](../optim/schedule.py): schedules. [`minidl/tune.py`](../minidl/tune.py): random search from
# the command line, `python -m minidl.tune --help`. [Tutorial 12](12_read_the_study.ipynb): the same honesty for a
# comparison of optimizers. Then [tutorial 18](18_what_it_looks_at.ipynb): what does such a network look at?
