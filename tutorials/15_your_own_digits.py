# %% [markdown]
# # 15. Your own digits
#
# **Goal.** Let a network that reads test images well read a digit on a sheet of paper, see it fail, and find out why:
# the photograph differs from the training images in five ways, and each difference can be removed in a few lines.
#
# **Time.** 20 minutes. **Before this:** lesson 4. A pen, paper and a phone, if you like.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
from pathlib import Path

import numpy as np
from PIL import Image

from minidl import Trainer, load_mnist, nn, split
from minidl.handwriting.filters import closing
from minidl.handwriting.frame import resized
from minidl.handwriting.look import look
from minidl.optim import Adam
from minidl.teach import show

digits = load_mnist(name="mnist5k")
model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128, rng=0), nn.ReLU(), nn.Linear(128, 10, rng=1))
trainer = Trainer(model, Adam(model.parameters(), lr=0.002), split(digits, seed=0))
trainer.fit(8, verbose=False)
test, labels = digits.test_images[::10] / np.float32(255), digits.test_labels[::10]


def answers(images):
    """For images (N, 28, 28): the predicted digits, and their probabilities."""
    chances = trainer.predict(np.asarray(images, np.float32))
    return chances.argmax(1), chances.max(1)


said, sure = answers(test)
print(f"right: {(said == labels).mean():.0%} of {len(test)} test images")

# %% [markdown]
# ## A photograph
#
# Not everyone has a camera at hand, so we simulate photographs of the same digits: each is written in dark ink
# somewhere on a sheet of 400 by 300 pixels, lit from one side.


# %%
def photograph(digit, rng):
    """A digit (28, 28), light on dark, as dark ink on a sheet (400, 300) in uneven light."""
    side = rng.integers(110, 220)
    ink = np.zeros((400, 300), np.float32)
    top, left = rng.integers(0, 400 - side), rng.integers(0, 300 - side)
    ink[top : top + side, left : left + side] = np.clip(resized(digit, (side, side)), 0, 1)
    light = np.linspace(1, 0.5, 300, dtype=np.float32)  # from left to right
    return (0.95 - 0.8 * ink) * light


rng = np.random.default_rng(0)
photographs = [photograph(digit, rng) for digit in test]
show.digits(np.stack(photographs[::10]), labels[::10], columns=5)

# %% [markdown]
# The network takes 28 by 28 pixels. So we scale the whole sheet down to this size, the simplest thing that a program
# can do with a photograph.
#
# **Predict before you run.** How many of the hundred will be right? And how confident will the network be?

# %%
small = np.stack([resized(photo, (28, 28)) for photo in photographs])
said, sure = answers(small)
print(f"right: {(said == labels).mean():.0%}; mean confidence: {sure.mean():.0%}")
print("answers:", np.unique(said, return_counts=True))
show.digits(small[::10], labels[::10], said[::10])

# %% [markdown]
# It gives nearly the same answer for every sheet, and with high confidence. A network has no way to say "this is no
# digit": softmax distributes a total probability of 1 among the ten digits, whatever the input is.
#
# ## What the network was trained on
#
# The network knows only its training images. What do they have in common? We measure the brightness of their top and
# bottom rows, the longer side of the digit's bounding box, and the position of its centre of mass:


# %%
def box(image, edge=0.25):
    """The bounding box: the rows and the columns from the first to the last with ink."""
    rows, columns = (np.flatnonzero((image > edge).any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def centre(image):
    """The centre of mass, (row, column), in pixels from the upper left corner."""
    places = [np.arange(n) + 0.5 for n in image.shape]
    return np.array([(image.sum(1 - k) * places[k]).sum() for k in (0, 1)]) / image.sum()


train = digits.train_images[:1000] / np.float32(255)
longer = np.array([max(image[box(image)].shape) for image in train])
centres = np.array([centre(image) for image in train])
print(f"top and bottom rows: {train[:, [0, -1]].mean():.3f} on average; the paper is black")
print(f"longer side of the box: {longer.mean():.1f} pixels, deviation {longer.std():.1f}")
row, column = centres.mean(0)
print(f"centre of mass: row {row:.1f}, column {column:.1f}, deviation {centres.std(0).max():.1f}")

# %% [markdown]
# They are white on black, the longer side has 20 pixels, and the centre of mass is at 14.5, the middle of the
# fifteenth pixel. [That is how MNIST was made](http://yann.lecun.com/exdb/mnist/): every digit was scaled and centred
# in this way. The network has never seen a digit at another place or of another size, so it had no reason to learn
# that position and size do not matter.
#
# ## One difference at a time
#
# **Predict before you run.** Here are five preprocessing steps, each applied after the ones before. Which will help
# the most?
#
# 1. *Inverted*: light on dark.
# 2. *Background removed*: the brightness of the paper at each pixel is removed. A `closing` finds it: it replaces
#    everything that is dark and narrower than a window with the brightness around it.
# 3. *Cropped*: only the digit's bounding box, resized to 28 by 28.
# 4. *Scaled*: the longer side has 20 pixels, the shorter one is in proportion, and the bounding box is in the middle.
# 5. *Centred*: the centre of mass is at 14.5.


# %%
def without_paper(photo):
    paper = closing(photo, 61)  # wider than any stroke, narrower than the sheet
    ink = (paper - photo) / paper
    return np.clip(ink / ink.max(), 0, 1)


def framed(ink, by_mass):
    digit = ink[box(ink)]
    scale = 20 / max(digit.shape)
    digit = resized(digit, tuple(max(1, round(n * scale)) for n in digit.shape))
    off = 14.5 - centre(digit) if by_mass else 14 - np.array(digit.shape) / 2
    top, left = np.clip(np.round(off).astype(int), 0, 28 - np.array(digit.shape))
    frame = np.zeros((28, 28), np.float32)
    frame[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return frame


def cut_out(ink):
    return resized(ink[box(ink)], (28, 28))


inks = [without_paper(photo) for photo in photographs]
steps = {
    "as it is": small,
    "inverted": 1 - small,
    "no background": [resized(ink, (28, 28)) for ink in inks],
    "cropped": [cut_out(ink) for ink in inks],
    "scaled": [framed(ink, by_mass=False) for ink in inks],
    "centred": [framed(ink, by_mass=True) for ink in inks],
}
for name, images in steps.items():
    said, sure = answers(images)
    print(f"{name:14} right {(said == labels).mean():4.0%}   confidence {sure.mean():4.0%}")
show.digits(np.concatenate([np.stack(images)[5:95:10] for images in steps.values()]), columns=9)

# %% [markdown]
# Each row of images is one step. The first three do not help by themselves: to the network, a digit of seven pixels
# in a corner, or one stretched over the whole image, is as unfamiliar as a white sheet. The right size and
# proportions help most, and the centre of mass brings the accuracy up to that on the test images themselves.
#
# How exact must the position be? Shift the test images themselves, which the network reads well, to the right.

# %%
moved = [(np.roll(test, k, axis=2), k) for k in range(7)]
for images, k in moved:
    print(f"{k} pixels: right {(answers(images)[0] == labels).mean():4.0%}")

# %% [markdown]
# A shift of one pixel, which no human reader would notice, costs several digits of a hundred, and one of three pixels
# half of them. This is why the position matters so much.
#
# ## The library's way
#
# `python -m minidl.predict` performs these five steps with a little more care: it detects whether the digits are dark
# on light, removes the lines of ruled paper, thickens the strokes of a thin pen to those of MNIST, and separates
# several digits. `look` is the function behind it. Here is a sheet with three digits, saved as a JPEG as a phone
# would.

# %%
page = np.zeros((140, 420), np.float32)
chosen = [np.flatnonzero(labels == k)[1] for k in (3, 1, 4)]
for i, digit in enumerate(test[chosen]):
    page[10:130, 20 + 130 * i : 140 + 130 * i] = np.clip(resized(digit, (120, 120)), 0, 1)
file = Path("three.jpg")
Image.fromarray(np.uint8(255 * (0.9 - 0.7 * page))).save(file)

seen = list(look(file, (28, 28)))
file.unlink()
said, sure = answers([image.pixels for image in seen])
for image, digit, chance in zip(seen, said, sure, strict=True):
    print(f"{image.name}: {digit} ({chance:.0%})  [{image.note}]")
print("written:", labels[chosen])
show.digits(np.stack([image.pixels for image in seen]), said)

# %% [markdown]
# **Your own digits.** Write a digit on paper, photograph it, and put the file into the folder of this lesson:
# `look("photo.jpg", (28, 28))` gives what the network would see. Or train a network on the command line, and draw on
# a page where the network answers while you draw:
#
# ```sh
# python -m minidl.train --dataset mnist5k --model mlp --opt adam --out runs/adam
# python -m minidl.predict runs/adam photo.jpg --show seen.png
# python -m minidl.predict runs/adam --page draw.html
# ```
#
# ## Exercises
#
# **1.** Could the network learn that the position does not matter? Train it on images that are shifted by up to four
# pixels, and repeat the test with shifted images.
#
# <details><summary>Answer</summary>
#
# ```python
# from dataclasses import replace
#
# rng = np.random.default_rng(1)
# def shifted(images):
#     return np.stack([np.roll(image, rng.integers(-4, 5, 2), axis=(0, 1)) for image in images])
#
# copies = np.concatenate([digits.train_images, *(shifted(digits.train_images) for _ in range(3))])
# more = replace(digits, train_images=copies, train_labels=np.tile(digits.train_labels, 4))
# again = nn.Sequential(nn.Flatten(), nn.Linear(784, 128, rng=0), nn.ReLU(), nn.Linear(128, 10, rng=1))
# other = Trainer(again, Adam(again.parameters(), lr=0.002), split(more, seed=0))
# other.fit(8, verbose=False)
# for images, k in moved:
#     right = (other.predict(images).argmax(1) == labels).mean()
#     print(f"{k} pixels: right {right:4.0%}")
# assert (other.predict(moved[4][0]).argmax(1) == labels).mean() > (answers(moved[4][0])[0] == labels).mean() + 0.2
# ```
#
# Shifts of the size that it was trained with cost it little. A network learns only what its training data show:
# either remove a difference from the input, as above, or include it in the training data (*data augmentation*, lesson
# 17).
#
# </details>
#
# **2.** Does the network's confidence tell the good images from the hopeless ones? Reject every answer with a
# confidence below 90 %, for the sheets as they are and for the centred digits.
#
# <details><summary>Answer</summary>
#
# ```python
# for name in ("as it is", "centred"):
#     said, sure = answers(steps[name])
#     kept = sure > 0.9
#     wrong = (said != labels)[kept]
#     print(f"{name:10} answered {kept.mean():4.0%}, of these wrong {wrong.mean() if kept.any() else 0:4.0%}")
# ```
#
# For centred digits the confidence is useful: of the answers that are kept, nearly all are right. For images that are
# unlike the training images, it means nothing.
#
# </details>
#
# **3.** MNIST centres digits by their centre of mass. Crop the test images themselves, and centre their *bounding
# box* instead. Which digits suffer most?
#
# <details><summary>Answer</summary>
#
# ```python
# by_box = answers([framed(image, by_mass=False) for image in test])[0]
# by_mass = answers([framed(image, by_mass=True) for image in test])[0]
# for name, said in (("box", by_box), ("mass", by_mass)):
#     missed = np.bincount(labels[said != labels], minlength=10)
#     print(f"{name:4} right {(said == labels).mean():4.0%}; wrong by digit", missed)
# assert (by_mass == labels).mean() >= (by_box == labels).mean()
# ```
#
# Digits whose centre of mass is not in the middle of their bounding box, such as 7 and 9, are shifted the most.
#
# </details>
#
# ## What to read next
#
# [`minidl/handwriting/`](../minidl/handwriting) in the order given at the top of its `__init__.py`; [your own
# digits](pages/own-digits.md) has the commands.
