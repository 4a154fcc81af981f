# %% [markdown]
# # 11. The same code on a GPU
#
# **Goal.** Run the same network on a GPU without changing a line, and know what it costs to move data to the GPU and
# back. On a machine without a GPU you *count* the transfers; with one, you also measure them.
#
# **Time.** 20 minutes. **Before this:** lesson 4. **Optional:** no other lesson needs it.
#
# *On Colab:* choose a runtime with a GPU; run `!git clone URL minidl` (URL: the address of this repository) and
# `%pip install "./minidl[gpu-cuda12]"`, then restart the session. Elsewhere: see the [README of the
# lessons](README.md).

# %%
import sys
import time
from pathlib import Path

import numpy as np

from minidl import DeviceError
from minidl.backend import get_backend, register, xp_of
from minidl.data import load_mnist, split
from minidl.optim import Adam
from minidl.teach import show
from minidl.trainer import Trainer, evaluate
from minidl.training.models import build_model

around = [Path.cwd(), *Path.cwd().parents, Path.cwd() / "minidl"]  # on Colab the clone is the folder minidl
clone = next(folder for folder in around if (folder / "tests" / "counting.py").exists())
sys.path.insert(0, str(clone))  # for its tests
from tests.counting import Counting  # noqa: E402

try:
    gpu = get_backend("gpu")
    print("GPU found: CuPy can use it")
except DeviceError:
    gpu = None
    print("no GPU found: the measurements below are skipped")

# %% [markdown]
# ## Two memories
#
# A GPU has its own memory. NumPy's arrays are in the memory of the CPU, the *host*; CuPy's are in that of the GPU,
# the *device*. CuPy has the same functions under the same names, so the library looks up which module an array
# belongs to and calls the functions of that module:


# %%
def softplus(x):
    xp = xp_of(x)  # numpy for NumPy's arrays, cupy for CuPy's
    return xp.log(1 + xp.exp(x))


print(softplus(np.array([-1.0, 0.0, 1.0])))

# %% [markdown]
# So one formula serves both devices. What remains is the cost of transfers: they go over a bus that is far slower
# than either memory, and reading even one number from the GPU makes the CPU *wait* until the GPU has finished
# everything that was started before.
#
# ## Counting
#
# The library's tests include a simulated device, built on NumPy, that counts transfers. As on a GPU, its arrays can
# only be used through the device's own functions, and every transfer is recorded.

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
# **Predict before you run.** 3,600 training, 400 validation and 1,000 test images of 28 by 28 pixels are transferred
# once. How many bytes is that with one byte per pixel? And with a 4-byte float per pixel?

# %%
dataset = load_mnist(name="mnist5k")
with device.measure() as traffic:
    splits = split(dataset, seed=0, device="counting")
print(traffic)
print(f"pixels as bytes: {5_000 * 28 * 28:,}, as floats: {5_000 * 28 * 28 * 4:,}")

# %% [markdown]
# (The labels are transferred as well.) The pixels stay bytes until their batch is drawn, and are converted to floats
# on the device, where memory is fast.
#
# Now count the transfers of the model, and of one epoch of training.
#
# **Predict before you run.** An epoch has 57 steps. What must be sent to the device during an epoch? What must come
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
# There is one upload: the random order of the images, drawn by NumPy so that a seed gives the same order on every
# device. And there is one download, at the end of the epoch: all losses and all counts of correct predictions. No
# image, weight or gradient is transferred.
#
# It is easy to lose this advantage. Suppose that you print the loss at every step:

# %%
curious = Trainer(model, Adam(model.parameters()), splits, batch_size=64, read_every=1)
with device.measure() as traffic:
    steps = list(curious.steps())
print("an epoch, reading each loss:", traffic)

# %% [markdown]
# This transfers hardly more bytes. But the *number* of downloads matters, because the CPU waits for each. (`launches`
# counts computations. Each is a *kernel*, a small program that the CPU starts on the GPU, which costs some
# microseconds too.)
#
# ## What it costs
#
# A transfer costs a fixed time, however small it is (the *latency*), and a time for each byte (from the *bandwidth*).
# Put in your own numbers: these are round ones, typical of a common machine, and were not measured here.
#
# **Predict before you run.** For a single number, which of the two parts matters more? From how many bytes on does
# the other?

# %%
WAIT = 20e-6  # seconds for one transfer, however small
PER_BYTE = 1 / 10e9  # seconds: ten gigabytes per second

sizes = np.geomspace(4, 1e9, 40)
show.curves(
    {
        "transfer": (np.log10(sizes), (WAIT + PER_BYTE * sizes) * 1e6),
        "latency alone": (np.log10(sizes), np.full(40, WAIT * 1e6)),
    },
    xlabel="bytes, as a power of 10",
    ylabel="microseconds",
    log=True,
)

# %%
ways = {
    "data set once, as bytes": (1, 5_000 * 784),
    "every batch, as floats": (57, 3_600 * 784 * 4),
    "losses once an epoch": (1, 57 * 16),
    "loss at every step": (57, 57 * 16),
}
for name, (crossings, size) in ways.items():
    print(f"{name:28} {(crossings * WAIT + size * PER_BYTE) * 1e6:8.0f} microseconds")

# %% [markdown]
# For a network this small, a step on a GPU takes some hundred microseconds, so these times are not negligible: a GPU
# that waits at every step may be slower than no GPU at all.
#
# ## With a GPU
#
# Here the same costs are measured, and the same network is trained on both devices. A timing must end by waiting for
# the GPU, because calls return before the work is done.


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
    print("not measured: no GPU")
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
# The order of the images, the initial weights and the dropout masks are drawn on the CPU for both devices. So the
# same seed gives the same run, up to rounding: a GPU adds up sums in a different order.

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
# **1.** Count what is transferred when `evaluate` runs over the validation images. Why so little?
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
# The images are already on the device, and the sums of losses and of correct predictions stay there until the end.
#
# </details>
#
# **2.** How many bytes do the weights, the gradients and Adam's two averages of this network take? Would you transfer
# them at every step?
#
# <details><summary>Answer</summary>
#
# ```python
# n = sum(p.size for p in model.parameters())
# print(f"{n:,} weights: {4 * n:,} bytes each for w, g, m and v, {16 * n:,} in all")
# print(f"there and back at every step: {2 * 16 * n * PER_BYTE * 1e6:.0f} microseconds")
# ```
#
# No: that alone takes longer than a step of such a network on a GPU. All four stay on the device from the first step
# to the last, and the optimizer runs there.
#
# </details>
#
# **3.** The full MNIST has 70,000 images. Does it fit into the 8 GB of a GPU as bytes? As floats? How often would it
# have to be transferred if it did not fit?
#
# <details><summary>Answer</summary>
#
# ```python
# for name, size in (("bytes", 1), ("floats", 4)):
#     print(f"as {name}: {70_000 * 784 * size / 1e9:.3f} GB")
# ```
#
# It fits easily. A data set that does not must be transferred once per epoch; the next batch can be sent while the
# current one is computed.
#
# </details>
#
# ## What to read next
#
# [`minidl/backend.py`](../minidl/backend.py): the only file that imports CuPy. [`data/batches.py`](../data/batches.py):
# pixels stay bytes until their batch is drawn. From the command line: `python -m minidl.train --device gpu`. Then
# [lesson 12](12_read_the_study.ipynb): which optimizer is better?
