# %% [markdown]
# # 13. As fast as the arithmetic allows
#
# **Goal.** Know where the time of a training step goes. Most of it should be spent on multiplications; what costs
# time beyond that is nearly always *memory access*, and most of it can be avoided without writing a line of C.
#
# **Time.** 25 minutes. **Before this:** lessons 6 and 8. **Optional:** no other lesson needs it.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np

from minidl import Tensor, nn, ops, reference_only
from minidl.fast.conv import windows
from minidl.optim import Adam
from minidl.teach import show


def seconds(action, repeats=30):
    """The shortest time of several: other work on the machine can only make it longer."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


# %% [markdown]
# All times below were measured on one core of the machine that ran this notebook. Yours will give others, but the
# pattern should be the same.
#
# ## The lower bound
#
# A training step of an MLP needs three matrix products for each layer: for the output, for the gradient of the
# weights, and for the gradient of the input (which the first layer does not need). No step can be faster than these
# products alone.
#
# **Predict before you run.** With 128 images and layers of 784, 256, 128 and 10 units, how many multiplications is
# that? A core at 3 GHz can do some 16 to 32 multiplications and as many additions per clock cycle. How long does a
# step take at least?

# %%
BATCH, WIDTHS = 128, [784, 256, 128, 10]
rng = np.random.default_rng(0)
multiplications, products = 0, []
for layer, (i, o) in enumerate(pairwise(WIDTHS)):
    x, w, g = (rng.random(shape, dtype=np.float32) for shape in ((BATCH, i), (o, i), (BATCH, o)))
    products += [(x, w.T), (g.T, x)] + ([(g, w)] if layer else [])
    multiplications += BATCH * i * o * (3 if layer else 2)
results = [np.empty((len(a), b.shape[1]), np.float32) for a, b in products]


def all_products():
    for (a, b), out in zip(products, results, strict=True):
        np.matmul(a, b, out=out)


floor = seconds(all_products)
print(f"{multiplications / 1e6:.0f} million multiplications in {floor * 1e6:.0f} microseconds:")
print(f"{multiplications / floor / 1e9:.0f} billion per second")

# %% [markdown]
# NumPy passes a matrix product on to BLAS, a library that has been tuned for this processor over years. There is
# nothing to gain here. Everything else is up to us.
#
# ## A step in plain NumPy
#
# The forward pass, the backward pass and Adam, each formula written as in a textbook:

# %%
images, labels = rng.random((BATCH, 784), dtype=np.float32), rng.integers(0, 10, BATCH)
weights = [rng.normal(0, 0.05, (o, i)).astype(np.float32) for i, o in pairwise(WIDTHS)]
m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]


def plain_step():
    h = [images]
    for w in weights[:-1]:
        h.append(np.maximum(h[-1] @ w.T, 0))
    logits = h[-1] @ weights[-1].T
    p = np.exp(logits - logits.max(1, keepdims=True))
    g = p / p.sum(1, keepdims=True)
    g[np.arange(BATCH), labels] -= 1
    g /= BATCH
    gradients = []
    for x, w in zip(h[::-1], weights[::-1], strict=True):
        gradients.insert(0, g.T @ x)
        g = (g @ w) * (x > 0)
    for k, g in enumerate(gradients):  # Adam, without bias correction
        m[k] = 0.9 * m[k] + 0.1 * g
        v[k] = 0.999 * v[k] + 0.001 * g**2
        weights[k] = weights[k] - 1e-3 * m[k] / (np.sqrt(v[k]) + 1e-8)


# %% [markdown]
# And the same network with the library:

# %%
net = nn.Sequential(nn.Linear(784, 256, rng=0), nn.ReLU(), nn.Linear(256, 128, rng=1), nn.ReLU(), nn.Linear(128, 10))
adam = Adam(net.parameters())


def library_step(model=net, optimizer=adam, x=images, y=labels):
    optimizer.zero_grad()
    loss = ops.cross_entropy(model(Tensor(x)), y)
    loss.backward()
    optimizer.step()
    return loss.item()


# %% [markdown]
# **Predict before you run.** The library records a graph, calls a function for each of its edges, and checks labels
# and shapes. Is it slower or faster than the plain step, and by how much?

# %%
for name, action in (("products alone", all_products), ("plain NumPy", plain_step), ("the library", library_step)):
    print(f"{name:16} {seconds(action) * 1e6:6.0f} microseconds")

# %% [markdown]
# ## New memory is slow
#
# `c = a + b` does not only add. It also allocates memory for `c`, and the operating system hands out large blocks as
# *pages* that are not backed by memory yet. The first write to a page causes a *page fault*: the program is
# interrupted while the system finds a free page and fills it with zeros. A second write to the same array causes no
# page faults.
#
# **Predict before you run.** How many times as long as the second write does the first one take?

# %%
sizes, kept = [2**k for k in range(12, 24)], []  # `kept`, so that no array gets the memory of an earlier one
first, second = [], []
for n in sizes:
    writes = []
    for _ in range(3):
        new = np.empty(n, np.float32)
        kept.append(new)
        times = [time.perf_counter()]
        for _ in range(2):
            new.fill(1)
            times.append(time.perf_counter())
        writes.append((np.diff(times) / n * 1e9).tolist())
    first.append(min(one for one, _ in writes))
    second.append(min(two for _, two in writes))
kept.clear()
show.curves(
    {"first write": (np.log2(sizes), first), "second write": (np.log2(sizes), second)},
    xlabel="elements, as a power of 2",
    ylabel="nanoseconds per element",
    log=True,
)

# %% [markdown]
# Whether `a + b` pays this cost each time depends on the memory allocator of the C library. The usual one on Linux
# keeps freed blocks for reuse, but only up to 32 MB and depending on where they lie in memory; others return them to
# the system at once. So the same line can be fast in one program and slow in another.
#
# A training step allocates arrays of the same sizes every time, so minidl's programs do not leave this to chance: at
# the start they tell the allocator to keep freed memory. This setting lasts as long as the process, so we try it in a
# separate one.

# %%
program = """
import time
import numpy as np
from minidl.fast.malloc import tune_allocator

def write(n=2**24):  # 64 MB, more than is kept by default
    start = time.perf_counter()
    np.empty(n, np.float32).fill(1)
    return round((time.perf_counter() - start) / n * 1e9, 2)

print([write() for _ in range(5)], "nanoseconds per element")
tune_allocator()
print([write() for _ in range(5)], "when freed memory is kept")
"""
print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# ## Cache and main memory
#
# A processor has a small, fast memory, the *cache*, and a large, slow one, the main memory. Adam makes a dozen passes
# over five vectors: w, g, m, v and the step. If the vectors are long, each pass reads them from main memory again. So
# the library updates them in blocks: all passes over the first block, then all over the next.
#
# **Predict before you run.** Which block length is best? Why are shorter and longer blocks slower?

# %%
n = 2**22
g, w, m1, v1, p = (rng.random(n, dtype=np.float32) for _ in range(5))
rule = Adam(lr=1e-3)
rule.t = 1


def update(block):
    for start in range(0, n, block):
        b = slice(start, start + block)
        rule.rule(g[b], p[:block], 1e-3, m=m1[b], v=v1[b])
        np.add(w[b], p[:block], out=w[b])


blocks = [2**k for k in range(11, 23)]
show.curves(
    {"Adam": (np.log2(blocks), [seconds(lambda block=block: update(block), 5) / n * 1e9 for block in blocks])},
    xlabel="weights in a block, as a power of 2",
    ylabel="nanoseconds per weight",
)

# %% [markdown]
# Each short block still costs a dozen calls from Python; a long block does not fit into the cache, which costs more
# the smaller the cache is. The library uses blocks of 2 to the 16.
#
# The same holds for convolution. Its windows, laid out as rows of a matrix (lesson 8), take nine times the memory of
# the image. Here are the windows and the product of a layer with 16 channels and 32 filters, for 128 images,
# processed some at a time:

# %%
pictures = rng.random((128, 14, 14, 16), dtype=np.float32)  # (N, H, W, C)
filters = rng.random((9 * 16, 32), dtype=np.float32)
y = np.empty((128, 14 * 14, 32), np.float32)


def convolve(most):
    for start in range(0, 128, most):
        part = slice(start, start + most)
        rows = windows(pictures[part], (3, 3), (1, 1), (1, 1), (14, 14))  # (m, 14 * 14, 3 * 3 * 16)
        np.matmul(rows, filters, out=y[part])


at_a_time = [1, 2, 4, 8, 16, 32, 64, 128]
show.curves(
    {"windows and product": (np.log2(at_a_time), [seconds(lambda k=k: convolve(k), 10) / 128e-6 for k in at_a_time])},
    xlabel="images at a time, as a power of 2",
    ylabel="microseconds per image",
)

# %% [markdown]
# The result is similar: the fewer images share a call, the more the call costs per image; and the windows of all 128
# together, 14 MB, do not fit into the cache.
#
# ## Subnormal numbers
#
# A float32 has its full precision down to 1.2e-38. Below that it is *subnormal*: it has fewer and fewer digits, down
# to 1.4e-45, and it can be slow, because many processors handle such numbers by a special, slower path.
#
# Where do such numbers occur? In Adam's m of a weight that gets no gradient, such as that of a pixel in a corner. It
# shrinks by a tenth at every step.
#
# **Predict before you run.** After how many steps is it zero?

# %%
shrinking, steps = np.float32(1e-3), 0
while shrinking >= 1.2e-38:
    shrinking, steps = shrinking * np.float32(0.9), steps + 1
print("steps until it is subnormal:", steps)
for _ in range(1000):
    shrinking = shrinking * np.float32(0.9)
print("a thousand steps later:", shrinking)

# %% [markdown]
# It never becomes zero: for the smallest subnormal numbers, 0.9 times the number is rounded back to the number
# itself, so it stays there.

# %%
for name, value in (("normal", 1e-3), ("subnormal", 1e-40)):
    short = np.full(10_000, value, np.float32)
    taken = seconds(lambda short=short: np.multiply(short, 0.9, out=p[:10_000]), 100)
    print(f"{name:10} numbers: {taken / 10_000 * 1e9:.2f} nanoseconds each")

# %% [markdown]
# On some processors this makes little difference, on others it takes up to forty times as long. On one of these, the
# twelfth epoch of Adam on MNIST took a third longer than the first. [`optim/subnormal.py`](../optim/subnormal.py)
# sets such numbers to zero now and then.
#
# ## Everything together
#
# `reference_only()` runs every operation as written in `ops*.py`, without the fast implementations. Here is a step of
# a CNN, with and without them:

# %%
digits = rng.random((BATCH, 1, 28, 28), dtype=np.float32)


def small_cnn():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, rng=0), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, rng=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10, rng=2),
    )  # fmt: skip
    return model, Adam(model.parameters())


losses = {}
for name in ("reference", "fast"):
    model, optimizer = small_cnn()

    def step(model=model, optimizer=optimizer):
        return library_step(model, optimizer, digits, labels)

    if name == "reference":
        with reference_only():
            losses[name] = [step() for _ in range(5)]
            taken = seconds(step, 5)
    else:
        losses[name] = [step() for _ in range(5)]
        taken = seconds(step, 5)
    print(f"{name:10} {taken * 1e3:6.1f} ms a step; losses {[round(loss, 4) for loss in losses[name]]}")
assert np.allclose(losses["reference"], losses["fast"], atol=1e-3)

# %% [markdown]
# The losses are the same: the fast implementations compute the same sums, only in another order and in other memory.
# The library has both: the readable one is the reference that the fast one is tested against.
#
# ## Exercises
#
# **1.** How long does a step take that has hardly anything to compute? Use layers of 8 units and a batch of one
# example. What is the time spent on, and what does this mean for small batches?
#
# <details><summary>Answer</summary>
#
# ```python
# tiny = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10))
# optimizer = Adam(tiny.parameters())
# one, label = rng.random((1, 8), dtype=np.float32), np.array([3])
# nothing = seconds(lambda: library_step(tiny, optimizer, one, label))
# print(f"{nothing * 1e6:.0f} of {seconds(library_step) * 1e6:.0f} microseconds")
# ```
#
# On Python: the calls, the graph, the checks. This cost is the same for every batch, so it is highest per image for
# small batches.
#
# </details>
#
# **2.** Write an operation of your own, such as a squared ReLU, without optimizing its use of memory, and put it into
# the network. What does it cost?
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl.tensor import record
#
#
# class SquaredReLU(nn.Module):
#     def forward(self, x):
#         positive = np.maximum(x.data, 0)
#         return record("squared_relu", positive**2, (x, lambda g: g * 2 * positive))
#
#
# own = nn.Sequential(net[0], SquaredReLU(), net[2], SquaredReLU(), net[4])
# print(f"{seconds(lambda: library_step(own, adam)) * 1e6:.0f} microseconds")
# print(f"{seconds(library_step) * 1e6:.0f} with the library's ReLU")
# ```
#
# Not much at this size: its arrays are small enough to fit into memory that the process already has. Make the layer
# ten times as wide and measure again.
#
# </details>
#
# **3.** `m *= 0.9` and `m = 0.9 * m` give the same values. From how many weights on is the first clearly faster?
#
# <details><summary>Answer</summary>
#
# ```python
# for k in (10, 14, 18, 22, 24):
#     a = np.ones(2**k, np.float32)
#     fresh, same = seconds(lambda a=a: 0.9 * a), seconds(lambda a=a: np.multiply(a, 1.0, out=a))
#     print(f"2^{k}: {fresh / same:.1f} times as long")
# ```
#
# From the size at which the memory is newly allocated by the system each time: on Linux mostly from 32 MB on, on
# other systems far earlier.
#
# </details>
#
# **4.** How many bytes per second does one core get from main memory? What would a second core add, if both wait for
# memory?
#
# <details><summary>Answer</summary>
#
# ```python
# a, b = np.ones(2**24, np.float32), np.ones(2**24, np.float32)
# taken = seconds(lambda: np.add(a, a, out=b), 5)
# print(f"{2 * a.nbytes / taken / 1e9:.0f} billion bytes per second, with one core")
# ```
#
# Often little: one or two cores use up the bandwidth of the memory. A second core helps with work that stays in its
# own cache, which is one more reason for blocks, and for processing few images at a time.
#
# </details>
#
# ## What to read next
#
# [`minidl/fast/malloc.py`](../minidl/fast/malloc.py), then [`minidl/fast/linear.py`](../minidl/fast/linear.py) and
# [`minidl/fast/conv.py`](../minidl/fast/conv.py): the fast implementations, to compare with the reference in
# `ops*.py`; [`minidl/fast/threads.py`](../minidl/fast/threads.py): when a second thread pays off. `python -m
# tests.bench` compares the library with PyTorch on your machine, and `python -m tests.bench --profile` shows the time
# of a step by operation.
