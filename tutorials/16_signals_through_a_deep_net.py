# %% [markdown]
# # 16. Signals through a deep net
#
# **Goal.** See why a deep network may not learn at all though every line of it is right; find the size that the first
# weights must have, with a calculation of three lines; and see what batch normalization does for a network whose
# weights have the wrong size.
#
# **Time.** 20 minutes. **Before this:** tutorial 4.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
import numpy as np

from minidl import Tensor, nn, ops
from minidl.data import load_mnist
from minidl.data.batches import batches, split
from minidl.optim import SGD
from minidl.teach import show
from minidl.trainer import Trainer
from minidl.training.divergence import Diverged

# %% [markdown]
# A network with eight hidden layers of 100 units. The library draws its first weights with the right size; `factor`
# multiplies them, to see what happens with the wrong one.

# %%
splits = split(load_mnist(name="mnist5k"), seed=0)


def deep(factor=1.0, norm=False, layers=8, width=100):
    """Eight hidden layers with ReLU, and with batch normalization if wanted; first weights `factor` times He's."""
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
# ## The way forward
#
# Send a batch of images through and write down how large the numbers are behind each ReLU: their standard deviation.
#
# **Predict before you run.** Weights 0.3 times as large make each layer's numbers 0.3 times as large, and there are
# eight layers. By which factor have the numbers shrunk behind the eighth? And with weights three times as large?

# %%
x, labels = next(batches(splits.train.images, splits.train.labels, 256))


def sizes(model):
    """Send the batch through; returns the standard deviation behind each ReLU."""
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
    print(f"weights x {factor}: {first} behind the first layer, {last} behind the eighth")
layers = np.arange(1, 9)
show.curves(
    {f"weights x {factor}": (layers, found) for factor, found in forward.items()},
    xlabel="layer",
    ylabel="standard deviation",
    log=True,
)

# %% [markdown]
# Straight lines on a logarithmic axis: each layer multiplies. Only with the factor 1 does the signal arrive with the
# size that it had, 0.28 behind the first layer and 0.27 behind the eighth. The others end at 0.000018 and at 1800.
#
# ## The size that keeps the size
#
# One unit computes $s = \sum_j w_j x_j$ over n inputs. Let the weights be drawn with mean 0 and variance $\sigma^2$.
# The terms of the sum are independent and of mean 0, so their variances add up:
#
# $$\text{var}(s) = n\,\sigma^2\,\text{mean}(x^2)$$
#
# The ReLU sets the negative half to 0. What is left has half the mean square: $\text{mean}(x^2) = \text{var}(s)/2$
# for the next layer. So a layer multiplies the mean square by $n\,\sigma^2/2$, and this is 1 for
#
# $$\sigma^2 = 2/n$$
#
# This is He's initialization (He et al. 2015), which `nn.Linear` uses. Without the ReLU it would be 1/n.
#
# **Predict before you run.** Weights with variance 1/n, right for a layer without ReLU: by which factor does the
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
# ## The way back
#
# The gradient goes back through the same matrices, transposed, and each multiplies it by the same factor. But the
# gradient of a layer's *weights* is a product: what came in from the front, times what came back from behind.
#
# **Predict before you run.** With weights x 0.3, which layer gets the smallest gradient: the first, the last, or is
# it small everywhere?


# %%
def gradients(model):
    """The standard deviation of the gradient by the weights, layer by layer."""
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
# Small everywhere: each weight's gradient has all eight factors in it, some from the front and the others from
# behind. This is the *vanishing* gradient; the upper line is the *exploding* one.
#
# ## Does it learn?
#
# **Predict before you run.** Three epochs with the same optimizer. What will the three networks' accuracies be, when
# guessing gives 10 %?


# %%
def learn(factor, norm=False, epochs=3):
    """Train; returns the validation accuracy of each epoch, or the step at which training diverged."""
    model = deep(factor, norm)
    trainer = Trainer(model, SGD(model.parameters(), lr=0.05, momentum=0.9), splits, batch_size=64)
    try:
        with np.errstate(all="ignore"):  # numbers beyond all bounds are what we want to see
            return [record["val_accuracy"] for record in trainer.fit(epochs, verbose=False)]
    except Diverged:
        return f"diverged at step {trainer.progress.step + 1}"


plain = {factor: learn(factor) for factor in factors}
for factor, result in plain.items():
    print(f"weights x {factor}:", result if isinstance(result, str) else f"accuracy {result[-1]:.1%}")

# %% [markdown]
# 9.2 % is a guess, 86.2 % has learned, and the third did not survive step 3: its logits were in the thousands, so was
# its gradient, and one step threw the weights off for good. All that differs is a factor in the first weights.
#
# (Adam, which does not look at the size of a gradient, makes something of the first and the third network too, but
# far less than of the second: exercise 3.)
#
# ## Batch normalization
#
# Ioffe & Szegedy 2015 do not trust the first weights. They *measure* the size of the signal in each batch and
# divide it away: for each unit, over the images of the batch,
#
# $$y = \frac{s - \text{mean}(s)}{\sqrt{\text{var}(s) + \varepsilon}}\cdot\gamma + \beta$$
#
# $\gamma$ and $\beta$ begin at 1 and 0 and are learned, so that the network may have another size if it wants one.

# %%
s = np.random.default_rng(2).normal(5, 3, (64, 4)).astype(np.float32)
by_hand = (s - s.mean(0)) / np.sqrt(s.var(0) + 1e-5)
layer = nn.BatchNorm1d(4)
assert np.allclose(layer(Tensor(s)).numpy(), by_hand, atol=1e-5)
print("mean and spread of each unit before:", s.mean(0).round(1), s.std(0).round(1))
print("after:                             ", np.abs(by_hand.mean(0)).round(1), by_hand.std(0).round(1))

# %% [markdown]
# **Predict before you run.** The three networks again, with batch normalization before each ReLU. How large is the
# signal behind the eighth layer now, and which of the three learn?

# %%
normed = {factor: learn(factor, norm=True) for factor in factors}
for factor, result in normed.items():
    found = sizes(deep(factor, norm=True))
    print(f"weights x {factor}: signal from {found[0]:.2f} to {found[-1]:.2f}, accuracy {result[-1]:.1%}")

# %% [markdown]
# The signal is the same for all three, from 0.58 to 0.59, and all three learn: 91.5 %, 91.5 % and 88.0 %. They are
# not quite the same network: weights three times as large turn three times as slowly under steps of the same length
# (exercise 2).
#
# ## The price
#
# What a unit says of an image now depends on the *other images of its batch*. In use there may be only one image, so
# the layer keeps running averages of mean and variance while it trains, and uses these after `eval()`.

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
# To forget `eval()` is the commonest mistake with batch normalization: the network answers differently each time, and
# a batch of one image has no variance at all.
#
# ## Exercises
#
# **1.** Glorot's variance, 2/(inputs + outputs), was made for `tanh`. Send a signal through eight layers of `tanh`
# with He's and with Glorot's. Which keeps its size better? Why does neither explode?
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
#     print(f"{init:7}: from {spread[0]:.2f} to {spread[-1]:.2f}; {flat:.1%} of the last units beyond 0.95")
# ```
#
# Neither exactly: He's grows a little, and the squeeze of tanh takes back what is too much, for no output is beyond
# 1; Glorot's fades slowly. The signal of tanh cannot explode, but with weights that are much too large its units
# stick near -1 and 1, where tanh is flat and no gradient passes.
#
# </details>
#
# **2.** Double the weights of a layer that batch normalization follows. What becomes of the output? And of the
# gradient of these weights? What does this mean for the rate?
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
# The output stays: what was multiplied is divided away. The gradient is halved. A step is half as long on weights
# twice as large, so the weights *turn* at a quarter of the speed: large weights mean a small rate in effect. That
# is why the third network above was the slowest.
#
# </details>
#
# **3.** Train the three networks without batch normalization by Adam. Does it make up for the wrong size?
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
# In part. Adam divides the size of each gradient away, so all three learn something. But what the layers *say* has
# the wrong size until the weights have been moved there, and that takes many steps of 0.001.
#
# </details>
#
# **4.** A *residual* block adds its input to its output: `x + relu(linear(x))`. Build the eight layers from such
# blocks, weights x 0.3, without batch normalization. Does it learn now?
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
# Yes. The sum has a way through on which nothing is multiplied, forward and back (a sum hands its gradient on to both
# sides). He et al. 2016 trained networks of more than a hundred layers with this.
#
# </details>
#
# ## What to read next
#
# [`minidl/init.py`](../minidl/init.py): the three initializations, in one line each. `batch_norm` in
# [`minidl/ops_nn.py`](../minidl/ops_nn.py): the formula above with its derivative. Then [tutorial
# 17](17_the_recipe_to_99.ipynb): from a network that learns to one that is good.
