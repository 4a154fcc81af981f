# %% [markdown]
# # 6. Adam, one line at a time
#
# **Goal.** Follow the numbers of a single weight through every line of Adam, first in plain Python, then inside
# a network that learns digits; and see what each line is for by taking it out.
#
# **Time.** 20 minutes. **Before this:** tutorial 5.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
from math import sqrt

import numpy as np

from minidl import Tensor, nn, ops
from minidl.data import load_mnist
from minidl.data.batches import batches, split
from minidl.optim import SGD, Adam
from minidl.teach import show
from minidl.teach.landscape import descend, paths, ravine

# %% [markdown]
# Adam (Kingma & Ba 2015) keeps two running averages for each weight:
#
# ```
# m = b1 * m + (1 - b1) * g        the mean of the gradient           b1 = 0.9
# v = b2 * v + (1 - b2) * g**2     the mean of its square             b2 = 0.999
# m_hat = m / (1 - b1**t)          m and v start at 0: undo the pull towards it
# v_hat = v / (1 - b2**t)
# w = w - lr * m_hat / (sqrt(v_hat) + eps)
# ```
#
# Here are five gradients of one weight. Let us do the first step by hand.

# %%
gradients = [0.3, 0.1, -0.2, 0.4, 0.2]
b1, b2, eps, lr = 0.9, 0.999, 1e-8, 0.001

g = gradients[0]
m = b1 * 0 + (1 - b1) * g
v = b2 * 0 + (1 - b2) * g**2
print(f"m = {m:.4f}, though the only gradient so far is {g}")
print(f"v = {v:.6f}, though its square is {g**2:.4f}")

# %% [markdown]
# Both are far too small, for they are averages with the zeros they started from. That is what the division
# undoes.
#
# **Predict before you run.** At t = 1, what is m_hat? What is v_hat? So how long is the first step, in units of
# lr, and would it be longer if the gradient were 300 instead of 0.3?

# %%
m_hat, v_hat = m / (1 - b1**1), v / (1 - b2**1)
print(f"m_hat = {m_hat:.4f}, v_hat = {v_hat:.4f}")
for g1 in (0.3, 300.0, 0.000_3):
    m1, v1 = (1 - b1) * g1, (1 - b2) * g1**2
    step = lr * (m1 / (1 - b1)) / (sqrt(v1 / (1 - b2)) + eps)
    print(f"first gradient {g1:>8}: first step {step:.6f}")

# %% [markdown]
# The first step is lr, whatever the gradient is. That is Adam's character: it looks at the *sign* of a gradient
# and at how *steady* it is, hardly at its size. Now all five steps, and the library's Adam beside them.

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
# Look at t = 3: the gradient is negative, but the step still goes down. m remembers the two positive ones
# before it.
#
# ## Steady or noisy
#
# The step is lr times m_hat / sqrt(v_hat). For a gradient that never changes, this ratio is 1. For one that is
# pure noise, the mean m is near 0 while the mean square v is not: the ratio is small. Adam goes far where it is
# sure.
#
# **Predict before you run.** Two gradients with mean 0.1. One has noise of size 0.1, the other of size 1. Which
# ratio will be nearer to 1?


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
# ## Without the correction
#
# What if we leave out the two divisions? At t = 1, m is (1 - b1) = 0.1 of what it should be, and sqrt(v) is
# sqrt(1 - b2) of it.
#
# **Predict before you run.** So is the first step too short without the correction, or too long, and how many
# times?

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
# Too long, for a thousand steps and more. Forgetting the correction is the commonest mistake in home-made
# Adams: nothing crashes, training is only wilder at its start.
#
# ## A weight in a real network
#
# Now a network that learns digits. We pick one weight of its first layer and write down what Adam does with it.

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
# The gradient jumps about from batch to batch; m_hat is a smooth version of it; sqrt(v_hat) is its usual size.
# Below, the weight itself.

# %%
lengths = np.abs(np.diff(walk)) / 0.001
print(f"longest step: {lengths.max():.2f} lr; mean length: {lengths.mean():.2f} lr")
show.curves({"the weight": walk}, ylabel="w")

# %% [markdown]
# ## On the ravine
#
# In tutorial 5, the walls of the ravine limited the rate of SGD. Adam gives each direction its own scale.
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
# At first along the diagonal: both weights move by lr, though one slope is many times the other. Adam does not
# see that the ravine is narrow.
#
# ## Exercises
#
# **1.** On the ravine, make eps very large, say 10, and lr = 0.3. Which optimizer that you know does Adam
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
# With eps far above sqrt(v_hat), the step is nearly lr/eps times m_hat: SGD with momentum, whose sum v is
# m/(1 - b1). (Not quite: across the ravine the gradient is large enough to be seen beside eps.)
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
# **3.** Multiply the loss of the ravine by 1000. What happens to Adam's walk, and what would happen to SGD's?
#
# <details><summary>Answer</summary>
#
# ```python
# normal = descend(ravine, lambda p: Adam(p, lr=0.1), start, 60)
# scaled = descend(lambda w: 1000.0 * ravine(w), lambda p: Adam(p, lr=0.1), start, 60)
# print("largest difference of the two walks:", f"{np.abs(normal - scaled).max():.1e}")
# assert np.abs(normal - scaled).max() < 1e-5
# ```
#
# The same walk: m and sqrt(v) both grow a thousandfold, and only their ratio counts. SGD would fly off.
#
# </details>
#
# **4.** Turn the ravine by 45 degrees (the last exercise of tutorial 5). Is Adam still at ease in it?
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
#     "straight": descend(ravine, lambda p: Adam(p, lr=0.1), start, 40),
#     "turned": descend(tilted, lambda p: Adam(p, lr=0.1), turned, 40),
# }
# for (name, walk), loss in zip(walks.items(), (ravine, tilted)):
#     print(f"{name}: loss after 40 steps {loss(Tensor(walk[-1])).item():.4f}")
# paths(tilted, {"turned": walks["turned"]})
# ```
#
# It is another walk. Adam scales each weight by itself, so what it does depends on how the axes lie. SGD's does
# not.
#
# </details>
#
# ## What to read next
#
# [`optim/adam.py`](../optim/adam.py): the same lines, on all weights at once. AdamW, in the same file, is one line
# more. The homework to tutorials 5 and 6 is [A2](assignments/A2/README.md): write SGD and Adam yourself. Then
# [tutorial 7](07_the_switch.ipynb): why leave Adam at all, and when?
