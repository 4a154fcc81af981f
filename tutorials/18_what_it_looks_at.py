# %% [markdown]
# # 18. What it looks at
#
# **Goal.** Find out how a trained network arrives at its predictions, in four ways: by the gradient of its output
# with respect to the pixels, by covering parts of the image, by generating images with a high score, and by attacking
# it. And see what wrong labels do to training.
#
# **Time.** 25 minutes. **Before this:** lessons 8 and 9.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
from dataclasses import replace

import numpy as np

from minidl import Tensor, nn, no_grad, ops
from minidl.data import Examples, load_mnist, split
from minidl.optim import Adam
from minidl.teach import show
from minidl.trainer import Trainer, evaluate

# %%
splits = split(load_mnist(name="mnist5k"), seed=0)


def network(seed=0):
    """The small CNN of lesson 17, without dropout."""
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
# ## The gradient with respect to the pixels
#
# Lesson 4 did not need the gradient with respect to the pixels. Now we compute it: set `requires_grad=True` on the
# *image*, and call `backward()` on the logit of the predicted digit. The result is again an image: how much would the
# logit rise if this pixel got a little brighter? This is called a *saliency map* (Simonyan et al. 2013).
#
# **Predict before you run.** Where will the large values be: on the stroke, beside it, or in the empty corners?

# %%
chosen = [int(np.flatnonzero((labels == digit) & right)[2]) for digit in range(10)]


def pixel_gradients(model, x, classes):
    """The gradient of the logit of each image's class with respect to its pixels, (N, H, W)."""
    pixels = Tensor(x, requires_grad=True)
    logits = model(pixels)
    logits[np.arange(len(x)), classes].sum().backward()
    return pixels.grad[:, 0]


gradients = pixel_gradients(cnn, images[chosen], labels[chosen])
show.digits(images[chosen])
show.digits(gradients, signed=True)


# %% [markdown]
# They are on the stroke and close to it, with both signs: red where more ink would raise the logit of this digit,
# blue where it would lower it. But the maps are noisy: there are values far from any ink too.


# %%
def around(image, by=2):
    """Two masks (28, 28): where there is ink, and where there is ink within `by` pixels."""
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
# The ink covers 16.5% of the image and has 29.1% of the gradient, nearly twice its share; the area far from it has
# less than its share, but still a good part. A gradient is *local*: it tells what a very small change of a pixel
# would do, not which parts of the image the network needs. To find those, remove a part and see what happens.
#
# ## Occlusion
#
# Put a black square of 6 by 6 pixels at every position of the image, and record the probability of the right digit
# that remains. This is called *occlusion* (Zeiler & Fergus 2014). 529 positions give 529 images: one batch.
#
# **Predict before you run.** Which part of a 4 must be covered to make it another digit? And does a 7 have such a
# part?


# %%
def probabilities(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def covered(model, image, label, size=6):
    """The right digit's probability at each position of the square; the image where it is lowest; its prediction."""
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
# In the first figure, dark marks the positions where covering lowers the probability; the title is the lowest
# probability. The second shows each image with the square at its worst position, and the prediction. For some digits,
# 6 by 6 pixels are enough: cover the top of the loop of the 9 and it becomes a 4; cover the middle of the 8 and it
# becomes a 0. No single square turns the 0, the 2, the 3 or the 7 into another digit: what remains of them is enough.
# This comes closer to what the network needs than a gradient does, but one map takes 529 images.
#
# ## Images with a high score
#
# Now the other way round: start from noise and train the *image*, with the same optimizer that trains weights, until
# the network is confident that it shows a certain digit. The weights do not change.
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
# They look like noise, yet the network is almost certain of each. It was never trained on images that are *not*
# digits: it divides the whole space of images among ten classes, and nearly all of that space looks like this. A high
# probability does not mean that an image is similar to the training images.
#
# ## An attack
#
# How *small* a change of an image is enough to change the prediction? The fast gradient sign method of Goodfellow et
# al. 2015 changes each pixel by the same small amount epsilon in the direction in which the loss rises: x + epsilon
# sign(gradient). Each change is hardly visible, but all 784 of them raise the loss.
#
# **Predict before you run.** Pixels have values from 0 to 1. With epsilon = 0.1, what will the accuracy be? And with
# *random* signs and the same epsilon?

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
# Random signs with epsilon = 0.1 have almost no effect: 95.4% are still right. In the direction of the gradient, the
# same epsilon leaves 53.3%, and 0.2 leaves 8.2%, worse than guessing. You would still read every one of these digits.
# In 784 dimensions, a random direction has almost nothing in common with the few directions in which the network is
# sensitive; the gradient shows exactly those. Such images are called *adversarial examples*.
#
# ## Wrong labels
#
# In real data some labels are wrong. We give a part of 2,000 training images another label at random, and ask two
# questions: what does this do to the validation accuracy, and can the network tell us *which* labels are wrong?
#
# **Predict before you run.** With 20 % of the labels wrong, will the accuracy fall by 20 points? In which epoch will
# it be highest?

# %%
epochs = 10


def with_wrong_labels(share):
    """2,000 training images, that share of them with a wrong label; and a mask of the wrong ones."""
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
    print(f"training accuracy {heart:.1%}")
show.curves(curves, xlabel="epoch", ylabel="validation accuracy")

# %% [markdown]
# No: in the best epoch the accuracy is 3 points lower, 92.2% instead of 95.0%. Wrong labels are inconsistent and
# right ones consistent, so the network first learns the *common* patterns, which are right. Then it begins to
# memorize the exceptions, as in lesson 9, and the accuracy falls, to 83.2% at the end with 20 % wrong. Early stopping
# helps most if many labels are wrong.
#
# **Predict before you run.** Train for only two epochs with 20 % wrong, and sort the training images by their loss.
# How many of the images with the highest loss have a wrong label?

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
# 89.3% of these images have a wrong label; a random choice would find 19 %. The title of each image shows the
# prediction of the network, and the given label if that is another digit. Label errors in real data sets, including
# MNIST, are found with such lists.
#
# ## Exercises
#
# **1.** Show the saliency maps of an MLP for the same images, and compare them with those of the CNN. Which are less
# noisy, and why?
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
# By this measure the MLP's maps are slightly less noisy (0.92 against 1.14), but both are, for different reasons. The
# MLP has separate weights for each pixel, even where hardly any image has ink, and there these weights still have
# nearly their random initial values. The CNN uses the same few filters everywhere.
#
# </details>
#
# **2.** Write a *targeted* attack: change the 4 until it is classified as a 9, with an epsilon as small as possible.
#
# <details><summary>Answer</summary>
#
# ```python
# four = images[chosen[4] : chosen[4] + 1]
# pixels = Tensor(four, requires_grad=True)
# ops.cross_entropy(cnn(pixels), np.array([9])).backward()
# for epsilon in np.arange(0.01, 0.4, 0.01, dtype=np.float32):
#     aimed = (four - epsilon * np.sign(pixels.grad)).clip(0, 1)  # minus: the loss of "9" should fall
#     if logits_of(cnn, aimed).argmax() == 9:
#         break
# print(f"epsilon {epsilon:.2f} is enough")
# show.digits(aimed, [4], logits_of(cnn, aimed).argmax(1))
# assert logits_of(cnn, aimed).argmax() == 9
# ```
#
# The attack goes down on the loss for the target class, instead of up on the loss for the true one. The rest is the
# same.
#
# </details>
#
# **3.** Do images that were made to fool the CNN also fool another network, whose gradient was not used?
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
#     print(f"epsilon 0.1, made with the first network, {name}: {scores[name]:.1%}")
# assert scores["itself"] < scores["another"]
# ```
#
# In part: its accuracy is higher than that of the attacked network and lower than without an attack. Two networks
# trained on the same images rely on some of the same features. So keeping the weights secret does not protect a
# network.
#
# </details>
#
# **4.** The remedy of Goodfellow et al. is *adversarial training*: train on attacked images too. Write the loop:
# attack each batch with epsilon = 0.1, then take a step on both the clean and the attacked batch. What does it cost
# in accuracy on clean images?
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl.data import batches
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
# It takes three forward and backward passes per batch instead of one, and costs little accuracy on clean images. It
# recovers most of what the attack took, against *this* attack. Stronger attacks, of many small steps, need stronger
# training.
#
# </details>
#
# ## What to read next
#
# [`minidl/tensor.py`](../minidl/tensor.py) once more: `requires_grad` on an image is all that most of this lesson
# needed. The replay page shows how the filters of a network change during training: `python -m minidl.train --model
# cnn --trace replay.html`.
