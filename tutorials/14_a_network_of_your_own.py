# %% [markdown]
# # 14. A network of your own
#
# **Goal.** Build a network of your own and take it through every stage: data, split, training, curves, the test, a
# saved file, resuming on another day, PyTorch and back. See common mistakes that raise no error in Python, and how
# the library reports them.
#
# **Time.** 25 minutes. **Before this:** lessons 4 and 8.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import tempfile
import warnings
from pathlib import Path

import numpy as np

from minidl import Trainer, evaluate, load_mnist, load_run, nn, seed, split
from minidl.optim import SGD, Adam, Hybrid, Plateau, Rule
from minidl.teach import show

folder = Path(tempfile.mkdtemp())  # for what this lesson saves

# %% [markdown]
# ## Data
#
# `load_mnist` takes the name of a data set, or a folder with four files of your own. `split` sets some training
# images aside for validation. The test images are for the end.

# %%
data = load_mnist("mnist5k")
print(data)
splits = split(data, val_fraction=0.1, seed=0)
print(splits.train)

# %% [markdown]
# ## A network
#
# A network is a class with two methods. `__init__` makes its layers, as attributes. `forward` computes the output for
# a batch `x`. This one has a *skip connection*: the input of two convolutions is added to their output, which a
# `Sequential` cannot express.


# %%
class Around(nn.Module):
    def __init__(self, channels=8):
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.inner1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.inner2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(channels * 7 * 7, 10, init="xavier")

    def forward(self, x):
        x = self.first(x).relu()  # (N, 8, 14, 14)
        around = self.inner2(self.norm(self.inner1(x)).relu())
        x = self.pool((x + around).relu())  # (N, 8, 7, 7)
        return self.last(x.flatten(1))  # logits (N, 10)


with seed(0):  # the same initial weights in each run
    net = Around()
print(net)

# %% [markdown]
# Before you train it, run the network once: a wrong shape shows here.
#
# **Predict before you run.** The network has not learned anything yet. About how large will its loss be, for ten
# classes? (The loss is the mean of -log of the probability that the network gives to the right class.)

# %%
loss, accuracy = evaluate(net, splits.val)
print(f"before training: loss {loss:.2f}, accuracy {accuracy:.1%}; -log(1/10) is {np.log(10):.2f}")

# %% [markdown]
# ## Training
#
# A Trainer takes the network, an optimizer for its parameters, and the data. `fit(3)` trains for three epochs and
# prints a line for each. With `folder=` the run is saved: its settings, the metrics of each epoch, checkpoints, and
# the final results.

# %%
trainer = Trainer(net, Adam(net.parameters(), lr=3e-3), splits, batch_size=64, seed=0, folder=folder / "around")
trainer.fit(3)

# %%
trainer.fit(2)  # two more epochs, as in Keras

# %%
show.curves(trainer.metrics)

# %% [markdown]
# Now use the test images, once. `predict` gives the probability of each class, and `show.mistakes` shows the images
# whose label got the lowest probability.

# %%
result = evaluate(net, splits.test)
print(result)
images, labels = splits.test
show.mistakes(images, labels, trainer.predict(images), n=10)

# %% [markdown]
# ## Resuming on another day
#
# `load_run` loads a run from its folder. The class of the network is yours, so you pass it; everything else is in the
# folder.
#
# **Predict before you run.** One run trains for five epochs, stops, and trains for one more the next day. Another
# trains for six without a break. Will their weights be equal: roughly, to the last printed digit, or in every bit?

# %%
run = load_run(folder / "around", model=Around)
run.fit(1)
with seed(0):
    straight = Around()
Trainer(straight, Adam(straight.parameters(), lr=3e-3), splits, batch_size=64, seed=0).fit(6, verbose=False)
same = [
    np.array_equal(a, b) for a, b in zip(run.model.state_dict().values(), straight.state_dict().values(), strict=True)
]
print(f"{sum(same)} of {len(same)} arrays are equal in every bit")

# %% [markdown]
# The same holds after Ctrl-C or the stop button of a notebook: training stops between two steps and saves, and `fit`
# continues from there.
#
# ## The weights alone
#
# A file with only the weights is for other programs. PyTorch's `load_state_dict` accepts it, because the names and
# the shapes are those of PyTorch.

# %%
run.model.save(folder / "around.safetensors")
for name, array in run.model.state_dict().items():
    print(f"{name:26} {array.shape}")
again = Around().load(folder / "around.safetensors")
print(evaluate(again, splits.test) == run.evaluate())

# %% [markdown]
# ## Common mistakes
#
# Python finds no error in these programs, but they learn nothing, or less than they could. The library reports each
# mistake that it can detect, once.


# %%
class Listed(nn.Module):
    def __init__(self):
        self.hidden = [nn.Linear(784, 32), nn.Linear(32, 32)]
        self.last = nn.Linear(32, 10)


class Rebinds(Rule):
    name = "rebinds"

    def rule(self, g, p, lr):
        p = -lr * g  # noqa: F841 (this is the mistake)


def told(program):
    """Run it, and print its errors and warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            program()
        except (TypeError, ValueError) as error:
            print(f"error: {error}\n")
    for warning in caught:
        print(f"warning: {warning.message}\n")


with seed(0):
    a, b = Around(), Around()
c = Around()
raw = splits.train.images.astype(np.float32), splits.train.labels
told(lambda: Adam(Listed().parameters()))
told(lambda: Trainer(a, Rebinds(a.parameters(), 0.1), splits).fit(1, verbose=False))
told(lambda: Trainer(a, Adam(b.parameters()), splits))
told(lambda: Trainer(a, Adam(a.parameters()), raw))
told(lambda: Trainer(c, Adam(c.parameters()), splits))
told(lambda: Trainer(a, Hybrid(a.parameters(), Adam(), SGD(lr=0.01), switch=Plateau("val_los")), splits))

# %% [markdown]
# ## Exercises
#
# **1.** Leave out the skip connection: `x = self.pool(around.relu())`. Is the network worse on the validation images?
#
# <details><summary>Answer</summary>
#
# ```python
# class Straight(Around):
#     def forward(self, x):
#         x = self.first(x).relu()
#         around = self.inner2(self.norm(self.inner1(x)).relu())
#         return self.last(self.pool(around.relu()).flatten(1))
#
#
# with seed(0):
#     other = Straight()
# record = Trainer(other, Adam(other.parameters(), lr=3e-3), splits, batch_size=64).fit(5, verbose=False)
# print(f"with {trainer.metrics[-1]['val_accuracy']:.1%}, without {record[-1]['val_accuracy']:.1%}")
# assert record[-1]["val_accuracy"] > 0.9
# ```
#
# Hardly, in such a shallow network: one seed can't tell. Skip connections help in networks of ten layers and more
# (see lesson 16).
#
# </details>
#
# **2.** Write the optimizer Lion (Chen et al. 2023), a rule of two lines, and train with it: the step is `-lr
# sign(0.9 m + 0.1 g)`, then `m <- 0.99 m + 0.01 g`. Use a tenth of Adam's learning rate.
#
# <details><summary>Answer</summary>
#
# ```python
# class Lion(Rule):
#     name, vectors = "lion", ("m",)
#
#     def rule(self, g, p, lr, m):
#         p[...] = -lr * np.sign(0.9 * m + 0.1 * g)
#         m[...] = 0.99 * m + 0.01 * g
#
#
# with seed(0):
#     other = Around()
# record = Trainer(other, Lion(other.parameters(), 3e-4), splits, batch_size=64).fit(3)
# assert record[-1]["val_accuracy"] > 0.8
# ```
#
# `p[...] =` and `m[...] =` write into the arrays that the library passes in, and `vectors` names those that it keeps
# from step to step.
#
# </details>
#
# **3.** Use Adam until the validation accuracy is above 93 %, then SGD, with a condition of your own. At which step
# is the switch?
#
# <details><summary>Answer</summary>
#
# ```python
# def good_enough(progress):
#     return max(progress.history("val_accuracy"), default=0) > 0.93
#
#
# with seed(0):
#     other = Around()
# hybrid = Hybrid(other.parameters(), Adam(lr=3e-3), SGD(lr=0.01, momentum=0.9), switch=good_enough)
# Trainer(other, hybrid, splits, batch_size=64).fit(5, verbose=False)
# print(hybrid.verdict())
# assert hybrid.switch_event is not None
# ```
#
# `history` is empty until the first epoch has ended, hence `default=0`. The verdict names the step and the condition.
#
# </details>
#
# **4.** A batch for a convolution needs a channel axis. Give the network `splits.val.images[:5]`, which has none,
# scaled to values from 0 to 1, and read the error. Fix it.
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl import Tensor
#
# x = splits.val.images[:5] / np.float32(255)
# try:
#     net(Tensor(x))
# except ValueError as error:
#     print(error)
# assert net.eval()(Tensor(x[:, None])).shape == (5, 10)
# ```
#
# `x[:, None]` has the shape (5, 1, 28, 28): five images with one channel. `predict` and the Trainer add this axis
# themselves.
#
# </details>
#
# ## What to read next
#
# [Three complete programs](pages/programs.md) of at most thirty lines each.
# [`minidl/trainer.py`](../minidl/trainer.py): the loop behind `fit`.
# [`minidl/program/load.py`](../minidl/program/load.py): what `load_run` restores from a folder, and what you must
# pass.
