# %% [markdown]
# # 9. Under-fit, good fit, over-fit
#
# **Goal.** See the three ways in which training can end, tell them apart by two curves, and learn what helps
# against each.
#
# **Time.** 20 minutes. **Before this:** tutorial 4.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
from dataclasses import replace

import numpy as np

from minidl.data import load_mnist
from minidl.data.batches import Examples, split
from minidl.optim import Adam
from minidl.teach import show
from minidl.trainer import Trainer, evaluate
from minidl.training.models import count_parameters, perceptron

# %% [markdown]
# Of the 4,000 training images we keep 800 for validation. `only(800)` is a smaller training set: with few
# images, the effects are large.

# %%
splits = split(load_mnist(name="mnist5k"), val_fraction=0.2, seed=0)


def only(n):
    """The same splits with n training images."""
    return replace(splits, train=Examples(splits.train.images[:n], splits.train.labels[:n]))


def network(hidden, dropout=0.0):
    """A perceptron with so many hidden units in each layer."""
    rng = np.random.default_rng(0)
    return perceptron(splits.image_size, hidden, splits.classes, rng, dropout)


def train(model, n=800, epochs=16, **options):
    """Train with Adam on n images; returns the record of each epoch."""
    optimizer = Adam(model.parameters(), **options)
    return Trainer(model, optimizer, only(n), batch_size=64).fit(epochs, verbose=False)


# %% [markdown]
# Three trainings: a network with 3 hidden units; one with 512 and 256, with dropout, on all 3,200 images; and
# one with 512 and 512 on 800 images, with nothing to hold it back.
#
# **Predict before you run.** For each, sketch the loss on training and on validation images over the epochs.
# Which of the three has the largest gap between the two? Which ends lowest on validation?

# %%
trainings = {
    "under-fit": (network([3]), 800, 16),
    "good fit": (network([512, 256], dropout=0.3), 3200, 6),
    "over-fit": (network([512, 512]), 800, 16),
}
records = {}
print("            weights  training  validation    gap   (accuracy)")
for name, (model, n, epochs) in trainings.items():
    records[name] = train(model, n, epochs)
    learned, new = evaluate(model, only(n).train)[1], evaluate(model, splits.val)[1]
    weights = count_parameters(model)
    print(f"{name:9} {weights:>9,}     {learned:.3f}       {new:.3f}  {learned - new:.3f}")

# %%
for name, record in records.items():
    lines = {f"{name}, training": [r["train_loss"] for r in record]}
    lines[f"{name}, validation"] = [r["val_loss"] for r in record]
    show.curves(lines, xlabel="epoch", ylim=(0, 2.4))

# %% [markdown]
# How to read such a pair of curves:
#
# | training loss | validation loss | it is called | what helps |
# |---|---|---|---|
# | high | nearly the same | under-fit | a larger model, longer training |
# | falling | falling with it | good so far | go on |
# | near zero | stopped falling, or rising | over-fit | more data, stop earlier, dropout, weight decay |
#
# Mind that over-fitting shows in the *loss* first. The accuracy only asks which digit is first; the loss also
# asks how sure the network is, and an over-fit network is very sure, also where it is wrong.
#
# ## How large should a network be?
#
# Let us vary one thing, the number of hidden units.
#
# **Predict before you run.** Will the validation accuracy go down again when the network is made much too
# large?

# %%
widths = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
train_accuracy, val_accuracy = [], []
for width in widths:
    model = network([width])
    record = train(model)
    train_accuracy.append(evaluate(model, only(800).train)[1])
    val_accuracy.append(record[-1]["val_accuracy"])
places = np.log2(widths)
show.curves(
    {"training": (places, train_accuracy), "validation": (places, val_accuracy)},
    xlabel="hidden units, as a power of 2",
    ylabel="accuracy",
)

# %% [markdown]
# From some width on the training images are learned by heart, yet the validation accuracy hardly suffers. That
# networks far larger than their data still do well is one of the things that theory did not expect. What
# decides is not only what a network *can* represent, but also which of the many perfect solutions the optimizer
# walks into: that is what tutorial 10 is about.
#
# ## What a large network can learn by heart
#
# Now we shuffle the labels: a picture of a 3 may be called 7. There is nothing left to understand.
#
# **Predict before you run.** Which accuracy will the large network reach on these training images? And on
# validation?

# %%
few = only(800)
shuffled = np.random.default_rng(1).permutation(few.train.labels)
nonsense = replace(few, train=Examples(few.train.images, shuffled))
model = network([512, 512])
record = Trainer(model, Adam(model.parameters()), nonsense, batch_size=64).fit(30, verbose=False)
show.curves(
    {
        "training, shuffled labels": [r["train_accuracy"] for r in record],
        "validation, true labels": [r["val_accuracy"] for r in record],
    },
    xlabel="epoch",
    ylabel="accuracy",
)

# %% [markdown]
# It learns the nonsense, image by image (Zhang et al. 2017 did this first). So a high training accuracy proves
# nothing by itself. Only images that it has never seen tell.
#
# ## The best cure
#
# **Predict before you run.** A network with 256 and 128 hidden units, with 100, 200, ... training images: how
# does the gap change?

# %%
counts = [100, 200, 400, 800, 1600, 3200]
train_accuracy, val_accuracy = [], []
for n in counts:
    model = network([256, 128])
    record = train(model, n, epochs=max(8, 6400 // n))
    train_accuracy.append(evaluate(model, only(n).train)[1])
    val_accuracy.append(record[-1]["val_accuracy"])
show.curves(
    {"training": (counts, train_accuracy), "validation": (counts, val_accuracy)},
    xlabel="training images",
    ylabel="accuracy",
)

# %% [markdown]
# More data closes the gap like nothing else. Where there is no more data, the exercises try the other cures.
#
# ## Exercises
#
# **1.** *Early stopping.* At which epoch was the validation loss of the over-fit network lowest? How much is
# lost by training on?
#
# <details><summary>Answer</summary>
#
# ```python
# val_losses = [r["val_loss"] for r in records["over-fit"]]
# best = int(np.argmin(val_losses))
# print(f"lowest {val_losses[best]:.3f} in epoch {best + 1}, at the end {val_losses[-1]:.3f}")
# assert val_losses[best] < val_losses[-1]
# ```
#
# The loss gets worse; look at the accuracies too before you conclude that training on is bad.
#
# </details>
#
# **2.** *Weight decay* pulls all weights towards zero at each step. Train the over-fit network with
# `weight_decay=1e-3`. Does the gap shrink? Does the validation loss?
#
# <details><summary>Answer</summary>
#
# ```python
# losses, gaps = {}, []
# for decay in (0.0, 1e-3, 1e-2):
#     model = network([512, 512])
#     record = train(model, weight_decay=decay)
#     losses[f"weight decay {decay:g}"] = [r["val_loss"] for r in record]
#     learned, new = evaluate(model, only(800).train)[1], record[-1]["val_accuracy"]
#     gaps.append(learned - new)
#     print(f"weight decay {decay:g}: training {learned:.3f}, validation {new:.3f}, gap {gaps[-1]:.4f}")
# show.curves(losses, xlabel="epoch", ylabel="validation loss")
# assert gaps[0] < min(gaps[1:])
# ```
#
# Here it does not: the gap grows a little, for all three learn the training images by heart while the validation
# accuracy falls. A little decay lowers the validation *loss*, since smaller weights make less sure answers; more of
# it raises the loss too. A cure has to be tried, not believed.
#
# </details>
#
# **3.** *Dropout* sets random hidden numbers to zero in training. Give `perceptron` `dropout=0.5` and hidden
# layers of 512 and 512. Why is the training accuracy in the record *lower* than the validation accuracy in the
# first epochs?
#
# <details><summary>Answer</summary>
#
# ```python
# record = train(network([512, 512], dropout=0.5))
# lines = {
#     "training": [r["train_accuracy"] for r in record],
#     "validation": [r["val_accuracy"] for r in record],
# }
# show.curves(lines, xlabel="epoch", ylabel="accuracy")
# assert record[0]["train_accuracy"] < record[0]["val_accuracy"]
# ```
#
# For two reasons: in training half of the network is switched off, in validation none of it; and the training
# accuracy is counted *during* the epoch, the validation accuracy at its end.
#
# </details>
#
# **4.** Somebody trains 20 networks and keeps the one with the best *test* accuracy. Why is that number too
# good? Make the case with numbers: 20 "networks" that guess at random on 100 images.
#
# <details><summary>Answer</summary>
#
# ```python
# rng = np.random.default_rng(0)
# accuracies = (rng.integers(0, 10, (20, 100)) == rng.integers(0, 10, 100)).mean(axis=1)
# print(f"mean {accuracies.mean():.3f}, best of 20 {accuracies.max():.3f}")
# assert accuracies.max() > accuracies.mean() + 0.02
# ```
#
# The best of many is lucky as well as good. Choose by validation; look at the test images once, at the end.
#
# </details>
#
# ## What to read next
#
# [`minidl/training/models.py`](../minidl/training/models.py): the models by name.
# [`minidl/trainer.py`](../minidl/trainer.py): how the record of an epoch is made. Then [tutorial
# 10](10_where_adaptive_methods_fail.ipynb): data on which the choice of the optimizer decides between all right and
# hopeless.
