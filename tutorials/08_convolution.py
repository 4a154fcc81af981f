# %% [markdown]
# # 8. Convolution as matrix multiplication
#
# **Goal.** See that a convolution slides a small window over an image, that it can be written as a matrix product in
# two different ways, and what it saves compared with a fully connected layer.
#
# **Time.** 20 minutes. **Before this:** lesson 4.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import numpy as np

from minidl import Tensor, gradcheck, ops
from minidl.data import load_mnist, split
from minidl.optim import Adam
from minidl.teach import show
from minidl.trainer import Trainer
from minidl.training.models import build_model

# %% [markdown]
# ## A sliding window
#
# Take a digit and a *filter* (or *kernel*) of 3 by 3 weights. Put the filter on the top left corner of the image,
# multiply each of the 9 weights by the pixel below it, and add up the products: this gives one pixel of the output.
# Move the filter one pixel to the right and repeat.

# %%
dataset = load_mnist(name="mnist5k")
digit = dataset.train_images[dataset.train_labels == 7][1] / 255.0
filters = {
    "horizontal edge": np.array([[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]]),
    "vertical edge": np.array([[-1.0, 0, 1], [-1, 0, 1], [-1, 0, 1]]),
    "blur": np.ones((3, 3)) / 9,
}


def convolve(image, kernel):
    height, width = image.shape[0] - 2, image.shape[1] - 2
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            result[i, j] = (image[i : i + 3, j : j + 3] * kernel).sum()
    return result


results = [convolve(digit, kernel) for kernel in filters.values()]
show.digits(results, list(filters), columns=3, signed=True)

# %% [markdown]
# Red is positive, blue negative, white zero. The first filter subtracts the pixels above from those below: its output
# is positive where the image gets brighter downwards, that is, at the upper edges of strokes.
#
# **Predict before you run.** What does a filter do that has a 1 in the centre and 0 everywhere else? And one with the
# 1 in the top left corner?

# %%
centre, corner = np.zeros((3, 3)), np.zeros((3, 3))
centre[1, 1] = corner[0, 0] = 1
print("centre: the image without its border:", np.array_equal(convolve(digit, centre), digit[1:-1, 1:-1]))
print("corner: the same, shifted:", np.array_equal(convolve(digit, corner), digit[:-2, :-2]))

# %% [markdown]
# ## First way: the windows as rows of a matrix
#
# Two nested loops in Python are slow. Each output pixel is a sum of nine products, like a row times a column in a
# matrix product. So write each window as a row of 9 numbers, stack the rows into a matrix, and multiply it by the
# filter, written as a column. An image of 4 by 4 pixels has 2 by 2 windows:

# %%
image = np.arange(16.0).reshape(4, 4)
show.numbers(image)

# %%
rows = np.array([image[i : i + 3, j : j + 3].ravel() for i in range(2) for j in range(2)])
show.numbers(rows)

# %% [markdown]
# Four rows, one for each position of the window. This layout is called *im2col*. Most pixels appear in several rows:
# the matrix is up to nine times as large as the image.
#
# **Predict before you run.** How often does the pixel with the value 5 appear in the matrix? And the one with the
# value 0?

# %%
kernel = filters["horizontal edge"]
product = (rows @ kernel.ravel()).reshape(2, 2)
print("5 appears", (rows == 5).sum(), "times, 0", (rows == 0).sum(), "time")
assert np.array_equal(product, convolve(image, kernel))

# %% [markdown]
# The library's `conv2d` does this for a whole batch, several channels and several filters at once. Images have the
# shape (N, channels, height, width), filters (out channels, channels, 3, 3):

# %%
x = Tensor(image[None, None])
w = Tensor(np.stack(list(filters.values()))[:, None])
y = ops.conv2d(x, w)
print("images", x.shape, "filters", w.shape, "output", y.shape)
assert np.allclose(y.numpy()[0, 0], product)

# %% [markdown]
# ## Second way: a fully connected layer with most weights zero
#
# Each output pixel is a weighted sum of the image's pixels, so it must also be possible to write the convolution as
# `matrix @ pixels`, as in a `Linear` layer. What does that matrix look like? To find it, convolve an image that is 1
# at a single pixel and 0 elsewhere: the output is one column of the matrix.

# %%
side = 6
columns = []
for pixel in range(side * side):
    single = np.zeros(side * side)
    single[pixel] = 1
    columns.append(convolve(single.reshape(side, side), kernel).ravel())
matrix = np.array(columns).T  # (16 outputs, 36 pixels)
show.numbers(matrix, signed=True)

# %% [markdown]
# Each row is one position of the window. Notice two things: *most weights are zero*, because a window covers only a
# small part of the image; and *all rows have the same weights*, shifted, because the same filter is used everywhere
# (*weight sharing*). A fully connected layer would have to learn both.
#
# **Predict before you run.** From an image of 28 by 28 to 26 by 26 outputs: how many weights does a fully connected
# layer have, and how many does the convolution have?

# %%
print(f"fully connected layer: {28 * 28 * 26 * 26:,} weights; convolution: {kernel.size}")

# %% [markdown]
# ## Backwards: the transposed matrix
#
# For `y = matrix @ x`, the gradient of x is `matrix.T @ g`, by the rule of lesson 3. Read the matrix above by
# columns: a pixel receives gradient from every window that it is in, at most nine.

# %%
x = Tensor(np.random.default_rng(0).normal(size=(1, 1, side, side)), requires_grad=True)
w = Tensor(kernel[None, None], requires_grad=True)
y = ops.conv2d(x, w)
g = np.random.default_rng(1).normal(size=y.shape)
y.backward(g)
assert np.allclose(x.grad.ravel(), matrix.T @ g.ravel())
print("the gradient of the image is matrix.T @ g")

places = [(i, j) for i in range(4) for j in range(4)]
windows = np.array([x.data[0, 0, i : i + 3, j : j + 3].ravel() for i, j in places])
assert np.allclose(w.grad.ravel(), windows.T @ g.ravel())
print("the gradient of the filter is windows.T @ g")
assert gradcheck(ops.conv2d, [x, w])

# %% [markdown]
# ## Filters that learn
#
# So far we chose the filters. In a network they start at random and are learned. Here is a small CNN, a
# *convolutional neural network*: 16 filters; *max pooling* (`MaxPool2d`), which keeps the largest value of each 2 by
# 2 square and so halves the height and the width; 32 filters on the 16 resulting images, the *feature maps*; pooling
# again; and two fully connected layers.

# %%
splits = split(dataset, seed=0)
cnn = build_model("cnn", splits.image_size, splits.classes, seed=0)
print(cnn)
cnn_record = Trainer(cnn, Adam(cnn.parameters()), splits, batch_size=64).fit(3, verbose=False)
mlp = build_model("mlp", splits.image_size, splits.classes, seed=0)
mlp_record = Trainer(mlp, Adam(mlp.parameters()), splits, batch_size=64).fit(3, verbose=False)
for name, model, record in (("cnn", cnn, cnn_record), ("mlp", mlp, mlp_record)):
    weights = sum(p.size for p in model.parameters())
    print(f"{name}: {weights:,} weights, validation accuracy {record[-1]['val_accuracy']:.1%}")

# %%
first = cnn[0].weight.numpy()  # (16, 1, 3, 3)
show.digits(first, columns=16, signed=True)

# %% [markdown]
# And these are the 16 feature maps of the seven:

# %%
seen = cnn[0](Tensor(digit[None, None].astype(np.float32))).numpy()[0]
show.digits(seen, columns=8, signed=True)

# %% [markdown]
# Some respond to edges in one direction, some nearly copy the image. The next layer looks for patterns in these maps.
#
# ## Exercises
#
# **1.** `padding=1` adds a border of zeros around the image. How large is the output of a 3 by 3 filter then? And
# with `stride=2` as well?
#
# <details><summary>Answer</summary>
#
# ```python
# x, w = Tensor(digit[None, None]), Tensor(kernel[None, None])
# print(ops.conv2d(x, w, padding=1).shape, ops.conv2d(x, w, padding=1, stride=2).shape)
# assert ops.conv2d(x, w, padding=1).shape == (1, 1, 28, 28)
# assert ops.conv2d(x, w, padding=1, stride=2).shape == (1, 1, 14, 14)
# ```
#
# The size is (28 + 2 - 3) // stride + 1: the number of steps that the window can take, plus one for its first
# position.
#
# </details>
#
# **2.** Convolve with the blur twice. Which single filter of 5 by 5 gives the same result?
#
# <details><summary>Answer</summary>
#
# ```python
# spot = np.zeros((9, 9))
# spot[4, 4] = 1
# both = convolve(convolve(spot, filters["blur"]), filters["blur"])
# show.numbers(both * 81)
# w5 = both[::-1, ::-1]  # a single 1 gives the filter, rotated by 180 degrees
# twice = convolve(convolve(digit, filters["blur"]), filters["blur"])
# once = ops.conv2d(Tensor(digit[None, None]), Tensor(w5[None, None].copy())).numpy()[0, 0]
# assert np.allclose(twice, once)
# ```
#
# Two layers of 3 by 3 together see 5 by 5 pixels. Without a nonlinear function between them, such as a ReLU, they are
# equivalent to one convolution.
#
# </details>
#
# **3.** Shift the digit two pixels to the right before the convolution. What happens to the output? Would a fully
# connected layer do the same?
#
# <details><summary>Answer</summary>
#
# ```python
# moved = np.roll(digit, 2, axis=1)
# before, after = convolve(digit, kernel), convolve(moved, kernel)
# assert np.allclose(after[:, 2:], before[:, :-2])
# print("the output has shifted by two pixels as well")
# ```
#
# No: a fully connected layer has separate weights for each pixel, so a shifted digit is a new image to it.
#
# </details>
#
# **4.** Write max pooling of one image with two loops, and compare it with `ops.max_pool2d`. Where does the gradient
# go?
#
# <details><summary>Answer</summary>
#
# ```python
# even = range(0, 28, 2)
# by_hand = np.array([[digit[i : i + 2, j : j + 2].max() for j in even] for i in even])
# x = Tensor(digit[None, None], requires_grad=True)
# pooled = ops.max_pool2d(x, 2)
# assert np.array_equal(pooled.numpy()[0, 0], by_hand)
# pooled.sum().backward()
# show.digits(x.grad)
# assert x.grad.sum() == 14 * 14
# ```
#
# To the largest pixel of each square: the others have no influence on the output.
#
# </details>
#
# ## What to read next
#
# [`minidl/ops_conv.py`](../minidl/ops_conv.py): the windows as a view of the image, without a copy, and both
# gradients beside the forward pass. [`minidl/fast/conv.py`](../minidl/fast/conv.py): the same, optimized for speed.
# The assignment for this lesson is [A4](assignments/A4/README.md): write convolution and pooling yourself. Then [lesson
# 9](09_under_good_and_overfit.ipynb): how large should a network be?
