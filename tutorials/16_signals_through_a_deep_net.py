# %% [markdown]
# # 16. Signals through a deep net
#
# **Goal.** See why a deep network may not learn at all although its code is right; find the right scale of the
# initial weights with a calculation of three lines; and see what batch normalization does for a network whose initial
# weights have the wrong scale.
#
# **Time.** 20 minutes. **Before this:** lesson 4.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import numpy as np

from minidl import Tensor, nn, ops
from minidl.data import batches, load_mnist, split
from minidl.optim import SGD
from minidl.teach import show
from minidl.trainer import Trainer
from minidl.training.divergence import Diverged

# %% [markdown]
# The network has eight hidden layers of 100 units. The library draws its initial weights with the right scale;
# `factor` multiplies them, to show what happens with a wrong scale.

# %%
splits = split(load_mnist(name="mnist5k"), seed=0)


def deep(factor=1.0, norm=False, layers=8, width=100):
    """Eight hidden layers with ReLU, and batch normalization if `norm`; initial weights `factor` times He's."""
    rng = np.random.default_rng(0)
    parts, inputs = [nn.Flatten()], 784
    for _ in range(layers):
        linear = nn.Linear(inputs, width, rng=rng)
        linear.weight.data *= factor
        parts += [linear, nn.BatchNorm1d(width), nn.ReLU()] if norm else [linear, nn.ReLU()]
        inputs = width
    return nn.Sequential(*parts, nn.Linear(width, 10, init="xavier", rng=rng))


print(deep())

# %% [markdown]
# ## The forward pass
#
# Send a batch of images through the network and record the size of the *activations*, the outputs of each ReLU, by
# their standard deviation.
#
# **Predict before you run.** Weights 0.3 times as large make the outputs of each layer 0.3 times as large, and there
# are eight layers. By which factor are the activations smaller after the eighth? And with weights three times as
# large?

# %%
x, labels = next(batches(splits.train.images, splits.train.labels, 256))


def sizes(model):
    """Send the batch through; returns the standard deviation after each ReLU."""
    signal, found = x, []
    for layer in model:
        signal = layer(signal)
        if isinstance(layer, nn.ReLU):
            found.append(float(signal.numpy().std()))
    return found


factors = (0.3, 1.0, 3.0)
forward = {factor: sizes(deep(factor)) for factor in factors}
for factor, found in forward.items():
    first, last = (np.format_float_positional(found[i], 2, fractional=False, trim="-") for i in (0, -1))
    print(f"weights x {factor}: {first} after the first layer, {last} after the eighth")
layers = np.arange(1, 9)
show.curves(
    {f"weights x {factor}": (layers, found) for factor, found in forward.items()},
    xlabel="layer",
    ylabel="standard deviation",
    log=True,
)

# %% [markdown]
# The lines are straight on a logarithmic axis: each layer multiplies by about the same factor. Only with the factor 1
# does the signal keep its size, 0.28 after the first layer and 0.27 after the eighth. The others end at 0.000018 and
# at 1800.
#
# ## Weights that preserve the size
#
# One unit computes $s = \sum_j w_j x_j$ over n inputs. Let the weights be drawn independently with mean 0 and
# variance $\sigma^2$. The terms of the sum are then uncorrelated and have mean 0, so their variances add up:
#
# $$\text{var}(s) = n\,\sigma^2\,\text{mean}(x^2)$$
#
# The ReLU sets the negative half to 0, which halves the mean square: $\text{mean}(x^2) = \text{var}(s)/2$ for the
# next layer. So a layer multiplies the mean square by $n\,\sigma^2/2$, and this factor is 1 for
#
# $$\sigma^2 = 2/n$$
#
# This is He (or Kaiming) initialization (He et al. 2015), which `nn.Linear` uses. Without the ReLU it would be 1/n.
#
# **Predict before you run.** Weights with variance 1/n are right for layers without a ReLU. By which factor does the
# signal shrink in eight layers *with* ReLU?

# %%
rng = np.random.default_rng(1)
for variance, name in ((2, "2/n"), (1, "1/n")):
    signal = np.abs(rng.normal(size=(2000, 100)))
    first = np.sqrt((signal**2).mean())
    for _ in range(8):
        weights = rng.normal(0, np.sqrt(variance / 100), (100, 100))
        signal = np.maximum(signal @ weights, 0)
    last = np.sqrt((signal**2).mean())
    print(f"variance {name}: {last / first:.2f} of the size left after eight layers")
print(f"sqrt(1/2)**8 = {0.5**4:.4f}")

# %% [markdown]
# ## The backward pass
#
# The gradient goes back through the same matrices, transposed, and each multiplies it by the same factor. But the
# gradient of a layer's *weights* is a product: the layer's input from the forward pass, times the gradient of its
# output from the backward pass.
#
# **Predict before you run.** With weights x 0.3, which layer gets the smallest gradient: the first, the last, or is
# it small everywhere?


# %%
def gradients(model):
    """The standard deviation of the gradient of the weights, layer by layer."""
    ops.cross_entropy(model(x), labels).backward()
    return [float(layer.weight.grad.std()) for layer in model if isinstance(layer, nn.Linear)]


backward = {factor: gradients(deep(factor)) for factor in factors}
for factor, found in backward.items():
    print(f"weights x {factor}: first layer {found[0]:.2g}, fifth {found[4]:.2g}, output {found[-1]:.2g}")
show.curves(
    {f"weights x {factor}": (np.arange(1, 10), found) for factor, found in backward.items()},
    xlabel="layer",
    ylabel="standard deviation",
    log=True,
    ylim=(1e-7, 1e7),
)

# %% [markdown]
# It is small everywhere: the gradient of each layer's weights contains the factors of all the other layers, those
# before it through its input and those after it through the gradient of its output. This is the *vanishing* gradient;
# the upper line shows the *exploding* gradient.
#
# ## Does it learn?
#
# **Predict before you run.** Train the three networks for three epochs with the same optimizer. What will their
# accuracies be, if guessing gives 10 %?


# %%
def learn(factor, norm=False, epochs=3):
    """Train; returns the validation accuracy of each epoch, or the step at which training diverged."""
    model = deep(factor, norm)
    trainer = Trainer(model, SGD(model.parameters(), lr=0.05, momentum=0.9), splits, batch_size=64)
    try:
        with np.errstate(all="ignore"):  # overflow is expected here
            return [record["val_accuracy"] for record in trainer.fit(epochs, verbose=False)]
    except Diverged:
        return f"diverged at step {trainer.progress.step + 1}"


plain = {factor: learn(factor) for factor in factors}
for factor, result in plain.items():
    print(f"weights x {factor}:", result if isinstance(result, str) else f"accuracy {result[-1]:.1%}")

# %% [markdown]
# The first network, with 9.2 %, only guesses; the second, with 86.2 %, has learned; the third diverged at step 3: its
# logits were in the thousands, and so was its gradient, so that a single step ruined the weights. The only difference
# is the scale of the initial weights.
#
# (Adam, whose steps do not depend on the size of the gradient, also trains the first and the third network to some
# extent, but far less well than the second: see exercise 3.)
#
# ## Batch normalization
#
# Ioffe & Szegedy 2015 do not rely on the initial weights. They *measure* the mean and the variance of the signal in
# each batch and normalize it: for each unit, over the images of the batch,
#
# $$y = \frac{s - \text{mean}(s)}{\sqrt{\text{var}(s) + \varepsilon}}\cdot\gamma + \beta$$
#
# $\gamma$ and $\beta$ start at 1 and 0 and are learned, so the network can still choose another scale and mean.

# %%
s = np.random.default_rng(2).normal(5, 3, (64, 4)).astype(np.float32)
by_hand = (s - s.mean(0)) / np.sqrt(s.var(0) + 1e-5)
layer = nn.BatchNorm1d(4)
assert np.allclose(layer(Tensor(s)).numpy(), by_hand, atol=1e-5)
print("mean and deviation of each unit before:", s.mean(0).round(1), s.std(0).round(1))
print("after:                                ", np.abs(by_hand.mean(0)).round(1), by_hand.std(0).round(1))

# %% [markdown]
# **Predict before you run.** Train the three networks again, with batch normalization before each ReLU. How large is
# the signal after the eighth layer now, and which of the three learn?

# %%
normed = {factor: learn(factor, norm=True) for factor in factors}
for factor, result in normed.items():
    found = sizes(deep(factor, norm=True))
    print(f"weights x {factor}: signal from {found[0]:.2f} to {found[-1]:.2f}, accuracy {result[-1]:.1%}")

# %% [markdown]
# The size of the signal is the same for all three, from 0.58 to 0.59, and all three learn: 91.5 %, 91.5 % and 88.0 %.
# They are not quite equivalent: if weights are three times as large, a step of the same length changes their
# direction only a third as much (exercise 2).
#
# ## The cost
#
# The output for an image now depends on the *other images of its batch*. At test time there may be only one image, so
# the layer keeps running averages of the mean and the variance during training, and uses these after `eval()`.

# %%
model = deep(norm=True)
trainer = Trainer(model, SGD(model.parameters(), lr=0.05, momentum=0.9), splits, batch_size=64)
trainer.fit(3, verbose=False)
image, _ = next(batches(splits.val.images[:1], splits.val.labels[:1], 1))
others, _ = next(batches(splits.val.images[:64], splits.val.labels[:64], 64))
model.eval()
alone, among = model(image).numpy()[0], model(others).numpy()[0]
print("eval():  alone and among others the same:", np.allclose(alone, among, atol=1e-4))
model.train()
one_batch, another = model(others).numpy()[0], model(Tensor(others.data[:32])).numpy()[0]
print(f"train(): logits differ by up to {np.abs(one_batch - another).max():.2f} between two batches")
assert np.allclose(alone, among, atol=1e-4)
assert np.abs(one_batch - another).max() > 0.01

# %% [markdown]
# Forgetting `eval()` is the most common mistake with batch normalization: the output for an image then depends on its
# batch, and a batch of one image has no variance at all.
#
# ## Exercises
#
# **1.** Glorot (or Xavier) initialization, with variance 2/(inputs + outputs), was designed for `tanh`. Send a signal
# through eight layers with `tanh`, with He's and with Glorot's initialization. Which preserves the size better? Why
# does neither explode?
#
# <details><summary>Answer</summary>
#
# ```python
# for init in ("kaiming", "xavier"):
#     rng = np.random.default_rng(0)
#     signal = ops.flatten(x, 1)
#     spread = []
#     for inputs in (784, *[100] * 7):
#         signal = nn.Linear(inputs, 100, init=init, rng=rng)(signal).tanh()
#         spread.append(float(signal.numpy().std()))
#     flat = np.mean(np.abs(signal.numpy()) > 0.95)
#     print(f"{init:7}: from {spread[0]:.2f} to {spread[-1]:.2f}; {flat:.1%} of the last units beyond ±0.95")
# ```
#
# Neither exactly. With He's the signal grows a little, until tanh limits the growth, because no output is beyond ±1;
# with Glorot's it shrinks slowly. With tanh the signal cannot explode, but with weights that are much too large its
# units *saturate* near -1 and 1, where tanh is flat and hardly any gradient passes.
#
# </details>
#
# **2.** Double the weights of a layer that is followed by batch normalization. What happens to the output? And to the
# gradient of these weights? What does this mean for the learning rate?
#
# <details><summary>Answer</summary>
#
# ```python
# def output_and_gradient(factor):
#     first = nn.Linear(784, 20, rng=0)
#     first.weight.data *= factor
#     net = nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10, rng=1))
#     logits = net(x)
#     ops.cross_entropy(logits, labels).backward()
#     return logits.numpy(), first.weight.grad
#
#
# (once, g1), (twice, g2) = output_and_gradient(1.0), output_and_gradient(2.0)
# print(f"largest difference of the outputs: {np.abs(once - twice).max():.1e}")
# print(f"the gradient is {np.linalg.norm(g2) / np.linalg.norm(g1):.2f} times as long")
# assert np.allclose(once, twice, atol=1e-3) and np.allclose(g2, g1 / 2, atol=1e-4)
# ```
#
# The output does not change, because the normalization divides the factor out. The gradient is halved. So a step is
# half as long on weights twice as large, and the *direction* of the weights changes a quarter as fast: large weights
# mean a small effective learning rate. That is why the third network above was the slowest.
#
# </details>
#
# **3.** Train the three networks without batch normalization with Adam. Does it compensate for the wrong scale?
#
# <details><summary>Answer</summary>
#
# ```python
# import warnings
#
# from minidl.optim import Adam
#
# warnings.filterwarnings("ignore", "the training loss was")  # minidl warns of a loss as large as the third one's
#
# found = {}
# for factor in factors:
#     model = deep(factor)
#     with np.errstate(all="ignore"):
#         record = Trainer(model, Adam(model.parameters()), splits, batch_size=64).fit(3, verbose=False)
#     found[factor] = record[-1]["val_accuracy"]
#     print(f"weights x {factor}: accuracy {found[factor]:.1%}")
# assert found[1.0] > max(found[0.3], found[3.0]) > 0.3
# ```
#
# In part. Adam's steps do not depend on the size of the gradient, so all three learn something. But the outputs of
# the layers have the wrong scale until the weights have been changed enough, and that takes many steps of 0.001.
#
# </details>
#
# **4.** A *residual* block adds its input to its output: `x + relu(linear(x))`. Replace the last seven of the eight
# layers by such blocks, with weights x 0.3 and without batch normalization. Does the network learn now?
#
# <details><summary>Answer</summary>
#
# ```python
# class Block(nn.Module):
#     def __init__(self, width, rng):
#         super().__init__()
#         self.linear = nn.Linear(width, width, rng=rng)
#         self.linear.weight.data *= 0.3
#
#     def forward(self, x):
#         return x + self.linear(x).relu()
#
#
# rng = np.random.default_rng(0)
# blocks = [Block(100, rng) for _ in range(7)]
# net = nn.Sequential(nn.Flatten(), nn.Linear(784, 100, rng=rng), nn.ReLU(), *blocks, nn.Linear(100, 10, rng=rng))
# result = Trainer(net, SGD(net.parameters(), lr=0.05, momentum=0.9), splits, batch_size=64).fit(3, verbose=False)
# print(f"accuracy {result[-1]['val_accuracy']:.1%}")
# assert result[-1]["val_accuracy"] > 0.8
# ```
#
# Yes. The sum gives the signal and the gradient a path on which nothing is multiplied (a sum passes its gradient on
# to both terms). He et al. 2016 trained networks of more than a hundred layers in this way.
#
# </details>
#
# ## What to read next
#
# [`minidl/init.py`](../minidl/init.py): the three initializations, in one line each. `batch_norm` in
# [`minidl/ops_nn.py`](../minidl/ops_nn.py): the formula above with its derivative. Then [lesson
# 17](17_the_recipe_to_99.ipynb): from a network that learns to one that is good.
