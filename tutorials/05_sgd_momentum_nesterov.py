# %% [markdown]
# # 5. SGD, momentum, Nesterov
#
# **Goal.** Watch three optimizers minimize a loss with only two weights, where every step can be drawn, and
# understand what momentum gains and what it costs.
#
# **Time.** 15 minutes. **Before this:** lesson 2.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import numpy as np

from minidl.optim import SGD
from minidl.teach import show
from minidl.teach.landscape import descend, paths, ravine

# %% [markdown]
# The loss has the shape of a ravine: $f(x, y) = (x^2 + 25\,y^2)/2$. Its gradient is $(x,\; 25\,y)$: at the same
# distance from the minimum, it is 25 times as steep across the ravine as along it. The losses of real networks are
# similar, but in thousands of directions at once.
#
# Plain gradient descent is `w = w - lr * g`, with the gradient `g` and the *learning rate* `lr`. We start at (-2, 1)
# and take 40 steps.

# %%
start = (-2.0, 1.0)


def sgd(lr, momentum=0.0, nesterov=False, steps=40, loss=ravine):
    """The path of SGD."""
    return descend(loss, lambda w: SGD(w, lr, momentum, nesterov=nesterov), start, steps)


paths(ravine, {f"SGD, lr = {lr}": sgd(lr) for lr in (0.01, 0.03, 0.07, 0.078)})

# %% [markdown]
# The star marks the minimum. With a small learning rate, progress along the ravine is slow. With a larger one, SGD
# gets there, but jumps from wall to wall. The steep direction limits the learning rate: one step changes y to $y -
# \text{lr}\cdot 25\,y = (1 - 25\,\text{lr})\,y$.
#
# **Predict before you run.** At which learning rate does y no longer shrink? Work it out from the factor $(1 -
# 25\,\text{lr})$, then run the next cell.

# %%
for lr in (0.079, 0.08, 0.081):
    x, y = sgd(lr)[-1]
    print(f"lr = {lr}: factor {1 - 25 * lr:+.3f} a step; |y| after 40 steps {abs(y):.3f}")

# %% [markdown]
# Above 2/25 each jump lands higher than the last: training *diverges*. So the steep direction limits the learning
# rate, and along the ravine, where a step multiplies x by $1 - \text{lr}$, such a learning rate means slow progress.
#
# ## Momentum
#
# Keep a sum of past gradients in which older ones fade, and step along this sum:
#
# ```
# v = mu * v + g
# w = w - lr * v
# ```
#
# Across the ravine, gradients alternate in sign and cancel in the sum. Along the ravine they have the same sign and
# add up, to $1/(1-\mu)$ times a single one if the gradient stays the same.
#
# **Predict before you run.** With mu = 0.9 and a constant gradient, how long is a step in the end, compared with the
# first?

# %%
v, steps = 0.0, []
for _ in range(50):
    v = 0.9 * v + 1.0
    steps.append(v)
show.curves({"length of the step": steps, "1 / (1 - mu)": [10.0] * 50}, ylabel="times the first")

# %%
walks = {f"momentum {mu}": sgd(0.03, mu) for mu in (0.0, 0.5, 0.8, 0.95)}
paths(ravine, walks)

# %% [markdown]
# More momentum moves faster along the ravine, but too much of it overshoots the star and climbs up the other side,
# like a ball with little friction. Here are the same paths as curves: what is the loss after each step?


# %%
def heights(walk):
    return [(x**2 + 25 * y**2) / 2 for x, y in walk]


show.curves({name: heights(walk) for name, walk in walks.items()}, log=True)

# %% [markdown]
# ## Nesterov
#
# Nesterov's idea: the momentum step will be taken anyway, so compute the gradient at the point where it leads, not at
# the current point. In the form that is used in practice:
#
# ```
# v = mu * v + g
# w = w - lr * (g + mu * v)
# ```
#
# This slows the step down before it climbs the wall, not after.
#
# **Predict before you run.** Where will the path of Nesterov differ most from that of momentum: along the ravine or
# across it?

# %%
walks = {
    "momentum 0.9": sgd(0.03, momentum=0.9),
    "Nesterov 0.9": sgd(0.03, momentum=0.9, nesterov=True),
}
paths(ravine, walks)

# %%
show.curves({name: heights(walk) for name, walk in walks.items()}, log=True)

# %% [markdown]
# ## The S in SGD
#
# SGD is *stochastic* gradient descent: in training, the gradient is that of a random batch, the true gradient plus
# noise. Let us add noise to the ravine. Momentum adds up the noise as well.


# %%
def noisy(seed):
    """The ravine, tilted at random at each step."""
    rng = np.random.default_rng(seed)
    return lambda w: ravine(w) + (w * rng.normal(0, 1.5, size=2)).sum()


choices = [(0.03, 0.0), (0.03, 0.9), (0.003, 0.9), (0.0003, 0.9)]
walks = {f"lr = {lr}, momentum {mu}": sgd(lr, mu, steps=150, loss=noisy(0)) for lr, mu in choices}
paths(ravine, walks)
for name, walk in walks.items():
    x, y = walk[-50:].T
    print(f"{name}: mean of the last 50 steps ({x.mean():+.2f}, {y.mean():+.2f}), deviation of y {y.std():.3f}")

# %% [markdown]
# With noise, SGD never comes to rest: once it has arrived, it wanders in a cloud around the star. The larger lr/(1 -
# mu), the larger the cloud. The smallest learning rate has the smallest cloud, but it has not arrived: after 150
# steps it is still more than one unit away. That is why training starts with a large learning rate, to get near the
# minimum, and ends with a small one, to reduce the noise. A *schedule* lowers it step by step (lesson 17).
#
# ## Exercises
#
# **1.** Momentum 0.9 makes steps up to ten times as long. So is momentum 0.9 with lr = 0.003 the same as plain
# SGD with lr = 0.03? Compare the two on the ravine without noise.
#
# <details><summary>Answer</summary>
#
# ```python
# plain, heavy = sgd(0.03, steps=60), sgd(0.003, momentum=0.9, steps=60)
# paths(ravine, {"SGD, 0.03": plain, "momentum 0.9, 0.003": heavy})
# show.curves({"SGD, 0.03": plain[:, 0], "momentum 0.9, 0.003": heavy[:, 0]}, ylabel="x")
# ```
#
# Along the ravine, nearly: the gradient changes slowly there, so after some steps the sum is about ten gradients.
# Across it, no: SGD moves down the wall at once, while momentum oscillates.
#
# </details>
#
# **2.** Try different values: with which momentum do 40 steps at lr = 0.03 end at the lowest loss?
#
# <details><summary>Answer</summary>
#
# ```python
# def end(mu):
#     return heights(sgd(0.03, mu))[-1]
#
#
# tried = np.round(np.arange(0, 1, 0.05), 2)
# best = min(tried, key=end)
# print(f"best momentum {best}, loss {end(best):.2g}")
# assert 0.5 < best < 0.9
# ```
#
# Neither zero nor nearly one. Along x, SGD with momentum moves like a ball with friction: with too little momentum it
# creeps, with too much it oscillates, and a value in between avoids both.
#
# </details>
#
# **3.** Rotate the ravine by 45 degrees: $f = ((x + y)^2 + 25\,(x - y)^2)/4$. Does SGD do better or worse on it?
#
# <details><summary>Answer</summary>
#
# ```python
# def rotated(w):
#     return ((w[0] + w[1]) ** 2.0 + 25.0 * (w[0] - w[1]) ** 2.0) / 4.0
#
#
# there = (-(0.5**0.5), -3 * 0.5**0.5)  # the start, rotated too
# walks = {
#     "SGD": descend(rotated, lambda p: SGD(p, lr=0.03), there, 40),
#     "momentum 0.8": descend(rotated, lambda p: SGD(p, lr=0.03, momentum=0.8), there, 40),
# }
# paths(rotated, walks, y=(-2.5, 2.5))
# assert np.allclose([rotated(w) for w in walks["SGD"]], heights(sgd(0.03)))
# ```
#
# The same, after every step: gradient descent does not depend on the direction of the axes. Adam does, as lesson 6
# shows.
#
# </details>
#
# ## What to read next
#
# [`optim/sgd.py`](../optim/sgd.py): its last lines are the rules above.
# [`optim/schedule.py`](../optim/schedule.py): large learning rates first, small ones later. Then [lesson
# 6](06_adam_one_line_at_a_time.ipynb): a step size for each weight.
