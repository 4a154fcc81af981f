# %% [markdown]
# # 18. What it looks at
#
# **Goal.** Ask a trained network why it answers as it does, in four ways: by the gradient of its answer by each pixel,
# by covering parts of the image, by making images that excite it, and by attacking it. And see what it does with
# labels that are wrong.
#
# **Time.** 25 minutes. **Before this:** tutorials 8 and 9.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
from dataclasses import replace

import numpy as np

from minidl import Tensor, nn, no_grad, ops
from minidl.data import load_mnist
from minidl.data.batches import Examples, split
from minidl.optim import Adam
from minidl.teach import show
from minidl.trainer import Trainer, evaluate

# %%
splits = split(load_mnist(name="mnist5k"), seed=0)


def network(seed=0):
    """The small CNN of tutorial 17."""
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, rng=rng),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, rng=rng),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, 64, rng=rng),
        nn.ReLU(),
        nn.Linear(64, 10, init="xavier", rng=rng),
    )


cnn = network()
Trainer(cnn, Adam(cnn.parameters(), lr=0.003), splits, batch_size=50).fit(6, verbose=False)
cnn.eval()
images = splits.test.images[:, None].astype(np.float32) / 255  # (1000, 1, 28, 28)
labels = splits.test.labels


def logits_of(model, x):
    """The logits for images (N, 1, H, W), as an array."""
    with no_grad():
        return model(Tensor(x)).numpy()


right = logits_of(cnn, images).argmax(1) == labels
print(f"test accuracy {right.mean():.1%}")

# %% [markdown]
# ## The gradient by the pixel
#
# In tutorial 4 nobody asked for the gradient of a pixel. Now we do: `requires_grad=True` on the *image*, and one
# `backward()` from the logit of the network's answer. The result is an image again: how much would the answer rise if
# this pixel got a little lighter? (Simonyan et al. 2013 call it a saliency map.)
#
# **Predict before you run.** Where will the large values be: on the stroke, beside it, or in the empty corners?

# %%
chosen = [int(np.flatnonzero((labels == digit) & right)[2]) for digit in range(10)]


def pixel_gradients(model, x, classes):
    """The gradient of each image's logit of that class by the pixels, (N, H, W)."""
    pixels = Tensor(x, requires_grad=True)
    logits = model(pixels)
    logits[np.arange(len(x)), classes].sum().backward()
    return pixels.grad[:, 0]


gradients = pixel_gradients(cnn, images[chosen], labels[chosen])
show.digits(images[chosen])
show.digits(gradients, signed=True)


# %% [markdown]
# On the stroke and closely beside it, in both signs: red where more ink would speak for this digit, blue where it
# would speak against it. But it is not tidy: far from any ink there are values too.


# %%
def around(image, by=2):
    """Where there is ink, and where there is some within `by` pixels: two masks (28, 28)."""
    ink = image > 0.1
    near = np.zeros_like(ink)
    for down in range(-by, by + 1):
        for right in range(-by, by + 1):
            near |= np.roll(ink, (down, right), (0, 1))
    return ink, near


shares, areas = [], []
for gradient, image in zip(np.abs(gradients), images[chosen, 0], strict=True):
    ink, near = around(image)
    masks = (ink, near & ~ink, ~near)
    shares.append([gradient[mask].sum() / gradient.sum() for mask in masks])
    areas.append([mask.mean() for mask in masks])
for where, share, area in zip(("on the ink", "near it", "farther"), np.mean(shares, 0), np.mean(areas, 0), strict=True):
    print(f"{where:10}: {share:.1%} of all gradient, on {area:.1%} of the image")

# %% [markdown]
# The ink is 16.5% of the image and has 29.1% of the gradient, nearly twice its share; far from it there is less
# than its share, but not nothing. A gradient is a *local* answer: what a very small change of this pixel would do.
# That is not the same as what the network needs. For that, take something away and look.
#
# ## Covering
#
# Put a black square of 6 by 6 pixels over every place of the image, and note the probability that is left for the
# right digit (Zeiler & Fergus 2014 call it occlusion). 529 places are 529 images: one batch.
#
# **Predict before you run.** Which part of a 4 must be covered to make it another digit? And is there such a part
# of a 7?


# %%
def probabilities(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def covered(model, image, label, size=6):
    """The right digit's probability by the square's place, and the answer where it is lowest."""
    n = 28 - size + 1
    batch = np.repeat(image[None], n * n, axis=0)
    for k in range(n * n):
        i, j = divmod(k, n)
        batch[k, 0, i : i + size, j : j + size] = 0
    logits = logits_of(model, batch)
    left = probabilities(logits)[:, label]
    return left.reshape(n, n), batch[left.argmin(), 0], int(logits[left.argmin()].argmax())


maps, hardest, becomes = zip(*(covered(cnn, images[k], labels[k]) for k in chosen), strict=True)
show.digits(np.array(maps), [f"{m.min():.3f}" for m in maps])
show.digits(np.array(hardest), labels[chosen], becomes)

# %% [markdown]
# Above, dark is where the square hurts, with the lowest probability as title; below, the image at its worst place,
# and what it is taken for. Six pixels are enough for some. Cover the upper bow of the 9 and it is a 4; cover the
# middle of the 8 and it is a 0. Nothing that one square hides makes another digit of the 0, the 2, the 3 or the
# 7: what is left of them still says it. This is nearer to "what the network needs" than a gradient, and costs 529
# images for one answer.
#
# ## Images that excite
#
# The other way round: start from noise and change the *image*, by the same optimizer that trains weights, until the
# network is sure of a digit. The weights stay as they are.
#
# **Predict before you run.** Will the ten images look like digits?

# %%
noise = np.random.default_rng(0).uniform(0, 0.1, (10, 1, 28, 28)).astype(np.float32)
dream = Tensor(noise.copy(), requires_grad=True)
optimizer = Adam([dream], lr=0.05)
for _ in range(100):
    loss = ops.cross_entropy(cnn(dream), np.arange(10))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    dream.data[...] = dream.data.clip(0, 1)  # still an image
sure = probabilities(logits_of(cnn, dream.data))[np.arange(10), np.arange(10)]
show.digits(dream.data, range(10))
print(f"lowest of the ten probabilities: {sure.min():.4f}")

# %% [markdown]
# Noise, and the network is all but certain of it. It has never been told what is *no* digit: it divides all of the
# space of images among ten answers, and nearly all of that space looks like this. A high probability does not mean "I
# have seen such a thing".
#
# ## An attack
#
# So if the image may be changed, how *little* is enough? Goodfellow et al. 2015: move each pixel by the same small
# amount in the direction in which the loss rises, x + epsilon sign(gradient). Each pixel's change is hardly seen,
# but 784 of them push in the same direction.
#
# **Predict before you run.** A pixel goes from 0 to 1. With epsilon = 0.1, what will the accuracy be? And with
# *random* signs of the same size?

# %%
pixels = Tensor(images, requires_grad=True)
ops.cross_entropy(cnn(pixels), labels).backward()
direction = np.sign(pixels.grad)
coins = np.random.default_rng(0).choice(np.float32([-1, 1]), images.shape)

sizes = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2]
attacked, jittered = [], []
for epsilon in sizes:
    for signs, scores in ((direction, attacked), (coins, jittered)):
        moved = (images + np.float32(epsilon) * signs).clip(0, 1)
        scores.append(float((logits_of(cnn, moved).argmax(1) == labels).mean()))
    print(f"epsilon {epsilon}: attacked {attacked[-1]:.1%}, random signs {jittered[-1]:.1%}")
show.curves({"attacked": (sizes, attacked), "random signs": (sizes, jittered)}, xlabel="epsilon", ylabel="accuracy")

# %%
moved = (images[chosen] + np.float32(0.1) * direction[chosen]).clip(0, 1)
show.digits(moved, labels[chosen], logits_of(cnn, moved).argmax(1))

# %% [markdown]
# Random signs of size 0.1 do next to nothing: 95.4% are still right. The same size in the direction of the gradient
# leaves 53.3%, and 0.2 leaves 8.2%, worse than guessing. You would read every one of these digits. In 784
# dimensions a random direction hardly meets the few in which the network is easily moved, but whoever has the
# gradient knows them.
#
# ## Labels that are wrong
#
# In real data some labels are wrong. We give a share of 2,000 training images another label at random, and look at
# two things: what this does to the validation accuracy, and whether the network can tell us *which* labels are
# wrong.
#
# **Predict before you run.** With 20 % of the labels wrong, will the accuracy fall by 20 points? At which epoch
# will it be best?

# %%
epochs = 10


def with_wrong_labels(share):
    """2,000 training images, that share of them with another label; and which."""
    rng = np.random.default_rng(1)
    told = splits.train.labels[:2000].copy()
    wrong = rng.random(2000) < share
    told[wrong] = (told[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    return replace(splits, train=Examples(splits.train.images[:2000], told)), wrong


def learn(share, epochs):
    data, wrong = with_wrong_labels(share)
    model = network()
    record = Trainer(model, Adam(model.parameters(), lr=0.003), data, batch_size=50).fit(epochs, verbose=False)
    return model.eval(), data, wrong, [r["val_accuracy"] for r in record]


curves = {}
for share in (0.0, 0.1, 0.2, 0.4):
    model, data, wrong, curves[f"{share:.0%} wrong"] = learn(share, epochs)
    scores = curves[f"{share:.0%} wrong"]
    heart = evaluate(model, data.train)[1]
    best = int(np.argmax(scores)) + 1
    print(f"{share:4.0%} wrong: best {max(scores):.1%} (epoch {best}), at the end {scores[-1]:.1%}", end="; ")
    print(f"of the labels it was told it has learned {heart:.1%}")
show.curves(curves, xlabel="epoch", ylabel="validation accuracy")

# %% [markdown]
# No: at its best epoch it loses 3 points, from 95.0% to 92.2%. Wrong labels contradict each other and right ones
# agree, so what is *common* is learned first, and it is right. Then the network begins to learn the exceptions by
# heart, as in tutorial 9, and that is what spoils it: 83.2% at the end, with 20 % wrong. Early stopping is worth
# most where labels are bad.
#
# **Predict before you run.** Stop after two epochs with 20 % wrong, and sort the training images by their loss. How
# many of the worst are images with a wrong label?

# %%
model, data, wrong, _ = learn(0.2, epochs=2)
logits = logits_of(model, data.train.images[:, None].astype(np.float32) / 255)
loss = -np.log(probabilities(logits)[np.arange(2000), data.train.labels])
suspects = np.argsort(-loss)[: wrong.sum()]
print(
    f"{wrong.sum()} labels are wrong; of the {wrong.sum()} images of highest loss {wrong[suspects].mean():.1%} have one"
)
show.digits(data.train.images[suspects[:20]], data.train.labels[suspects[:20]], logits[suspects[:20]].argmax(1))

# %% [markdown]
# 89.3% of the suspects have a wrong label, where blind guessing would find 19 %. Above each image stands what the
# network says, beside the label that it was told. Lists like this are how the errors in real data sets, MNIST too,
# are found.
#
# ## Exercises
#
# **1.** Draw the gradient by the pixel of an MLP beside that of the CNN, for the same images. Which is tidier, and
# why?
#
# <details><summary>Answer</summary>
#
# ```python
# rng = np.random.default_rng(0)
# hidden, out = nn.Linear(784, 64, rng=rng), nn.Linear(64, 10, init="xavier", rng=rng)
# mlp = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), out)
# Trainer(mlp, Adam(mlp.parameters()), splits, batch_size=50).fit(6, verbose=False)
# of_mlp = pixel_gradients(mlp.eval(), images[chosen], labels[chosen])
# show.digits(of_mlp, signed=True)
# rough = [np.abs(np.diff(g, axis=2)).mean() / np.abs(g).mean() for g in (of_mlp, gradients)]
# print(f"from pixel to pixel it changes by {rough[0]:.2f} of its size (MLP) and {rough[1]:.2f} (CNN)")
# ```
#
# Neither is tidy, and they differ in kind. The MLP has a weight of its own for each pixel, also where hardly an
# image has ink; there these weights are still nearly those of the start. In the CNN the same few filters are used
# everywhere.
#
# </details>
#
# **2.** Make an attack that aims: change the 4 until it is taken for a 9, with as small an epsilon as will do.
#
# <details><summary>Answer</summary>
#
# ```python
# four = images[chosen[4] : chosen[4] + 1]
# pixels = Tensor(four, requires_grad=True)
# ops.cross_entropy(cnn(pixels), np.array([9])).backward()
# for epsilon in np.arange(0.01, 0.4, 0.01, dtype=np.float32):
#     aimed = (four - epsilon * np.sign(pixels.grad)).clip(0, 1)  # down: the loss of "9" should fall
#     if logits_of(cnn, aimed).argmax() == 9:
#         break
# print(f"epsilon {epsilon:.2f} is enough")
# show.digits(aimed, [4], logits_of(cnn, aimed).argmax(1))
# assert logits_of(cnn, aimed).argmax() == 9
# ```
#
# Downhill on the loss of the answer that one wants. Nothing but the target's label has changed.
#
# </details>
#
# **3.** Does an image that was made to deceive the CNN deceive another network, which nobody looked into?
#
# <details><summary>Answer</summary>
#
# ```python
# other = network(seed=7)
# Trainer(other, Adam(other.parameters(), lr=0.003), splits, batch_size=50).fit(6, verbose=False)
# moved = (images + np.float32(0.1) * direction).clip(0, 1)
# scores = {}
# for name, model in (("itself", cnn), ("another", other.eval())):
#     scores[name] = (logits_of(model, moved).argmax(1) == labels).mean()
#     print(f"epsilon 0.1, made from the first network, {name}: {scores[name]:.1%}")
# assert scores["itself"] < scores["another"]
# ```
#
# In part: it does better than the one that was attacked and worse than without an attack. Two networks that learned
# from the same images lean on some of the same things. So hiding the weights is no protection.
#
# </details>
#
# **4.** The cure of Goodfellow et al.: train on attacked images too. Write the loop: for each batch an attack with
# epsilon = 0.1, then a step on it. What does it cost on clean images?
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl.data.batches import batches
#
# strong, rng = network(), np.random.default_rng(0)
# optimizer = Adam(strong.parameters(), lr=0.003)
# for _ in range(6):
#     for x, answer in batches(splits.train.images, splits.train.labels, 50, rng):
#         x = Tensor(x.data, requires_grad=True)
#         ops.cross_entropy(strong(x), answer).backward()
#         moved = (x.data + np.float32(0.1) * np.sign(x.grad)).clip(0, 1)
#         optimizer.zero_grad()
#         for images_seen in (x.data, moved):  # gradients add up: clean and attacked count alike
#             ops.cross_entropy(strong(Tensor(images_seen)), answer).backward()
#         optimizer.step()
# pixels = Tensor(images, requires_grad=True)
# ops.cross_entropy(strong(pixels), labels).backward()
# moved = (images + np.float32(0.1) * np.sign(pixels.grad)).clip(0, 1)
# clean, under = ((logits_of(strong, x).argmax(1) == labels).mean() for x in (images, moved))
# print(f"trained against attacks: clean {clean:.1%}, attacked with 0.1 {under:.1%}")
# assert under > attacked[sizes.index(0.1)]
# ```
#
# It takes twice the work and brings back most of what the attack took, against *this* attack. Stronger attacks, of
# many small steps, need stronger training.
#
# </details>
#
# ## What to read next
#
# [`minidl/tensor.py`](../minidl/tensor.py) once more: `requires_grad` on an image is all that this lesson needed.
# The replay page shows the filters of a network while they form: `python -m minidl.train --model cnn --trace
# replay.html`.
