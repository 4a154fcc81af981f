# %% [markdown]
# # 2. One neuron
#
# **Goal.** Compute by hand how one neuron's output depends on each of its weights; let the computer do the
# same; and see the graph that it walks to do so.
#
# **Time.** 20 minutes. **Before this:** what a derivative is. Tutorial 1 is not needed.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
import math

import numpy as np

from minidl import Tensor
from minidl.optim import SGD
from minidl.teach import draw, show

# %% [markdown]
# A neuron takes some numbers, multiplies each by a weight, adds them up and a bias too, and squeezes the sum.
# With two inputs, and tanh to squeeze:
#
# $$y = \tanh(w_1 x_1 + w_2 x_2 + b)$$

# %%
x1, x2 = 2.0, -1.0
w1, w2, b = 0.5, 1.5, 0.8

s = w1 * x1 + w2 * x2 + b
y = math.tanh(s)
print(f"s = {s:.4f}, y = {y:.4f}")

# %% [markdown]
# We want y to be 1, so we measure how wrong it is: `loss = (y - 1)**2`. How does the loss change when $w_1$
# changes a little? The chain rule says: multiply the slopes along the way.
#
# $$\frac{d\,\text{loss}}{dw_1} = \underbrace{2(y-1)}_{\text{loss by } y}\;\cdot\;
# \underbrace{(1-y^2)}_{y \text{ by } s}\;\cdot\;\underbrace{x_1}_{s \text{ by } w_1}$$
#
# **Predict before you run.** The slopes by $w_1$ and by $w_2$ share the first two factors. So which of the two
# is larger, and do they have the same sign?

# %%
loss = (y - 1) ** 2
by_y = 2 * (y - 1)
by_s = by_y * (1 - y**2)
by_hand = {"w1": by_s * x1, "w2": by_s * x2, "b": by_s}
print({name: round(slope, 6) for name, slope in by_hand.items()})

# %% [markdown]
# Is it right? The honest test is to move each weight a little and see what the loss does.


# %%
def loss_of(w1, w2, b):
    return (math.tanh(w1 * x1 + w2 * x2 + b) - 1) ** 2


h = 1e-6
measured = {
    "w1": (loss_of(w1 + h, w2, b) - loss_of(w1 - h, w2, b)) / (2 * h),
    "w2": (loss_of(w1, w2 + h, b) - loss_of(w1, w2 - h, b)) / (2 * h),
    "b": (loss_of(w1, w2, b + h) - loss_of(w1, w2, b - h)) / (2 * h),
}
for name in by_hand:
    print(f"{name}: by hand {by_hand[name]:+.6f}, measured {measured[name]:+.6f}")
    assert abs(by_hand[name] - measured[name]) < 1e-6

# %% [markdown]
# ## The computer does it
#
# A `Tensor` is a number (or an array) that remembers how it was computed. We write the same formula with
# Tensors.

# %%
w1, w2, b = (Tensor(np.array(v), requires_grad=True) for v in (0.5, 1.5, 0.8))
a = w1 * x1 + w2 * x2
s = a + b
y = s.tanh()
error = y - 1.0
loss = error**2.0
draw.graph(loss, w1=w1, w2=w2, b=b, a=a, s=s, y=y, error=error, loss=loss)

# %% [markdown]
# Read the picture twice. From left to right: values, as they were computed. From right to left: gradients, as
# `backward()` finds them. Each box passes the gradient on to its inputs, times its own slope. Where the sum `s`
# splits into `a` and `b`, both get the same gradient: a sum has slope 1 towards each of its parts.
#
# **Predict before you run.** Look at the box `y` and the box `s`. By which number was the gradient multiplied
# on its way from one to the other? Which formula gives that number?

# %%
print(f"1 - y**2 = {1 - y.item() ** 2:.4f}")
loss.backward()
for name, weight in (("w1", w1), ("w2", w2), ("b", b)):
    print(f"{name}: backward() gives {weight.grad:+.6f}, by hand {by_hand[name]:+.6f}")
    assert abs(weight.grad - by_hand[name]) < 1e-12

# %% [markdown]
# ## One step of learning
#
# The gradient points uphill. A small step against it makes the loss smaller. Do it thirty times:

# %%
optimizer = SGD([w1, w2, b], lr=0.1)
losses = []
for _ in range(30):
    loss = ((w1 * x1 + w2 * x2 + b).tanh() - 1.0) ** 2.0
    losses.append(loss.item())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
show.curves({"loss": losses})

# %% [markdown]
# ## A neuron that learns a rule
#
# One neuron can learn "and": the answer is 1 only where both inputs are 1, else -1. All four cases at once are
# an array, and the neuron is the same formula.

# %%
inputs = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def learn(targets, steps=300):
    """Train one neuron from zero; returns its four answers and its losses."""
    w = Tensor(np.zeros((2, 1)), requires_grad=True)
    bias = Tensor(np.zeros(1), requires_grad=True)
    optimizer, losses = SGD([w, bias], lr=0.3), []
    for _ in range(steps):
        answers = (Tensor(inputs) @ w + bias).tanh()
        loss = ((answers - Tensor(targets[:, None])) ** 2.0).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return answers.numpy()[:, 0], losses


answers, and_losses = learn(np.array([-1.0, -1.0, -1.0, 1.0]))
for case, answer in zip(inputs, answers, strict=True):
    print(f"{case[0]:.0f} and {case[1]:.0f}: {answer:+.2f}")

# %% [markdown]
# **Predict before you run.** Now "either, but not both" (xor). Will the loss go to zero as well?

# %%
answers, xor_losses = learn(np.array([-1.0, 1.0, 1.0, -1.0]))
print("answers for xor:", np.round(answers, 2) + 0.0)
show.curves({"and": and_losses, "xor": xor_losses})

# %% [markdown]
# It cannot: a single neuron draws one straight line through the plane of its inputs, and no line has (0,1) and
# (1,0) on one side, (0,0) and (1,1) on the other. That is why networks have layers.
#
# ## Exercises
#
# **1.** Use a weight twice: `y = w * w + w` at w = 3. What is the slope by hand? Draw the graph. Which boxes
# hand a gradient to `w`, and what happens with them?
#
# <details><summary>Answer</summary>
#
# ```python
# w = Tensor(np.array(3.0), requires_grad=True)
# y = w * w + w
# print(draw.graph(y, w=w, y=y))
# y.backward()
# assert w.grad == 7.0
# ```
#
# By hand: 2w + 1 = 7. The product gives 3 for each of its two sides, the sum gives 1, and the contributions are
# *added*: 3 + 3 + 1. Gradients of one thing along several paths always add up.
#
# </details>
#
# **2.** Replace tanh by the sigmoid, $1/(1+e^{-s})$, whose slope is y (1 - y). Compute the slope of the loss by
# $w_1$ by hand at the first values above (0.5, 1.5, 0.8), and check it.
#
# <details><summary>Answer</summary>
#
# ```python
# w = Tensor(np.array([0.5, 1.5, 0.8]), requires_grad=True)
# y = (w[0] * x1 + w[1] * x2 + w[2]).sigmoid()
# loss = (y - 1.0) ** 2.0
# loss.backward()
# out = 1 / (1 + math.exp(-(0.5 * x1 + 1.5 * x2 + 0.8)))
# by_hand = 2 * (out - 1) * out * (1 - out) * x1
# print(f"by hand {by_hand:+.6f}, backward() {w.grad[0]:+.6f}")
# assert abs(by_hand - w.grad[0]) < 1e-12
# ```
#
# Only the middle factor of the chain has changed: 1 - y² became y (1 - y). The others do not know what squeezes the
# sum.
#
# </details>
#
# **3.** Write an operation of your own, `cube(x)`, with its slope beside it, and let `gradcheck` judge it. Then
# make a mistake in the slope and see what `gradcheck` says.
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl import gradcheck
# from minidl.tensor import record
#
#
# def cube(x):
#     return record("cube", x.data**3, (x, lambda g: g * 3 * x.data**2))
#
#
# def wrong_cube(x):
#     return record("cube", x.data**3, (x, lambda g: g * 3 * x.data))
#
#
# assert gradcheck(cube, [np.array([1.0, -2.0, 3.0])])
# try:
#     gradcheck(wrong_cube, [np.array([1.0, -2.0, 3.0])])
# except AssertionError as error:
#     print(error)
# ```
#
# It names the worst element, with the slope that was claimed and the one that was measured. At x = 1 the wrong slope
# happens to be right, which is why one tries several numbers.
#
# </details>
#
# ## What to read next
#
# [`minidl/tensor.py`](../minidl/tensor.py): the class `Tensor`, and `backward()`, which is the walk that you
# saw. Then [tutorial 3](03_order_of_the_walk.ipynb): in which order must it visit the boxes?
