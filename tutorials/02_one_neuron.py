# %% [markdown]
# # 2. One neuron
#
# **Goal.** Compute by hand how the loss of one neuron depends on each of its weights; let the computer do the same;
# and see the graph that it uses to do so.
#
# **Time.** 20 minutes. **Before this:** derivatives and the chain rule. Lesson 1 is not needed.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import math

import numpy as np

from minidl import Tensor
from minidl.optim import SGD
from minidl.teach import draw, show

# %% [markdown]
# A neuron multiplies each of its inputs by a weight, adds up the products and a bias, and applies a nonlinear
# function, the *activation*, to the sum. With two inputs and tanh as the activation:
#
# $$y = \tanh(w_1 x_1 + w_2 x_2 + b)$$

# %%
x1, x2 = 2.0, -1.0
w1, w2, b = 0.5, 1.5, 0.8

s = w1 * x1 + w2 * x2 + b
y = math.tanh(s)
print(f"s = {s:.4f}, y = {y:.4f}")

# %% [markdown]
# We want y to be 1. The *loss* measures how far off it is: `loss = (y - 1)**2`. How does the loss change when $w_1$
# changes a little? By the chain rule, multiply the derivatives along the path from $w_1$ to the loss:
#
# $$\frac{d\,\text{loss}}{dw_1} = \underbrace{2(y-1)}_{d\,\text{loss}/dy}\;\cdot\;
# \underbrace{(1-y^2)}_{dy/ds}\;\cdot\;\underbrace{x_1}_{ds/dw_1}$$
#
# **Predict before you run.** The derivatives with respect to $w_1$ and $w_2$ share the first two factors. Which of
# the two is larger, and do they have the same sign?

# %%
loss = (y - 1) ** 2
by_y = 2 * (y - 1)
by_s = by_y * (1 - y**2)
by_hand = {"w1": by_s * x1, "w2": by_s * x2, "b": by_s}
print({name: round(slope, 6) for name, slope in by_hand.items()})

# %% [markdown]
# Is it right? To check, change each weight a little and measure how much the loss changes.


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
# ## Autograd: the computer does the same
#
# A `Tensor` is a number (or an array) that remembers how it was computed. Here is the same formula with Tensors.

# %%
w1, w2, b = (Tensor(np.array(v), requires_grad=True) for v in (0.5, 1.5, 0.8))
a = w1 * x1 + w2 * x2
s = a + b
y = s.tanh()
error = y - 1.0
loss = error**2.0
draw.graph(loss, w1=w1, w2=w2, b=b, a=a, s=s, y=y, error=error, loss=loss)

# %% [markdown]
# Read the graph twice. From left to right it shows the values in the order in which they were computed: the *forward
# pass*. From right to left it shows the gradients in the order in which `backward()` computes them: the *backward
# pass*. Each box multiplies the gradient that it receives by its own derivative and passes the product on to its
# inputs. `s` is the sum of `a` and `b`, so both receive the same gradient: the derivative of a sum with respect to
# each of its terms is 1.
#
# **Predict before you run.** Look at the boxes `y` and `s`. By which number was the gradient multiplied on the way
# from `y` to `s`? Which formula gives that number?

# %%
print(f"1 - y**2 = {1 - y.item() ** 2:.4f}")
loss.backward()
for name, weight in (("w1", w1), ("w2", w2), ("b", b)):
    print(f"{name}: backward() gives {weight.grad:+.6f}, by hand {by_hand[name]:+.6f}")
    assert abs(weight.grad - by_hand[name]) < 1e-12

# %% [markdown]
# ## Learning step by step
#
# The gradient points in the direction in which the loss grows fastest, so a small step in the opposite direction
# makes the loss smaller. This is *gradient descent*, and the length of the step is set by the *learning rate*, `lr`.
# Here are thirty steps:

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
# One neuron can learn "and": the answer is 1 only if both inputs are 1, and -1 otherwise. Put all four cases into one
# array; the formula of the neuron stays the same.

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
# **Predict before you run.** Now "either, but not both" (xor). Will its loss go to zero as well?

# %%
answers, xor_losses = learn(np.array([-1.0, 1.0, 1.0, -1.0]))
print("answers for xor:", np.round(answers, 2) + 0.0)
show.curves({"and": and_losses, "xor": xor_losses})

# %% [markdown]
# It cannot. A single neuron divides the plane of its inputs by one straight line, and no line has (0,1) and (1,0) on
# one side and (0,0) and (1,1) on the other. That is why networks have more than one layer.
#
# ## Exercises
#
# **1.** Use a weight several times: `y = w * w + w` at w = 3. Compute the derivative by hand. Draw the graph. Which
# boxes pass a gradient to `w`, and how are these gradients combined?
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
# By hand: 2w + 1 = 7. The product passes 3 to each of its two inputs, the sum passes 1, and the contributions are
# *added*: 3 + 3 + 1. Gradients that reach a tensor along several paths always add up.
#
# </details>
#
# **2.** Replace tanh with the sigmoid, $y = 1/(1+e^{-s})$, whose derivative is y (1 - y). Compute the derivative of
# the loss with respect to $w_1$ by hand at the initial values above (0.5, 1.5, 0.8), and check it.
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
# Only the formula of the middle factor has changed, from 1 - y² to y (1 - y). The other two do not depend on the
# choice of the activation.
#
# </details>
#
# **3.** Write an operation of your own, `cube(x)`, with its derivative, and test it with `gradcheck`. Then make a
# mistake in the derivative and see what `gradcheck` reports.
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
# It names the worst element, with the gradient from `backward()` and the measured one. At x = 1 the wrong formula
# happens to give the right value, which is why one should test several values.
#
# </details>
#
# ## What to read next
#
# [`minidl/tensor.py`](../minidl/tensor.py): the class `Tensor`, and `backward()`, the backward pass that you saw.
# Then [lesson 3](03_order_of_the_walk.ipynb): in which order must it visit the boxes?
