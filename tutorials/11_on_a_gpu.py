# %% [markdown]
# # 11. The same code on a GPU
#
# **Goal.** Run the same network on a graphics card without changing a line, and know what it costs to move data
# there and back. On a machine without a GPU you *count* what would be moved; with one, you measure it too.
#
# **Time.** 20 minutes. **Before this:** tutorial 4. **Optional:** no other lesson needs it.
#
# *On Colab:* choose a runtime with a GPU; run `!git clone URL minidl` (the address of this repository) and
# `%pip install "./minidl[gpu-cuda12]"`, then restart the session. Elsewhere: see the [README of the
# tutorials](README.md).

# %%
import sys
import time
from pathlib import Path

import numpy as np

import minidl
from minidl import DeviceError
from minidl.backend import get_backend, register, xp_of
from minidl.data import load_mnist
from minidl.data.batches import split
from minidl.optim import Adam
from minidl.teach import show
from minidl.trainer import Trainer, evaluate
from minidl.training.models import build_model

sys.path.insert(0, str(Path(minidl.__file__).parent.parent))  # the clone, for its tests
from tests.counting import Counting

try:
    gpu = get_backend("gpu")
    print("there is a GPU, and CuPy can use it")
except DeviceError:
    gpu = None
    print("no GPU here: what only a GPU can tell is left out below")

# %% [markdown]
# ## Two memories
#
# A GPU has a memory of its own. NumPy's arrays lie in the computer's memory, CuPy's in the GPU's. CuPy has the
# same functions under the same names, so the library asks an array where it lives and takes its functions from
# there:


# %%
def softplus(x):
    xp = xp_of(x)  # numpy for NumPy's arrays, cupy for CuPy's
    return xp.log(1 + xp.exp(x))


print(softplus(np.array([-1.0, 0.0, 1.0])))

# %% [markdown]
# That is the whole trick: one formula, two places. What is left to think about is the way across, over a bus
# that is far slower than either memory; and that reading one number from the GPU makes the computer *wait*
# until everything before it is done.
#
# ## Counting
#
# The library's tests have a device that is made of NumPy and counts. Its arrays lie in a box of their own: like
# a GPU's, they can only be reached through the device's own functions, and every way across is written down.

# %%
device = Counting("counting")
register(device.backend)

with device.measure() as traffic:
    here = np.array([-1.0, 0.0, 1.0], dtype=np.float32)
    there = device.from_host(here)
    result = softplus(there)
    print(device.to_host(result))
print(traffic)

# %% [markdown]
# ## What training moves
#
# **Predict before you run.** 3,600 training, 400 validation and 1,000 test images of 28 by 28 pixels go across,
# once. How many bytes is that, if a pixel is one byte? And if it were sent as a float of 4 bytes?

# %%
dataset = load_mnist(name="mnist5k")
with device.measure() as traffic:
    splits = split(dataset, seed=0, device="counting")
print(traffic)
print(f"pixels as bytes: {5_000 * 28 * 28:,}, as floats: {5_000 * 28 * 28 * 4:,}")

# %% [markdown]
# (The labels go as well.) The pixels stay bytes until their batch is drawn: on the device they are scaled to
# floats, where memory is fast.
#
# Now the model, and one epoch of training.
#
# **Predict before you run.** An epoch is 57 steps. What has to be sent to the device in it? What has to come
# back?


# %%
def new_model(splits, device, name="mlp"):
    """A model with its weights on the device."""
    return build_model(name, splits.image_size, splits.classes, seed=0).to(device)


with device.measure() as traffic:
    model = new_model(splits, "counting")
print("weights: ", traffic)

trainer = Trainer(model, Adam(model.parameters()), splits, batch_size=64, read_every=57)
with device.measure() as traffic:
    steps = list(trainer.steps())
print("an epoch:", traffic)

# %% [markdown]
# One upload: the random order of the images, drawn by NumPy so that a seed means the same on every device. And
# what comes back comes once, at the end of the epoch: all its losses and all its counts of right answers. No
# image, no weight, no gradient crosses.
#
# It is easy to spoil this. Suppose that you print the loss at every step:

# %%
curious = Trainer(model, Adam(model.parameters()), splits, batch_size=64, read_every=1)
with device.measure() as traffic:
    steps = list(curious.steps())
print("an epoch, looking at each loss:", traffic)

# %% [markdown]
# Hardly more bytes. But the *number* of downloads counts, for each of them waits. (`launches` are calculations.
# Each is a small program that the computer starts on the GPU, which costs some microseconds too.)
#
# ## What it costs
#
# A crossing costs a fixed time, however small it is, and a time for each byte. Put in your own numbers; these
# are round ones, of the size that one sees on a common machine, and not measured here.
#
# **Predict before you run.** For a single number, which of the two parts matters? From how many bytes on does
# the other?

# %%
WAIT = 20e-6  # seconds for one crossing, however small
PER_BYTE = 1 / 10e9  # seconds: ten gigabytes a second

sizes = np.geomspace(4, 1e9, 40)
show.curves(
    {
        "crossing": (np.log10(sizes), (WAIT + PER_BYTE * sizes) * 1e6),
        "the wait alone": (np.log10(sizes), np.full(40, WAIT * 1e6)),
    },
    xlabel="bytes, as a power of 10",
    ylabel="microseconds",
    log=True,
)

# %%
ways = {
    "data set once, as bytes": (1, 5_000 * 784),
    "each batch anew, as floats": (57, 3_600 * 784 * 4),
    "losses once an epoch": (1, 57 * 16),
    "loss at every step": (57, 57 * 16),
}
for name, (crossings, size) in ways.items():
    print(f"{name:28} {(crossings * WAIT + size * PER_BYTE) * 1e6:8.0f} microseconds")

# %% [markdown]
# For a network this small a step on a GPU takes some hundred microseconds, so these numbers are not small: a
# GPU that waits at every step may be slower than no GPU at all.
#
# ## With a GPU
#
# The same numbers measured, and the same training on both devices. To measure a GPU, one has to wait for it at
# the end: calls return before the work is done.


# %%
def seconds(action, repeats=20):
    """The shortest time of several; the action must end by waiting for the device."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


if gpu is None:
    print("not measured: no GPU here")
else:
    one, many = np.zeros(1, np.float32), np.zeros(25_000_000, np.float32)
    on_gpu = gpu.from_host(many)
    print(f"one number back: {seconds(lambda: float(on_gpu[0])) * 1e6:.0f} microseconds")
    up = seconds(lambda: float(gpu.from_host(many)[0]))
    print(f"100 MB up: {up * 1e3:.1f} ms, {many.nbytes / up / 1e9:.1f} GB/s")
    for name in ("cpu", "gpu"):
        there = split(dataset, seed=0, device=name)
        model = new_model(there, name, "cnn")
        trainer = Trainer(model, Adam(model.parameters()), there, batch_size=64)
        trainer.fit(1, verbose=False)  # the first epoch compiles kernels
        start = time.perf_counter()
        trainer.fit(2, verbose=False)
        rate = 2 * len(there.train) / (time.perf_counter() - start)
        print(f"cnn on {name}: {rate:,.0f} images/s")

# %% [markdown]
# ## The same result
#
# The order of the images, the first weights and the dropout masks are drawn on the computer for both devices.
# So the same seed means the same run, up to rounding: sums are added up in another order there.

# %%
results = {}
for name in ("cpu", "counting" if gpu is None else "gpu"):
    there = split(dataset, seed=0, device=name)
    model = new_model(there, name)
    Trainer(model, Adam(model.parameters()), there, batch_size=64).fit(2, verbose=False)
    results[name] = evaluate(model, there.val)
for name, (loss, accuracy) in results.items():
    print(f"{name}: validation loss {loss:.4f}, accuracy {accuracy:.3f}")

# %% [markdown]
# ## Exercises
#
# **1.** Count what crosses when `evaluate` runs over the validation images. Why so little?
#
# <details><summary>Answer</summary>
#
# ```python
# model = new_model(splits, "counting")
# with device.measure() as traffic:
#     evaluate(model, splits.val)
# print(traffic)
# assert traffic.uploads == 0
# ```
#
# The images are there already, and the sums of losses and of right answers stay there too, until the end.
#
# </details>
#
# **2.** How many bytes are the weights, the gradients and Adam's two averages for this network? Would you send
# them across at every step?
#
# <details><summary>Answer</summary>
#
# ```python
# n = sum(p.size for p in model.parameters())
# print(f"{n:,} weights: {4 * n:,} bytes each for w, g, m and v, {16 * n:,} in all")
# print(f"to and fro at every step: {2 * 16 * n * PER_BYTE * 1e6:.0f} microseconds")
# ```
#
# No: that alone takes longer than a step of such a network on a GPU. All four live on the device from the first
# step to the last, and the optimizer works there.
#
# </details>
#
# **3.** The full MNIST is 70,000 images. Does it fit into a GPU of 8 GB as bytes? As floats? And how often
# would it have to cross if it did not fit?
#
# <details><summary>Answer</summary>
#
# ```python
# for name, size in (("bytes", 1), ("floats", 4)):
#     print(f"as {name}: {70_000 * 784 * size / 1e9:.3f} GB")
# ```
#
# It fits easily. A data set that does not has to cross once an epoch, and one sends the next batch while this
# one is computed.
#
# </details>
#
# ## What to read next
#
# [`minidl/backend.py`](../minidl/backend.py): the only file that knows of CuPy.
# [`data/batches.py`](../data/batches.py): bytes until the last moment. From the command line: `python -m
# minidl.train --device gpu`. Then [tutorial 12](12_read_the_study.ipynb): which optimizer, after all?
