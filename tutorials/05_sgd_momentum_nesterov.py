# %% [markdown]
# # 5. SGD, momentum, Nesterov
#
# **Goal.** Watch three ways of going downhill in a landscape with two weights, where every step can be drawn,
# and understand what momentum buys and what it costs.
#
# **Time.** 15 minutes. **Before this:** tutorial 2.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
import numpy as np

from minidl.optim import SGD
from minidl.teach import show
from minidl.teach.landscape import descend, paths, ravine

# %% [markdown]
# The landscape is a ravine: $f(x, y) = (x^2 + 25\,y^2)/2$. Its slope is $(x,\; 25\,y)$: across the ravine it is
# 25 times as steep as along. Real losses are like that, in thousands of directions at once.
#
# Plain gradient descent: `w = w - lr * g`. We start at (-2, 1) and take 40 steps.

# %%
start = (-2.0, 1.0)


def sgd(lr, momentum=0.0, nesterov=False, steps=40, loss=ravine):
    """Where SGD walks."""
    return descend(loss, lambda w: SGD(w, lr, momentum, nesterov=nesterov), start, steps)


paths(ravine, {f"SGD, lr = {lr}": sgd(lr) for lr in (0.01, 0.03, 0.07, 0.078)})

# %% [markdown]
# The star is where we want to go. A small rate crawls along the ravine. A larger rate gets there, but jumps
# from wall to wall. The walls, not the floor, limit the rate: one step changes y to $y - \text{lr}\cdot 25\,y =
# (1 - 25\,\text{lr})\,y$.
#
# **Predict before you run.** At which rate does the walk no longer come down the walls at all? Work it out from
# $(1 - 25\,\text{lr})$, then run the next cell.

# %%
for lr in (0.079, 0.08, 0.081):
    x, y = sgd(lr)[-1]
    print(f"lr = {lr}: factor {1 - 25 * lr:+.3f} a step; |y| after 40 steps {abs(y):.3f}")

# %% [markdown]
# Beyond 2/25 each jump lands higher than the last: training *diverges*. So the walls set the limit for the
# rate; and along the ravine, where a step changes x by the factor $1 - \text{lr}$ only, we have to make do
# with that.
#
# ## Momentum
#
# Keep a sum of past gradients that fades, and step along that:
#
# ```
# v = mu * v + g
# w = w - lr * v
# ```
#
# Across the ravine, gradients alternate in sign and cancel in the sum. Along the ravine they agree and add up,
# to $1/(1-\mu)$ times a single one.
#
# **Predict before you run.** With mu = 0.9 and a gradient that never changes, how long is a step in the end,
# compared with the first?

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
# More momentum gets along the ravine faster, and too much of it rolls past the star and up the other side, like
# a ball with little friction. Now the same as curves: how high above the lowest point is the walk after each
# step?


# %%
def heights(walk):
    return [(x**2 + 25 * y**2) / 2 for x, y in walk]


show.curves({name: heights(walk) for name, walk in walks.items()}, log=True)

# %% [markdown]
# ## Nesterov
#
# Nesterov's idea: the momentum step will be taken anyway, so look at the slope *there*, where it leads, and not
# here. In the form that is used in practice:
#
# ```
# v = mu * v + g
# w = w - lr * (g + mu * v)
# ```
#
# It brakes before the wall, not after it.
#
# **Predict before you run.** In the picture of the paths, where will Nesterov's differ most from momentum's:
# along the ravine or across?

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
# In training the gradient is that of one batch: the true one plus noise. Let us add noise to the ravine.
# Momentum adds up the noise as well.


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
    print(f"{name}: the last 50 steps lie around ({x.mean():+.2f}, {y.mean():+.2f}), y spreads by {y.std():.3f}")

# %% [markdown]
# With noise a walk never comes to rest: once it has arrived it wanders in a cloud around the star: the larger lr/(1 -
# mu), the larger the cloud. The smallest rate has the smallest cloud, but it has not arrived: after 150
# steps it is still more than a whole unit away. That is why training starts with a large rate, to get there, and
# ends with a small one, to be exact; a *schedule* does so step by step (tutorial 17).
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
# Along the ravine nearly: the gradient changes slowly there, so the sum is about ten gradients, once it has
# filled up. Across it no: SGD jumps at once, momentum swings.
#
# </details>
#
# **2.** Find, by trying, the momentum with which 40 steps at lr = 0.03 end lowest.
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
# print(f"best momentum {best}, height {end(best):.2g}")
# assert 0.5 < best < 0.9
# ```
#
# Neither none nor nearly one. Along x, momentum acts like friction on a ball: too much friction creeps, too
# little swings, and in between is a value that does neither.
#
# </details>
#
# **3.** Make a ravine that lies at an angle: $f = (x - y)^2 + 0.05\,(x + y)^2$. Does SGD do better or worse on
# it?
#
# <details><summary>Answer</summary>
#
# ```python
# def tilted(w):
#     return (w[0] - w[1]) ** 2.0 + 0.05 * (w[0] + w[1]) ** 2.0
#
#
# walks = {
#     "SGD": descend(tilted, lambda p: SGD(p, lr=0.3), (-2.0, -0.2), 40),
#     "momentum 0.8": descend(tilted, lambda p: SGD(p, lr=0.3, momentum=0.8), (-2.0, -0.2), 40),
# }
# paths(tilted, walks)
# ```
#
# The same: gradient descent does not care how the axes lie. Remember this for Adam, which does.
#
# </details>
#
# ## What to read next
#
# [`optim/sgd.py`](../optim/sgd.py): the two rules above are its last ten lines.
# [`optim/schedule.py`](../optim/schedule.py): large rates first, small ones later. Then [tutorial
# 6](06_adam_one_line_at_a_time.ipynb): a rate for each weight.
