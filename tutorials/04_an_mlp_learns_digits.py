# %% [markdown]
# # 4. An MLP learns digits
#
# **Goal.** Train a network of two layers on real handwritten digits with a loop of a few lines, see what it has
# learned, and check that its gradients are right.
#
# **Time.** 20 minutes. **Before this:** lessons 1 and 2.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import math

import numpy as np

from minidl import GradientError, gradcheck, nn, no_grad, ops
from minidl.data import batches, load_mnist, split
from minidl.optim import SGD
from minidl.teach import draw, show
from minidl.tensor import record

# %% [markdown]
# The data set has 5,000 digits that come with the library. A tenth of the training images is set aside for
# *validation*: to see how well the network does on images that it was not trained on. With `name="mnist"` you get all
# 70,000.

# %%
splits = split(load_mnist(name="mnist5k"), val_fraction=0.1, seed=0)
print(f"{len(splits.train):,} images to train with, {len(splits.val)} to validate with")
show.digits(splits.train.images[:20], splits.train.labels[:20])

# %% [markdown]
# ## The network
#
# An image has 784 pixels. The first layer computes 64 weighted sums of them, like the neuron of lesson 2, and `ReLU`
# sets the negative ones to 0: these are the *hidden units*. The second layer computes ten numbers from them, one for
# each digit, and the largest of the ten is the answer. This is an MLP, a *multi-layer perceptron*.

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
# The ten numbers are called *logits*. The function *softmax* turns them into probabilities. The loss, the
# *cross-entropy*, is minus the logarithm of the probability that the network gives to the right digit: near 0 if the
# network is confident and right, large if it is confident and wrong.
#
# **Predict before you run.** The network has not learned anything yet. Suppose that it gives each digit about the
# same probability, 1/10. What is the loss, roughly?

# %%
x, labels = next(batches(splits.train.images, splits.train.labels, 128, rng))
loss = ops.cross_entropy(model(x), labels)
print(f"loss {loss.item():.2f}; -log(1/10) = {-math.log(1 / 10):.2f}")
draw.graph(loss, **{name.replace(".", "_"): p for name, p in model.named_parameters()})

# %% [markdown]
# That is the whole graph. The weights are arrays now, so the boxes show shapes instead of numbers. The images and the
# `Flatten` are not in it, because no gradient with respect to the pixels is needed.
#
# ## The loop
#
# Take a *batch* of images, compute the loss, compute the gradients with `backward()`, and let the optimizer take a
# step. One pass over all training images is an *epoch*.

# %%
optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
train_losses, val_losses, val_accuracies = [], [], []


def validate():
    """Loss and accuracy on the validation images; no graph is recorded."""
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
# Notice two things. The training loss is noisy, because each batch is a different sample of the images. And it
# continues to fall after the validation loss has stopped falling; lesson 9 is about that.
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
# Would you have read all of them correctly?
#
# ## What it has learned
#
# Each of the 64 hidden units has 784 weights, one for each pixel, so its weights can be shown as an image. Red is
# positive: ink there makes the unit's value larger. Blue is negative.
#
# **Predict before you run.** Will these images look like digits?

# %%
show.digits(model[1].weight.numpy()[:20].reshape(-1, 28, 28), signed=True)

# %% [markdown]
# They look like strokes, spots and edges: parts that many digits share. At the border, where no image has any ink,
# the weights still have their random initial values: a pixel that is always 0 never gives its weight a gradient.
#
# ## Are the gradients right?
#
# A network with a wrong gradient often still learns, only worse, and the error goes unnoticed. `gradcheck` finds it:
# it changes every input a little and compares the change of the output with the gradient from `backward()`. A small
# network is enough.

# %%
small = np.random.default_rng(1)
x, w1, b1, w2, b2 = (small.normal(size=shape) for shape in [(5, 6), (4, 6), (4,), (3, 4), (3,)])
targets = np.array([0, 2, 1, 1, 0])


def network(x, w1, b1, w2, b2):
    return ops.cross_entropy(ops.linear(ops.linear(x, w1, b1).relu(), w2, b2), targets)


print("all gradients right:", gradcheck(network, [x, w1, b1, w2, b2]))

# %% [markdown]
# Now with a common mistake: a ReLU whose gradient is not set to 0 where the input was negative.


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
# check.
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
# Only the last bias gets a gradient. The hidden units are all 0, so the gradient of the last weights is 0. And the
# gradient of the first layer is multiplied by the last weights, which are 0. Random initial weights avoid this.
#
# </details>
#
# **2.** Leave out `optimizer.zero_grad()`. What happens to the gradients, and what to the loss?
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
# print("the library warns:", said[0].message)
# show.curves({"with zero_grad": with_it, "without": without_it})
# assert np.mean(without_it[-30:]) > np.mean(with_it[-30:])
# ```
#
# Gradients add up, so each step uses the sum of all gradients so far, the oldest with the same weight as the newest.
# The loss oscillates. No error is raised, so the library watches for this and warns.
#
# </details>
#
# **3.** Remove the `ReLU`. How good is the network then, and why is it no better than a single layer?
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
# It is no better than a single layer, and clearly worse than with the ReLU: a weighted sum of weighted sums is again
# a weighted sum. A second layer helps only if there is a nonlinear function between the two.
#
# </details>
#
# **4.** Compute the test accuracy once, now that everything is decided.
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
# It is close to the validation accuracy: with 1,000 images, chance alone moves it by one or two points either way.
# Had you chosen among many networks by their test accuracy, it would be too optimistic; see exercise 4 of lesson 9.
#
# </details>
#
# ## What to read next
#
# [`minidl/nn.py`](../minidl/nn.py): what a layer is. [`minidl/trainer.py`](../minidl/trainer.py): the loop above,
# with everything that a long run needs. And from the command line: `python -m minidl.train`. Then [lesson
# 5](05_sgd_momentum_nesterov.ipynb): what does a step of the optimizer do?
