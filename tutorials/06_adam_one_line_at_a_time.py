# %% [markdown]
# # 6. Adam, one line at a time
#
# **Goal.** Follow a single weight through every line of Adam, first in plain Python, then inside a network that
# learns digits, and see what the lines are for.
#
# **Time.** 20 minutes. **Before this:** lesson 5.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
from math import sqrt

import numpy as np

from minidl import Tensor, nn, ops
from minidl.data import batches, load_mnist, split
from minidl.optim import SGD, Adam
from minidl.teach import show
from minidl.teach.landscape import descend, paths, ravine

# %% [markdown]
# Adam (Kingma & Ba 2015) keeps two running averages for each weight:
#
# ```
# m = b1 * m + (1 - b1) * g        the mean of the gradient           b1 = 0.9
# v = b2 * v + (1 - b2) * g**2     the mean of its square             b2 = 0.999
# m_hat = m / (1 - b1**t)          m and v start at 0: correct this bias
# v_hat = v / (1 - b2**t)
# w = w - lr * m_hat / (sqrt(v_hat) + eps)
# ```
#
# Here are five gradients of one weight. Let us compute the first step by hand.

# %%
gradients = [0.3, 0.1, -0.2, 0.4, 0.2]
b1, b2, eps, lr = 0.9, 0.999, 1e-8, 0.001

g = gradients[0]
m = b1 * 0 + (1 - b1) * g
v = b2 * 0 + (1 - b2) * g**2
print(f"m = {m:.4f}, though the only gradient so far is {g}")
print(f"v = {v:.6f}, though its square is {g**2:.4f}")

# %% [markdown]
# Both are far too small, because they are averages that include the zeros they started from. The division corrects
# for that: it is called *bias correction*.
#
# **Predict before you run.** At t = 1, what is m_hat? What is v_hat? So how long is the first step, as a multiple of
# lr? Would it be longer if the gradient were 300 instead of 0.3?

# %%
m_hat, v_hat = m / (1 - b1**1), v / (1 - b2**1)
print(f"m_hat = {m_hat:.4f}, v_hat = {v_hat:.4f}")
for g1 in (0.3, 300.0, 0.000_3):
    m1, v1 = (1 - b1) * g1, (1 - b2) * g1**2
    step = lr * (m1 / (1 - b1)) / (sqrt(v1 / (1 - b2)) + eps)
    print(f"first gradient {g1:>8}: first step {step:.6f}")

# %% [markdown]
# The first step is lr, whatever the size of the gradient. This is the main property of Adam: its steps depend on the
# *sign* of a gradient and on how *steady* it is, hardly on its size. Now compute all five steps, and compare them
# with the library's Adam.

# %%
weight = Tensor(np.array([1.0]), requires_grad=True)
adam = Adam([weight], lr=lr)
w, m, v = 1.0, 0.0, 0.0
print(" t     g       m        v   m_hat sqrt(v_hat)   step         w")
for t, g in enumerate(gradients, start=1):
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    step = lr * m_hat / (sqrt(v_hat) + eps)
    w = w - step
    averages = f"{m:7.4f} {v:8.6f} {m_hat:7.4f} {sqrt(v_hat):11.4f}"
    print(f"{t:2} {g:5.2f} {averages} {step:6.4f} {w:9.6f}")

    weight.grad = np.array([g])
    adam.step()
    assert np.allclose([weight.data[0], adam.m[0], adam.v[0]], [w, m, v], rtol=1e-14, atol=0)
print("the library has the same numbers, to the last digits")

# %% [markdown]
# Look at t = 3: the gradient is negative, but the step is still positive and w still decreases, because m is
# dominated by the two positive gradients before it.
#
# ## Steady or noisy
#
# The step is lr times m_hat / sqrt(v_hat). For a constant gradient, this ratio is 1. For one that is pure noise, the
# mean m is near 0 while the mean square v is not, so the ratio is small. Adam takes large steps where the gradient is
# consistent.
#
# **Predict before you run.** Take two gradients with mean 0.1, and add noise to each: to one with a standard deviation
# of 0.1, to the other ten times as much. For which will the ratio be nearer to 1?


# %%
def ratio(gradients):
    """m_hat / sqrt(v_hat) after each gradient."""
    m = v = 0.0
    result = []
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        result.append((m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps))
    return result


rng = np.random.default_rng(0)
noise = rng.normal(size=300)
show.curves(
    {
        "always 0.1": ratio([0.1] * 300),
        "0.1 and noise of 0.1": ratio(0.1 + 0.1 * noise),
        "0.1 and noise of 1": ratio(0.1 + noise),
    },
    ylabel="step / lr",
)

# %% [markdown]
# ## Without bias correction
#
# What happens without the two divisions? At t = 1, m is too small by the factor 1 - b1 = 0.1, and sqrt(v) by the
# factor sqrt(1 - b2).
#
# **Predict before you run.** So is the first step too short or too long without the correction, and by which factor?

# %%
with_correction, without = [], []
m = v = 0.0
for t in range(1, 2001):
    m, v = b1 * m + (1 - b1), b2 * v + (1 - b2)  # the gradient is always 1
    with_correction.append((m / (1 - b1**t)) / sqrt(v / (1 - b2**t)))
    without.append(m / sqrt(v))
print(f"without: first step {without[0]:.2f} times lr; the largest {max(without):.2f} times")
show.curves({"with": with_correction, "without": without}, ylabel="step / lr")

# %% [markdown]
# It is too long, and so are the steps that follow, for more than a thousand steps. Forgetting the bias correction is
# a common mistake when one writes Adam: no error is raised, but the first part of training is less stable.
#
# ## A weight in a real network
#
# Now train a network on digits, pick one weight of its first layer, and record what Adam does with it.

# %%
splits = split(load_mnist(name="mnist5k"), seed=0)
rng = np.random.default_rng(0)
hidden, output = nn.Linear(784, 64, rng=rng), nn.Linear(64, 10, init="xavier", rng=rng)
model = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), output)
adam = Adam(model.parameters(), lr=0.001)
pixel = 14 * 28 + 14  # row 14, column 14
place = 20 * 784 + pixel  # of the weight of hidden unit 20, in the vector of all weights

record = {"g": [], "m_hat": [], "sqrt(v_hat)": []}
walk = [float(hidden.weight.data[20, pixel])]
for _epoch in range(4):
    for x, labels in batches(splits.train.images, splits.train.labels, 64, rng):
        loss = ops.cross_entropy(model(x), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        record["g"].append(float(adam.flat.g[place]))
        record["m_hat"].append(float(adam.m[place]) / (1 - b1**adam.t))
        record["sqrt(v_hat)"].append(sqrt(float(adam.v[place]) / (1 - b2**adam.t)))
        walk.append(float(hidden.weight.data[20, pixel]))
show.curves(record, ylabel="value")

# %% [markdown]
# The gradient varies strongly from batch to batch; m_hat is a smoothed version of it; sqrt(v_hat) is its typical
# size. Here is the weight itself:

# %%
lengths = np.abs(np.diff(walk)) / 0.001
print(f"longest step: {lengths.max():.2f} lr; mean length: {lengths.mean():.2f} lr")
show.curves({"the weight": walk}, ylabel="w")

# %% [markdown]
# ## On the ravine
#
# In lesson 5, the steep direction of the ravine limited the learning rate of SGD. Adam scales the step of each weight
# separately.
#
# **Predict before you run.** In which direction will Adam's first step go?

# %%
start = (-2.0, 1.0)
paths(
    ravine,
    {
        "SGD, lr = 0.03": descend(ravine, lambda p: SGD(p, lr=0.03), start, 60),
        "Adam, lr = 0.1": descend(ravine, lambda p: Adam(p, lr=0.1), start, 60),
    },
)

# %% [markdown]
# Along the diagonal: both weights move by lr, though one component of the gradient is much larger than the other. For
# Adam's first steps it makes no difference that the ravine is narrow.
#
# ## Exercises
#
# **1.** On the ravine, set eps to a very large value, say 10, and lr = 0.3. Which optimizer that you know does Adam
# become?
#
# <details><summary>Answer</summary>
#
# ```python
# paths(
#     ravine,
#     {
#         "Adam, eps = 10": descend(ravine, lambda p: Adam(p, lr=0.3, eps=10.0), start, 60),
#         "SGD, momentum": descend(ravine, lambda p: SGD(p, lr=0.003, momentum=0.9), start, 60),
#     },
# )
# ```
#
# With eps much larger than sqrt(v_hat), the step is nearly lr/eps times m_hat. This is SGD with momentum, whose sum v
# is m/(1 - b1), with the learning rate (1 - b1) lr/eps = 0.003. (Not exactly: across the ravine, the gradient is not
# negligible compared with eps.)
#
# </details>
#
# **2.** Set b1 = 0 and b2 = 0. What is left of Adam? Predict, then print some steps.
#
# <details><summary>Answer</summary>
#
# ```python
# sign = Tensor(np.array([1.0]), requires_grad=True)
# adam = Adam([sign], lr=0.001, betas=(0.0, 0.0))
# for g in gradients:
#     before = sign.data[0]
#     sign.grad = np.array([g])
#     adam.step()
#     print(f"g = {g:+.1f}: step {sign.data[0] - before:+.6f}")
#     assert abs(abs(sign.data[0] - before) - 0.001) < 1e-9
# ```
#
# The sign of the gradient, times lr.
#
# </details>
#
# **3.** Multiply the loss of the ravine by 1000. What happens to the path of Adam, and what would happen to that of
# SGD?
#
# <details><summary>Answer</summary>
#
# ```python
# normal = descend(ravine, lambda p: Adam(p, lr=0.1), start, 60)
# scaled = descend(lambda w: 1000.0 * ravine(w), lambda p: Adam(p, lr=0.1), start, 60)
# print("largest difference between the two paths:", f"{np.abs(normal - scaled).max():.1e}")
# assert np.abs(normal - scaled).max() < 1e-5
# ```
#
# The path is the same: m and sqrt(v) both grow a thousandfold, and only their ratio counts. SGD would diverge.
#
# </details>
#
# **4.** Rotate the ravine by 45 degrees (see the last exercise of lesson 5). Does Adam do as well as before?
#
# <details><summary>Answer</summary>
#
# ```python
# def tilted(w):
#     along, across = (w[0] + w[1]) * 0.5**0.5, (w[0] - w[1]) * 0.5**0.5
#     return (along**2.0 + 25.0 * across**2.0) / 2.0
#
#
# turned = (-2.0 * 0.5**0.5 + 0.5**0.5, -2.0 * 0.5**0.5 - 0.5**0.5)
# walks = {
#     "original": descend(ravine, lambda p: Adam(p, lr=0.1), start, 40),
#     "rotated": descend(tilted, lambda p: Adam(p, lr=0.1), turned, 40),
# }
# for (name, walk), loss in zip(walks.items(), (ravine, tilted)):
#     print(f"{name}: loss after 40 steps {loss(Tensor(walk[-1])).item():.4f}")
# paths(tilted, {"rotated": walks["rotated"]})
# ```
#
# No: after 40 steps its loss is higher. Adam scales each weight separately, so its path depends on the direction of
# the axes. That of SGD does not.
#
# </details>
#
# ## What to read next
#
# [`optim/adam.py`](../optim/adam.py): the same lines, on all weights at once. AdamW, in the same file, is one line
# more. The assignment for lessons 5 and 6 is [A2](assignments/A2/README.md): write SGD and Adam yourself. Then [lesson
# 7](07_the_switch.ipynb): why switch from Adam to SGD, and when?
