# %% [markdown]
# # 3. The order of the walk
#
# **Goal.** Learn how autograd works on arrays, and in which order `backward()` must walk through the graph of
# operations. By trying all orders, you will find the smallest graph in which a wrong order gives a wrong gradient.
#
# **Time.** 25 minutes. **Before this:** lesson 2.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
from itertools import permutations

import numpy as np

from minidl import Tensor
from minidl.teach import draw

# %% [markdown]
# ## Arrays
#
# Nothing changes when numbers become arrays: each operation still knows how to pass a gradient back to its inputs.
# The gradient of a tensor always has the shape of that tensor. Where a small array was expanded to fit a larger one
# (*broadcasting*), each of its elements was used several times, so the gradients of all these uses are added up.
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
# For a matrix product `y = x @ w`, you can guess the rule from the shapes alone. `g`, the gradient of the loss with
# respect to `y`, has the shape of `y`. There is only one way to multiply `g` by `x` that gives the shape of `w`:

# %%
x = Tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
w = Tensor(np.random.default_rng(1).normal(size=(3, 2)), requires_grad=True)
y = x @ w  # (4, 3) @ (3, 2) -> (4, 2)
g = np.ones((4, 2))  # the gradient of y.sum() with respect to y
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
# By hand: $y = 2x + 4x^2$, so the derivative is $2 + 8x$, which is 26 at x = 3.
#
# Now walk through the graph backwards by a simple rule: *visit each tensor once, and pass the gradient that it has
# received so far on to its inputs.* The walk starts at `y`. From there it may go to `a` or to `c`: both are inputs of
# `y`.
#
# **Predict before you run.** One of the two orders gives a wrong gradient. Which one, and what number will it give?


# %%
def walk(order):
    """Visit the tensors in this order, each once; returns the gradient that arrives at x."""
    gradient = dict.fromkeys(order, 0.0)
    gradient[order[0]] = 1.0  # dy/dy
    for tensor in order:
        if tensor.node is not None:
            for parent, vjp in tensor.node.edges:
                gradient[parent] = gradient[parent] + vjp(gradient[tensor])
    return float(gradient[x])


print("y, c, a, x gives", walk([y, c, a, x]))
print("y, a, c, x gives", walk([y, a, c, x]))

# %% [markdown]
# When `a` was visited right after `y`, it had only the gradient from `y`, and it passed that on to `x`. Then `c` was
# visited and passed its part of the gradient to `a`. But `a` had already been visited, so this part never reached
# `x`.
#
# So the rule is: **visit an operation only after all operations that used its output.** Such an order is called
# *topological*. (A leaf, a tensor that was not computed from others, passes nothing on, so it may come at any time.)
# Let us try every order, to confirm that exactly the topological ones give the right gradient.

# %%
names = {y: "y", c: "c", a: "a", x: "x"}
users = {y: [], c: [y], a: [c, y]}  # of each operation's output
for rest in permutations([c, a, x]):
    order = [y, *rest]
    topological = all(order.index(user) < order.index(t) for t in users for user in users[t])
    slope = walk(order)
    print(*(names[t] for t in order), f" gradient {slope:4.1f}", "topological" if topological else "")
    assert (slope == 26.0) == topological

# %% [markdown]
# Is there a smaller graph in which the order matters? A graph with two operations is either a chain, in which only
# one order is possible, or both operations read `x`. But `x` is a leaf: it passes nothing on, so nothing is lost when
# a part of its gradient comes late. A walk can go wrong only if a tensor is used twice and was itself
# computed by an operation: **a fork that joins again, with a tail.** That takes three operations, the ones above.
#
# Without the tail, every order that starts at `y` is right:

# %%
x = Tensor(np.array(6.0), requires_grad=True)
c = x * x
y = x + c
print("y, c, x gives", walk([y, c, x]))
print("y, x, c gives", walk([y, x, c]))

# %% [markdown]
# An autograd that was tested only on chains may pass all its tests and still fail on a network that uses a value
# twice. The classic test case is a diamond with a tail:

# %%
x = Tensor(np.array(3.0), requires_grad=True)
a = x * 2.0
left, right = a * a, a.exp()
y = left + right
draw.graph(y, x=x, a=a, left=left, right=right, y=y)

# %% [markdown]
# ## How minidl finds the order
#
# By depth-first search: go from the loss to one of its inputs, from there to one of its inputs, and so on down to a
# leaf. Add a tensor to the list only when all its inputs are in the list. The list then has inputs before outputs,
# and its reverse is a topological order. Here is the algorithm, with a stack instead of recursion.


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
print("gradient", walk(order), "and by hand", 2 * (2 * 6.0) + 2 * np.exp(6.0))

# %% [markdown]
# Why a stack? Python limits recursion to a depth of about a thousand calls. A chain of ten thousand operations, from
# an unrolled loop for example, is deeper than that.
#
# **Predict before you run.** Each of 10,000 operations multiplies by 1.0001. What is the derivative of the result,
# roughly?

# %%
x = Tensor(np.array(1.0), requires_grad=True)
y = x
for _ in range(10_000):
    y = y * 1.0001
y.backward()
print(f"gradient {x.grad:.6f}, and 1.0001 ** 10000 = {1.0001**10_000:.6f}")

# %% [markdown]
# ## Exercises
#
# **1.** For the diamond with a tail, start at `y` and end at `x`. How many of the 6 orders of the three tensors
# between them give the right gradient?
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
# Two: those in which `a` comes last of the three. These are the two topological orders.
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
# Each use contributes 1, and the two contributions add up, as for any tensor that is used twice. The elements that
# were not used get 0.
#
# </details>
#
# **3.** Take the mean over the 4 rows of a 4 by 3 array, then the sum of the result. What is the gradient of each
# element? Check it twice: with `backward()` and with `gradcheck`.
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
# Each element is one of the four in a mean, so its gradient is a quarter.
#
# </details>
#
# **4.** There is a way that needs no order: let each tensor pass on every gradient that it receives, *each time* it
# receives one. What does this cost for a chain of n diamonds, one after the other?
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
# The number of visits about doubles with each diamond, because there are two paths through each: with 50 of them you
# would wait for years. In a topological order, each operation is visited once.
#
# </details>
#
# ## What to read next
#
# `backward` and `_topological_order` in [`minidl/tensor.py`](../minidl/tensor.py): you now know what both do. In
# [`minidl/ops.py`](../minidl/ops.py) each operation stands beside its derivative. The assignment for this lesson is
# [A1](assignments/A1/README.md): write the operations and the backward pass yourself. Then [lesson
# 4](04_an_mlp_learns_digits.ipynb): a network that reads handwritten digits.
