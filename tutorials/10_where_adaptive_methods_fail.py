# %% [markdown]
# # 10. Where adaptive methods fail
#
# **Goal.** Build a small data set on which Adam, RMSprop and AdaGrad learn every training example but predict the
# same label for every new one, while SGD gets all of them right; and understand why, with a calculation that fits on
# a page. The construction is that of Wilson et al. 2017, section 3.3.
#
# **Time.** 25 minutes. **Before this:** lessons 6 and 9.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import numpy as np

from minidl import Tensor, ops
from minidl.optim import SGD, Adagrad, Adam, AfterSteps, Hybrid, RMSprop
from minidl.teach import show

# %% [markdown]
# ## The data
#
# Each example has a label, +1 or -1; +1 is more frequent. Its features:
#
# - feature 1 **is the label**: all the information there is;
# - features 2 and 3 are always 1: they carry no information;
# - and each example has features that no other example has: one if its label is +1, five if it is -1. They say
#   nothing about *other* examples either.
#
# Think of classifying e-mails: one word that gives spam away, two words that are in every e-mail, and names that
# occur only once.


# %%
def make_data(n, seed, p=0.65):
    """X (n, 3 + 5n) and the labels y (n,)."""
    y = np.where(np.random.default_rng(seed).random(n) < p, 1.0, -1.0)
    x = np.zeros((n, 3 + 5 * n))
    x[:, 0], x[:, 1:3] = y, 1.0
    for i in range(n):
        own = 1 if y[i] > 0 else 5
        x[i, 3 + 5 * i : 3 + 5 * i + own] = 1.0
    return x, y


few, few_labels = make_data(6, seed=3)
print("labels:", few_labels.astype(int))
show.numbers(few, signed=True)

# %% [markdown]
# A new example has its label in feature 1, ones in features 2 and 3, and features of its own *that never occurred in
# training*. The weights of those features still have their initial value, zero. So on a new example only three
# weights count: the prediction is the sign of $w_1 y + w_2 + w_3$.
#
# **Predict before you run.** When is this right for both labels? And what if all three weights are equal?
#
# ## Train
#
# The model is linear, the loss is the mean squared error, and training starts from zero with the gradient over all
# examples. Only the labels are random.

# %%
x, y = make_data(60, seed=1)
unseen = make_data(400, seed=2)[1]  # a new example is determined by its label


def fit(make, steps=3000):
    """Train from w = 0; returns the optimizer, the weights and three accuracies."""
    w = Tensor(np.zeros((x.shape[1], 1)), requires_grad=True)
    optimizer = make([w])
    for _ in range(steps):
        loss = ops.mse_loss(Tensor(x) @ w, y[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = w.numpy()[:, 0]
    answers = np.sign(weights[0] * unseen + weights[1] + weights[2])
    accuracy = {
        "training": float((np.sign(x @ weights) == y).mean()),
        "unseen, label +1": float((answers == unseen)[unseen > 0].mean()),
        "unseen, label -1": float((answers == unseen)[unseen < 0].mean()),
    }
    return optimizer, weights, accuracy


optimizers = {
    "SGD": lambda p: SGD(p, lr=0.2),
    "AdaGrad": lambda p: Adagrad(p, lr=0.01),
    "RMSprop": lambda p: RMSprop(p, lr=1e-3),
    "Adam": lambda p: Adam(p, lr=1e-3),
}
results = {name: fit(make) for name, make in optimizers.items()}
show.bars({name: accuracy for name, (_, _, accuracy) in results.items()})

# %% [markdown]
# All four learn the training data perfectly. On new examples SGD is right every time. The three adaptive methods
# predict +1 for every example, even if its first feature is -1.
#
# ## Why
#
# Look at the weights of the three features that all examples share, and at those of the features that belong to a
# single example.

# %%
for name, (_, weights, _) in results.items():
    own = weights[3:][weights[3:] != 0]
    shared = np.round(weights[:3], 3)
    print(f"{name:8} shared {shared}   own: from {own.min():+.3f} to {own.max():+.3f}")

# %% [markdown]
# **Adaptive methods.** At w = 0 the gradient is a negative multiple of $X^T y$: for each feature, the sum of feature
# times label over all examples. For feature 1, every example contributes +1 (label times label). For features 2 and
# 3, more examples contribute +1 than -1. So the sum has the same *sign* for these three features, and an adaptive
# step removes the size of the gradient (lesson 6): **all weights move by the same amount**. After one step w is a
# multiple of $\text{sign}(X^T y)$. For such a w the error is the same for all examples, up to the sign of the label,
# so all gradients keep their signs, and the same happens in every step that follows. The three weights stay equal,
# and $w y + w + w$ is positive for y = +1 and for y = -1.
#
# The final weights follow without any training: an example with label +1 has three shared features and one of its
# own, so 4w = 1. One with label -1 gets $-w + w + w$ from the shared features and -5w from its own five, so -4w = -1.
# Both give w = 1/4.

# %%
by_hand = np.sign(x.T @ y) / 4
for name, most in ("AdaGrad", 0.00001), ("RMSprop", 0.001), ("Adam", 0.00001):
    difference = np.abs(results[name][1] - by_hand).max()
    print(f"{name:8} differs from sign(X'y)/4 by less than {most:.5f}: {difference < most}")
    assert difference < most

# %% [markdown]
# RMSprop may keep oscillating around this solution: it removes the size of the last, tiny gradients too, so its steps
# can stay nearly as long as its learning rate, 0.001.

# %% [markdown]
# **SGD** never leaves the subspace that the training examples span, because each step is a weighted sum of examples.
# Of all the perfect solutions it finds the one in this subspace, and that is the shortest: the *minimum-norm*
# solution.
#
# **Predict before you run.** Which of the two solutions, Adam's and SGD's, is longer?

# %%
shortest = np.linalg.pinv(x) @ y
assert np.abs(results["SGD"][1] - shortest).max() < 1e-5
print("SGD finds the shortest solution")
for name, (_, weights, _) in results.items():
    print(f"{name:8} length of w: {np.linalg.norm(weights):.3f}")

# %% [markdown]
# The shortest solution gives a large weight to the feature that helps with all examples, feature 1. That is why it
# generalizes.
#
# ## Does a switch help?
#
# Now use Adam first, then SGD. SGD does not undo what Adam has done: it adds the shortest solution of *what is left
# to learn*. So the question is how much is left.
#
# **Predict before you run.** Adam's learning rate is 0.001, and its weights end at ±1/4. About how many steps does
# that take? And after how many of them is it too late to switch?


# %%
def hybrid(moment):
    """Adam for that many steps, then SGD."""
    return lambda p: Hybrid(p, Adam(lr=1e-3), SGD(lr=0.2), AfterSteps(moment))


moments = [1, 50, 100, 150, 200, 220, 240, 260, 300]
unseen_accuracy = [fit(hybrid(moment))[2]["unseen, label -1"] for moment in moments]
show.curves(
    {"unseen, label -1": (moments, unseen_accuracy)},
    xlabel="steps with Adam before the switch",
    ylabel="accuracy",
)

# %% [markdown]
# All or nothing: after a switch before a certain step, every new example is classified correctly; after a later
# switch, none with label -1 is. Once Adam has fitted the training data perfectly, the loss and its gradient are zero,
# and no optimizer can learn anything more. The switch has to come while there is something left to learn.
#
# This data set was built to make adaptive methods fail. Real data is not like that, and how much of this result
# carries over is a question for experiments: see lesson 12.
#
# ## Exercises
#
# **1.** Make both labels equally frequent (p = 0.5). Does Adam still fail? Why is p > 1/2 needed?
#
# <details><summary>Answer</summary>
#
# ```python
# for seed in range(5):
#     even_x, even_y = make_data(60, seed=seed, p=0.5)
#     print(f"seed {seed}: sum of the labels {even_y.sum():+.0f}, signs {np.sign(even_x.T @ even_y)[:3]}")
# ```
#
# The sign of features 2 and 3 is that of the majority label. With p = 0.5 either label may be in the majority, and
# then that label is predicted for all new examples. Only in an exact tie are the weights of features 2 and 3 zero, so
# that feature 1 alone decides.
#
# </details>
#
# **2.** Start from small random weights instead of zero. Is SGD still right on all new examples? Is Adam still
# wrong?
#
# <details><summary>Answer</summary>
#
# ```python
# def from_random(make, steps=3000):
#     w = Tensor(np.random.default_rng(0).normal(0, 0.01, (x.shape[1], 1)), requires_grad=True)
#     optimizer = make([w])
#     for _ in range(steps):
#         loss = ops.mse_loss(Tensor(x) @ w, y[:, None])
#         optimizer.zero_grad()
#         loss.backward()
#         optimizer.step()
#     w1, w2, w3 = w.numpy()[:3, 0]
#     return (np.sign(w1 * unseen + w2 + w3) == unseen).mean()
#
#
# for name, make in optimizers.items():
#     print(f"{name:8} {from_random(make):.2f} of the new examples right")
# assert from_random(optimizers["SGD"]) == 1.0 and from_random(optimizers["Adam"]) < 0.9
# ```
#
# The argument is exact only for w = 0, but a small change of the initial weights does not change the result.
#
# </details>
#
# **3.** Give Adam weight decay, in the gradient and decoupled (`AdamW`). Does either lead it to the short solution?
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl.optim import AdamW
#
# decays = {
#     "Adam, no decay": lambda p: Adam(p, lr=1e-3),
#     "Adam, 0.01": lambda p: Adam(p, lr=1e-3, weight_decay=0.01),
#     "Adam, 0.1": lambda p: Adam(p, lr=1e-3, weight_decay=0.1),
#     "AdamW, 0.01": lambda p: AdamW(p, lr=1e-3, weight_decay=0.01),
#     "AdamW, 1": lambda p: AdamW(p, lr=1e-3, weight_decay=1.0),
# }
# for name, make in decays.items():
#     _, weights, accuracy = fit(make)
#     print(f"{name:14} shared {np.round(weights[:3], 3)}", accuracy)
# ```
#
# Decay in the gradient moves the minimum towards the shortest solution: with enough of it, Adam gets there. Decoupled
# decay shrinks all weights by the same factor, so the three shared weights stay equal.
#
# </details>
#
# **4.** Calculate the latest step for the switch. Adam leaves the weights at c sign(X'y), so each example is still
# short of its label by the fraction 1 - 4c, and SGD adds (1 - 4c) times the shortest solution. From which c on is
# label -1 predicted wrongly?
#
# <details><summary>Answer</summary>
#
# ```python
# s1, s2, s3 = shortest[:3]
#
#
# def margin(c):
#     """w1 - w2 - w3 at the end: positive if new examples with label -1 are right."""
#     left = 1 - 4 * c
#     return (c + left * s1) - (2 * c + left * (s2 + s3))
#
#
# tips = (s1 - s2 - s3) / (1 + 4 * (s1 - s2 - s3))
# print(f"c = {tips:.4f}, of the 0.25 that Adam would reach; margin there {margin(tips):.1e}")
# assert abs(margin(tips)) < 1e-12
# for moment in (150, 300):
#     w = Tensor(np.zeros((x.shape[1], 1)), requires_grad=True)
#     adam = Adam([w], lr=1e-3)
#     for _ in range(moment):
#         adam.zero_grad()
#         ops.mse_loss(Tensor(x) @ w, y[:, None]).backward()
#         adam.step()
#     print(f"after {moment} steps c = {w.numpy()[0, 0]:.4f}")
# ```
#
# From this c on, the equal weights that Adam leaves outweigh what SGD can still add. Adam passes this c between 150
# and 300 steps, where the curve above falls.
#
# </details>
#
# ## What to read next
#
# Wilson, Roelofs, Stern, Srebro & Recht 2017, *The marginal value of adaptive gradient methods in machine learning*,
# section 3.3. [`tests/test_wilson.py`](../tests/test_wilson.py): the same construction as a test. Then [lesson
# 11](11_on_a_gpu.ipynb): the same code on other hardware.
