# %% [markdown]
# # 3. The order of the walk
#
# **Goal.** Autograd on arrays, and the one thing that `backward()` must get right: the order in which it visits
# the operations. You will find the smallest graph in which a wrong order gives a wrong gradient, by trying all
# orders.
#
# **Time.** 25 minutes. **Before this:** tutorial 2.
#
# *On Colab:* run `!git clone URL minidl` (the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the tutorials](README.md).

# %%
from itertools import permutations

import numpy as np

from minidl import Tensor
from minidl.teach import draw

# %% [markdown]
# ## Arrays
#
# Nothing changes when numbers become arrays: each operation still knows how to hand a gradient back to its
# inputs. A gradient always has the shape of the thing that it belongs to. Where a small array was stretched to
# fit a larger one ("broadcasting"), its elements were used several times, so their gradients are added up.
#
# **Predict before you run.** `x` is 4 by 3 and `b` has 3 elements. The loss is the sum of all 12 elements of
# `x + b`. What is the gradient of `b`?

# %%
x = Tensor(np.arange(12.0).reshape(4, 3), requires_grad=True)
b = Tensor(np.zeros(3), requires_grad=True)
(x + b).sum().backward()
print("b.grad:", b.grad)
print("x.grad has shape", x.grad.shape)

# %% [markdown]
# For a matrix product `y = x @ w` the rule can be guessed from the shapes alone. `g`, the gradient of `y`, has
# the shape of `y`. There is only one way to multiply `g` with `x` that gives the shape of `w`:

# %%
x = Tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
w = Tensor(np.random.default_rng(1).normal(size=(3, 2)), requires_grad=True)
y = x @ w  # (4, 3) @ (3, 2) -> (4, 2)
g = np.ones((4, 2))  # the gradient of y.sum() by y
y.sum().backward()
assert np.allclose(w.grad, x.data.T @ g)
assert np.allclose(x.grad, g @ w.data.T)
print("w.grad is x.T @ g: (3, 4) @ (4, 2) ->", w.grad.shape)
print("x.grad is g @ w.T: (4, 2) @ (2, 3) ->", x.grad.shape)

# %% [markdown]
# ## Why the order matters
#
# Here is a graph with three operations.


# %%
def triangle(x):
    a = x * 2.0  # the tail
    c = a * a
    y = a + c  # a is used twice: by c and by y
    return a, c, y


x = Tensor(np.array(3.0), requires_grad=True)
a, c, y = triangle(x)
draw.graph(y, x=x, a=a, c=c, y=y)

# %% [markdown]
# By hand: $y = 2x + 4x^2$, so the slope is $2 + 8x$, which is 26 at x = 3.
#
# Now walk backwards with a rule so simple that it must be right: *visit each tensor once, and hand what
# gradient it has on to its inputs.* The walk starts at `y`. From there it may go to `a` or to `c`: both are
# inputs of `y`.
#
# **Predict before you run.** One of the two orders gives a wrong slope. Which, and what number will it give?


# %%
def walk(order):
    """Visit the tensors in this order, each once; returns the gradient that arrives at x."""
    gradient = dict.fromkeys(order, 0.0)
    gradient[order[0]] = 1.0  # y by y
    for tensor in order:
        if tensor.node is not None:
            for parent, vjp in tensor.node.edges:
                gradient[parent] = gradient[parent] + vjp(gradient[tensor])
    return float(gradient[x])


print("y, c, a, x gives", walk([y, c, a, x]))
print("y, a, c, x gives", walk([y, a, c, x]))

# %% [markdown]
# When `a` was visited right after `y`, it had only the gradient that came from `y`. It handed that on to `x`.
# Then `c` was visited and gave `a` the rest, but `a` had had its turn. The rest was lost in `a`.
#
# So the rule is: **an operation may be visited only after all those that used its output.** Such an order is
# called topological. (A leaf hands nothing on, so it may come at any time.) Let us try every order there is, to
# be sure that it is exactly this rule that separates right from wrong.

# %%
names = {y: "y", c: "c", a: "a", x: "x"}
users = {y: [], c: [y], a: [c, y]}  # of each operation's output
for rest in permutations([c, a, x]):
    order = [y, *rest]
    topological = all(order.index(user) < order.index(t) for t in users for user in users[t])
    slope = walk(order)
    print(*(names[t] for t in order), f" slope {slope:4.1f}", "topological" if topological else "")
    assert (slope == 26.0) == topological

# %% [markdown]
# Is there a smaller graph in which the order matters? A graph with two operations is a chain, or both
# operations read `x` itself. In a chain there is only one sensible order. And `x` is a leaf: it hands nothing
# on, so nothing is lost when the second half of its gradient comes late. To go wrong, a walk needs a tensor
# that is used twice, and something behind it: **a fork that joins again, with a tail.** That takes three
# operations, the ones above.
#
# Cut the tail off, and each order that starts at `y` is right:

# %%
x = Tensor(np.array(6.0), requires_grad=True)
c = x * x
y = x + c
print("y, c, x gives", walk([y, c, x]))
print("y, x, c gives", walk([y, x, c]))

# %% [markdown]
# Many a home-made autograd works on its author's examples and fails on a network with a shortcut, because all
# examples were chains. The shape of the classic example is a diamond with a tail:

# %%
x = Tensor(np.array(3.0), requires_grad=True)
a = x * 2.0
left, right = a * a, a.exp()
y = left + right
draw.graph(y, x=x, a=a, left=left, right=right, y=y)

# %% [markdown]
# ## How minidl finds the order
#
# Depth first: go from the loss to an input, from there to its input, and so on down to a leaf. Write down a
# tensor only when all its inputs have been written down. The list has inputs before outputs; read from its end,
# it is a topological order. Here it is, with a stack in place of recursion.


# %%
def inputs_first(root):
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            order.append(tensor)
        elif tensor not in seen:
            seen.add(tensor)
            stack.append((tensor, True))
            if tensor.node is not None:
                stack.extend((parent, False) for parent, vjp in tensor.node.edges)
    return order


names = {x: "x", a: "a", left: "left", right: "right", y: "y"}
order = inputs_first(y)[::-1]
print([names[t] for t in order])
print("slope", walk(order), "and by hand", 2 * (2 * 6.0) + 2 * np.exp(6.0))

# %% [markdown]
# Why a stack? Python allows a function to call itself about a thousand times. A graph of ten thousand
# operations, an unrolled loop for example, is deeper than that.
#
# **Predict before you run.** Each of 10,000 operations multiplies by 1.0001. What is the slope at the end,
# roughly?

# %%
x = Tensor(np.array(1.0), requires_grad=True)
y = x
for _ in range(10_000):
    y = y * 1.0001
y.backward()
print(f"slope {x.grad:.6f}, and 1.0001 ** 10000 = {1.0001**10_000:.6f}")

# %% [markdown]
# ## Exercises
#
# **1.** For the diamond with a tail, start at `y` and end at `x`: of the 6 orders of the three tensors between,
# how many give the right slope?
#
# <details><summary>Answer</summary>
#
# ```python
# x = Tensor(np.array(3.0), requires_grad=True)
# a = x * 2.0
# left, right = a * a, a.exp()
# y = left + right
# true = 2 * (2 * 6.0) + 2 * np.exp(6.0)
# slopes = [walk([y, *rest, x]) for rest in permutations([left, right, a])]
# right_ones = sum(np.isclose(slope, true) for slope in slopes)
# print(f"{right_ones} of {len(slopes)} orders are right")
# assert right_ones == 2
# ```
#
# Two, those in which `a` comes last of the three. Both are topological, and no other is.
#
# </details>
#
# **2.** `x[0] + x[0]` uses the same element twice. What is the gradient of an x with three elements? Check it.
#
# <details><summary>Answer</summary>
#
# ```python
# x = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
# (x[0] + x[0]).backward()
# assert x.grad.tolist() == [2.0, 0.0, 0.0]
# ```
#
# Each use hands back 1, and the two add up, as for any tensor that is used twice. The elements that were not used
# get 0.
#
# </details>
#
# **3.** `mean` over the rows of a 4 by 3 array, then the sum. What is the gradient of each element? Check it
# twice: with `backward()` and with `gradcheck`.
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl import gradcheck, ops
#
# x = Tensor(np.random.default_rng(2).normal(size=(4, 3)), requires_grad=True)
# x.mean(dim=0).sum().backward()
# assert np.allclose(x.grad, 1 / 4)
# assert gradcheck(lambda t: ops.sum(ops.mean(t, dim=0)), [x])
# ```
#
# Each element is one of four in its mean, so it counts a quarter.
#
# </details>
#
# **4.** Another way to be right without any order: let each tensor hand on its gradient *every time* it gets
# some. What does this cost for a chain of n diamonds, one after the other?
#
# <details><summary>Answer</summary>
#
# ```python
# def visits(tensor):
#     return 1 + sum(visits(parent) for parent, vjp in tensor.node.edges) if tensor.node else 1
#
#
# x = Tensor(np.array(0.1), requires_grad=True)
# y = x
# for n in range(1, 13):
#     y = y * 0.5 + y.tanh()  # one more diamond
#     if n % 4 == 0:
#         print(f"{n} diamonds, {3 * n} operations: {visits(y):,} visits")
# ```
#
# It doubles with each diamond, for each has two ways through it: with 50 of them you would wait for years. With
# the right order, each operation is visited once.
#
# </details>
#
# ## What to read next
#
# `backward` and `_topological_order` in [`minidl/tensor.py`](../minidl/tensor.py): you know both now. In
# [`minidl/ops.py`](../minidl/ops.py) each operation stands beside its derivative. The homework to this lesson is
# [A1](assignments/A1/README.md): write the operations and the walk yourself. Then [tutorial
# 4](04_an_mlp_learns_digits.ipynb): enough of toys.
