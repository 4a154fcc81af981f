# %% [markdown]
# # 9. Under-fit, good fit, over-fit
#
# **Goal.** See the three possible outcomes of training, tell them apart by two curves, and learn what helps against
# under-fitting and over-fitting.
#
# **Time.** 20 minutes. **Before this:** lesson 4.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
from dataclasses import replace

import numpy as np

from minidl.data import Examples, load_mnist, split
from minidl.optim import Adam
from minidl.teach import show
from minidl.trainer import Trainer, evaluate
from minidl.training.models import count_parameters, perceptron

# %% [markdown]
# Of the 4,000 training images we set 800 aside for validation. `only(800)` is a smaller training set: with few
# images, the effects are large.

# %%
splits = split(load_mnist(name="mnist5k"), val_fraction=0.2, seed=0)


def only(n):
    """The same splits with n training images."""
    return replace(splits, train=Examples(splits.train.images[:n], splits.train.labels[:n]))


def network(hidden, dropout=0.0):
    """An MLP with these numbers of hidden units, layer by layer."""
    rng = np.random.default_rng(0)
    return perceptron(splits.image_size, hidden, splits.classes, rng, dropout)


def train(model, n=800, epochs=16, **options):
    """Train with Adam on n images; returns the record of each epoch."""
    optimizer = Adam(model.parameters(), **options)
    return Trainer(model, optimizer, only(n), batch_size=64).fit(epochs, verbose=False)


# %% [markdown]
# We train three networks: one with 3 hidden units; one with 512 and 256, with dropout (see exercise 3), on all 3,200
# images; and one with 512 and 512 on 800 images, without dropout.
#
# **Predict before you run.** For each, sketch the training loss and the validation loss over the epochs. Which of the
# three has the largest gap between the two? Which ends with the lowest validation loss?

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
# | training loss | validation loss | name | what helps |
# |---|---|---|---|
# | high | nearly the same | under-fit | a larger model, longer training |
# | falling | falling with it | good so far | train longer |
# | near zero | stopped falling, or rising | over-fit | more data, stop earlier, dropout, weight decay |
#
# Over-fitting shows in the *loss* first. The accuracy depends only on which digit has the largest probability. The
# loss also depends on how confident the network is, and an over-fit network is very confident even when it is wrong.
#
# ## How large should a network be?
#
# Let us vary only the number of hidden units.
#
# **Predict before you run.** Will the validation accuracy fall again when the network is far too large?

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
# Above some width, the network memorizes the training images, yet the validation accuracy hardly suffers. Classical
# theory did not predict that networks with far more weights than training examples still generalize well. What
# matters is not only what a network *can* represent, but also which of the many perfect solutions the optimizer
# finds: lesson 10 is about that.
#
# ## What a large network can memorize
#
# Now shuffle the labels: the label of a 3 may be 7. There is no pattern left to learn.
#
# **Predict before you run.** Which accuracy will the large network reach on these training images? And on the
# validation images?

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
# It memorizes the random labels, image by image (Zhang et al. 2017). So a high training accuracy proves nothing by
# itself. Only images that were not used for training can show what the network has learned.
#
# ## The best remedy
#
# **Predict before you run.** Train a network with 256 and 128 hidden units on 100, 200, ... images: how does the gap
# change?

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
# Nothing closes the gap as well as more data. The exercises try what else you can do when there is no more data.
#
# ## Exercises
#
# **1.** *Early stopping.* In which epoch was the validation loss of the over-fit network lowest? How much worse is it
# at the end?
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
# The loss gets worse. Look at the accuracies too before you conclude that longer training is bad.
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
# Here the gap does not shrink: it grows a little, because all three networks fit at least 99 % of the training images
# while the validation accuracy falls. A little decay lowers the final validation *loss*, since smaller weights make
# less confident predictions; more decay raises the loss too. Whether a remedy helps has to be measured.
#
# </details>
#
# **3.** *Dropout* sets randomly chosen hidden units to zero during training. Use `dropout=0.5` and hidden layers of
# 512 and 512. Why is the training accuracy in the record *lower* than the validation accuracy in the first epochs?
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
# For two reasons: in training, half of the hidden units are switched off, in validation none; and the training
# accuracy is measured *during* the epoch, the validation accuracy at its end.
#
# </details>
#
# **4.** Someone trains 20 networks and keeps the one with the best *test* accuracy. Why is that accuracy too
# optimistic? Simulate it: 20 "networks" that guess at random on 100 images.
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
# The best of many is lucky as well as good. Choose by validation accuracy, and use the test images once, at the end.
#
# </details>
#
# ## What to read next
#
# [`minidl/training/models.py`](../minidl/training/models.py): the models by name.
# [`minidl/trainer.py`](../minidl/trainer.py): how the record of an epoch is made. Then [lesson
# 10](10_where_adaptive_methods_fail.ipynb): data on which one optimizer gets every new example right and the others
# fail.
