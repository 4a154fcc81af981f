# %% [markdown]
# # 4. An MLP learns digits
#
# **Goal.** Train a network of two layers on real handwritten digits with a loop of a few lines, see what it
# learned, and know how to check that its gradients are right.
#
# **Time.** 20 minutes. **Before this:** tutorials 1 and 2.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
import math

import numpy as np

from minidl import GradientError, gradcheck, nn, no_grad, ops
from minidl.data import load_mnist
from minidl.data.batches import batches, split
from minidl.optim import SGD
from minidl.teach import draw, show
from minidl.tensor import record

# %% [markdown]
# The data: 5,000 digits that come with the library. Of the training images a tenth is set aside for validation:
# to see how the network does on images that it did not learn from. With `name="mnist"` you get all 70,000.

# %%
splits = split(load_mnist(name="mnist5k"), val_fraction=0.1, seed=0)
print(f"{len(splits.train):,} images to train with, {len(splits.val)} to validate with")
show.digits(splits.train.images[:20], splits.train.labels[:20])

# %% [markdown]
# ## The network
#
# An image has 784 numbers. The first layer makes 64 new numbers out of them, each a weighted sum like the
# neuron of tutorial 2; `ReLU` sets the negative ones to 0; the second layer makes ten numbers, one for each
# digit. The largest of the ten is the answer. MLP stands for multi-layer perceptron.

# %%
rng = np.random.default_rng(0)
model = nn.Sequential(
    nn.Flatten(),
    nn.Linear(784, 64, rng=rng),
    nn.ReLU(),
    nn.Linear(64, 10, init="xavier", rng=rng),
)
print(model)
print(sum(p.size for p in model.parameters()), "weights")

# %% [markdown]
# The ten numbers are called logits. `softmax` turns them into probabilities, and the loss, the *cross-entropy*,
# is minus the logarithm of the probability that the network gives to the right digit. Sure and right: near 0.
# Sure and wrong: large.
#
# **Predict before you run.** The network has not learned anything yet; say that it gives each digit about the
# same probability, 1/10. What is the loss, roughly?

# %%
x, labels = next(batches(splits.train.images, splits.train.labels, 128, rng))
loss = ops.cross_entropy(model(x), labels)
print(f"loss {loss.item():.2f}; -log(1/10) = {-math.log(1 / 10):.2f}")
draw.graph(loss, **{name.replace(".", "_"): p for name, p in model.named_parameters()})

# %% [markdown]
# That is the whole graph. The weights are arrays now, so the boxes show shapes instead of numbers. The images
# are not in it, nor is flattening them: nobody asks for the gradient of a pixel.
#
# ## The loop
#
# Take a batch of images, compute the loss, walk back, step. Once through all images is an *epoch*.

# %%
optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
train_losses, val_losses, val_accuracies = [], [], []


def validate():
    """Loss and accuracy on the validation images; nothing is recorded for a backward()."""
    with no_grad():
        x, labels = next(batches(splits.val.images, splits.val.labels, len(splits.val)))
        logits = model(x)
        accuracy = (logits.numpy().argmax(1) == labels).mean()
        return ops.cross_entropy(logits, labels).item(), float(accuracy)


for epoch in range(8):
    for x, labels in batches(splits.train.images, splits.train.labels, 64, rng):
        loss = ops.cross_entropy(model(x), labels)
        train_losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    val_loss, val_accuracy = validate()
    val_losses.append(val_loss)
    val_accuracies.append(val_accuracy)
    print(f"epoch {epoch + 1}: validation loss {val_loss:.3f}, accuracy {val_accuracy:.1%}")

# %%
steps_per_epoch = len(train_losses) // len(val_losses)
ends = [steps_per_epoch * (i + 1) for i in range(len(val_losses))]
show.curves({"training, each batch": train_losses, "validation, each epoch": (ends, val_losses)})

# %% [markdown]
# Two things to see: the training loss is noisy, because each batch is another sample of the images; and it goes
# on falling where the validation loss has stopped. Tutorial 9 is about that.
#
# ## What it gets wrong

# %%
with no_grad():
    x, labels = next(batches(splits.val.images, splits.val.labels, len(splits.val)))
    guesses = model(x).numpy().argmax(1)
wrong = np.flatnonzero(guesses != labels)
print(len(wrong), "of", len(labels), "are wrong:")
show.digits(splits.val.images[wrong], labels[wrong], guesses[wrong])

# %% [markdown]
# Would you have got all of them?
#
# ## What it has learned
#
# Each of the 64 hidden numbers has 784 weights, one for each pixel: they are a picture. Red is positive: ink
# there makes the number larger. Blue is negative.
#
# **Predict before you run.** Will these pictures look like digits?

# %%
show.digits(model[1].weight.numpy()[:20].reshape(-1, 28, 28), signed=True)

# %% [markdown]
# They look like strokes, spots and borders: parts that many digits share. At the rim, where no image has any
# ink, the weights are still the random ones from the start: a pixel that is always 0 never gives its weight a
# gradient.
#
# ## Are the gradients right?
#
# A network with a wrong gradient often still learns, only worse: nobody notices. `gradcheck` notices. It moves
# every input a little and compares what the output does with what `backward()` says. A small network is enough.

# %%
small = np.random.default_rng(1)
x, w1, b1, w2, b2 = (small.normal(size=shape) for shape in [(5, 6), (4, 6), (4,), (3, 4), (3,)])
targets = np.array([0, 2, 1, 1, 0])


def network(x, w1, b1, w2, b2):
    return ops.cross_entropy(ops.linear(ops.linear(x, w1, b1).relu(), w2, b2), targets)


print("all gradients right:", gradcheck(network, [x, w1, b1, w2, b2]))

# %% [markdown]
# Now with a mistake of a common kind: a ReLU whose gradient does not ask whether the input was negative.


# %%
def careless_relu(x):
    return record("careless_relu", np.maximum(x.data, 0), (x, lambda g: g))


def careless_network(x, w1, b1, w2, b2):
    return ops.cross_entropy(ops.linear(careless_relu(ops.linear(x, w1, b1)), w2, b2), targets)


try:
    gradcheck(careless_network, [x, w1, b1, w2, b2])
except GradientError as error:
    print(error)

# %% [markdown]
# ## Exercises
#
# **1.** Start with all weights of both layers at zero. Predict which gradients are zero at the first step, then
# look.
#
# <details><summary>Answer</summary>
#
# ```python
# zero = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
# for p in zero.parameters():
#     p.data[...] = 0
# x, labels = next(batches(splits.train.images, splits.train.labels, 64))
# ops.cross_entropy(zero(x), labels).backward()
# for name, p in zero.named_parameters():
#     print(f"{name:10} largest gradient {np.abs(p.grad).max():.4f}")
# assert np.abs(zero[1].weight.grad).max() == 0 and np.abs(zero[3].bias.grad).max() > 0
# ```
#
# Only the last bias gets a gradient. The hidden numbers are all 0, so the last weights have no effect yet; and
# the way back to the first layer leads through those weights, which are 0. Random weights break this.
#
# </details>
#
# **2.** Leave out `optimizer.zero_grad()`. What do the gradients become, and what does the loss do?
#
# <details><summary>Answer</summary>
#
# ```python
# import warnings
#
#
# def train(forget, steps=150):
#     rng = np.random.default_rng(0)
#     layers = [nn.Linear(784, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng)]
#     net = nn.Sequential(nn.Flatten(), *layers)
#     opt, losses = SGD(net.parameters(), lr=0.1), []
#     stream = batches(splits.train.images, splits.train.labels, 16, rng)
#     for _, (x, labels) in zip(range(steps), stream):
#         loss = ops.cross_entropy(net(x), labels)
#         losses.append(loss.item())
#         if not forget:
#             opt.zero_grad()
#         loss.backward()
#         opt.step()
#     return losses
#
#
# with warnings.catch_warnings(record=True) as said:
#     with_it, without_it = train(forget=False), train(forget=True)
# print("the library says:", said[0].message)
# show.curves({"with zero_grad": with_it, "without": without_it})
# assert np.mean(without_it[-30:]) > np.mean(with_it[-30:])
# ```
#
# Gradients add up, so each step repeats all steps before it: momentum that never fades. The loss swings.
# Nothing crashes, which is why the library looks out for this and warns.
#
# </details>
#
# **3.** Take out the `ReLU`. How good is the network then, and why is it no better than a single layer?
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl.trainer import Trainer
#
# rng = np.random.default_rng(0)
# first, second = nn.Linear(784, 64, rng=rng), nn.Linear(64, 10, rng=rng)
# x, _ = next(batches(splits.val.images, splits.val.labels, 8))
# flat = ops.flatten(x, 1)
# two_layers = second(first(flat)).numpy()
# joined = second.weight.numpy() @ first.weight.numpy()
# one_layer = flat.numpy() @ joined.T + second.weight.numpy() @ first.bias.numpy() + second.bias.numpy()
# assert np.allclose(two_layers, one_layer, atol=1e-4)
# print("two layers without ReLU are one layer, with the product of the two matrices")
#
#
# def trained(*layers):
#     net = nn.Sequential(nn.Flatten(), *layers)
#     trainer = Trainer(net, SGD(net.parameters(), lr=0.1, momentum=0.9), splits, batch_size=64)
#     return trainer.fit(8, verbose=False)[-1]["val_accuracy"]
#
#
# without = trained(first, second)
# single = trained(nn.Linear(784, 10, rng=rng))
# with_relu = trained(nn.Linear(784, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng))
# print(f"validation accuracy: {without:.1%} without ReLU, {single:.1%} one layer, {with_relu:.1%} with ReLU")
# assert max(without, single) < with_relu
# ```
#
# Not better than a single layer, and clearly worse than with the ReLU: a weighted sum of weighted sums is a weighted
# sum. Only something that is not linear between them makes the second layer worth having.
#
# </details>
#
# **4.** Read the test accuracy once, now that all is decided.
#
# <details><summary>Answer</summary>
#
# ```python
# with no_grad():
#     x, labels = next(batches(splits.test.images, splits.test.labels, len(splits.test)))
#     accuracy = (model(x).numpy().argmax(1) == labels).mean()
# print(f"test accuracy {accuracy:.1%}")
# assert accuracy > 0.9
# ```
#
# It lies near the validation accuracy, within the luck of 1,000 images (one or two points either way). Had you
# chosen among many networks by these images, it would be too good; see exercise 4 of tutorial 9.
#
# </details>
#
# ## What to read next
#
# [`minidl/nn.py`](../minidl/nn.py): what a layer is. [`minidl/trainer.py`](../minidl/trainer.py): the loop
# above, with all that a long run needs. And from the command line: `python -m minidl.train`. Then [tutorial
# 5](05_sgd_momentum_nesterov.ipynb): what does a step do?
