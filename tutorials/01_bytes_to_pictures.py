# %% [markdown]
# # 1. Bytes to pictures
#
# **Goal.** Read an image of a handwritten digit from a file, byte by byte, with nothing but Python. A data set is a
# list of numbers and a description of what they mean.
#
# **Time.** 15 minutes. **Before this:** one term of Python, lists and slices.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import gzip
from pathlib import Path

import numpy as np

from minidl import data
from minidl.data import IdxError, read_idx
from minidl.teach import show

folder = Path(data.__file__).parent / "embedded"
for path in sorted(folder.glob("*.gz")):
    print(f"{path.name:32} {path.stat().st_size:>8,} bytes")

# %% [markdown]
# Four files: images and labels, each for training and for testing. They are compressed with gzip. Decompressed, a
# file is one long sequence of bytes, and a byte is a number from 0 to 255. Here are the first 16 bytes of the
# training images, in hexadecimal, two digits per byte.

# %%
raw = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
print(f"{len(raw):,} bytes decompressed")
print(raw[:16].hex(" "))

# %% [markdown]
# The format is called IDX:
#
# | bytes | meaning |
# |---|---|
# | 0, 1 | always `00 00` |
# | 2 | the type of an element: `08` is one byte, 0 to 255 (other codes stand for larger integers and floats) |
# | 3 | the number of dimensions of the array |
# | then 4 bytes for each dimension | its size, the most significant byte first ("big-endian") |
# | the rest | the elements, row by row |
#
# **Predict before you run.** How many dimensions does this array have? Bytes 4 to 7 are the first size: work it out
# by hand. (Hexadecimal `0f` is 15, and `a0` is 160; each byte to the left counts 256 times as much.)

# %%
dimensions = raw[3]
sizes = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
print(dimensions, "dimensions:", sizes)

# %% [markdown]
# So there are 4,000 images, each with 28 rows of 28 pixels. Does the file hold exactly that many bytes? A reader that
# does not check may one day return shifted images without anyone noticing.

# %%
header = 4 + 4 * dimensions
count, rows, columns = sizes
print("expected", f"{header + count * rows * columns:,}", "bytes, found", f"{len(raw):,}")
assert len(raw) == header + count * rows * columns

# %% [markdown]
# The first image is the next 784 bytes. 0 is black, the paper; 255 is white, the ink. Here are the numbers in the
# middle of the image:

# %%
first = raw[header : header + rows * columns]
image = [list(first[r * columns : (r + 1) * columns]) for r in range(rows)]  # a list of rows
show.numbers(np.array(image)[4:24, 4:24])

# %% [markdown]
# To a computer, an image is nothing more than these numbers. Now read all images into one array. `np.frombuffer` uses
# the same bytes without copying them; `reshape` divides them into images, rows and columns.

# %%
images = np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(count, rows, columns)
raw_labels = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())
labels = np.frombuffer(raw_labels, dtype=np.uint8, offset=8)
show.digits(images[::200][:20], labels[::200][:20])

# %% [markdown]
# **Predict before you run.** What does the *average* of all images of a 0 look like, and which digit's average will
# be the most blurred? An average is blurred when people write the digit in different ways.

# %%
averages = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)])
show.digits(averages, range(10))
spread = [images[labels == digit].std(axis=0).mean() for digit in range(10)]
order = np.argsort(spread)[::-1]
most, least = order[0], order[-1]
print("from the most blurred to the sharpest:", *order)
print(f"standard deviation of a pixel, on average: {spread[most]:.0f} for {most}, {spread[least]:.0f} for {least}")

# %% [markdown]
# The 0 is a ring with a hole. The 2 is the most blurred: its loop, its slant and its foot differ from hand to hand.
# The 1 is the sharpest: it is a single stroke, and only its slant differs.
#
# These averages already give a classifier: compare a new image with all ten and choose the nearest.

# %%
test = data.load_mnist(name="mnist5k")
distances = ((test.test_images[:, None] - averages[None]) ** 2).sum(axis=(2, 3))  # (images, 10)
guesses = distances.argmin(axis=1)
print(f"right: {(guesses == test.test_labels).mean():.1%} of {len(guesses):,} test images")
show.digits(test.test_images[::50][:20], test.test_labels[::50][:20], guesses[::50][:20])

# %% [markdown]
# Green is right, red is wrong. The following lessons are about doing better than this.
#
# The library's `read_idx` does what you just did, and also checks for what can go wrong: a truncated file, a web page
# saved under the wrong name, a header that claims more data than there is. Let us truncate a file.

# %%
same = read_idx(folder / "train-images-idx3-ubyte.gz")
print("the same array:", np.array_equal(same, images))

damaged = Path("cut-short-idx3-ubyte")
damaged.write_bytes(raw[:1000])
try:
    read_idx(damaged)
except IdxError as error:
    print(error)
damaged.unlink()

# %% [markdown]
# ## Exercises
#
# **1.** Show image number 1234 with its label, using only `raw` and `raw_labels`, not the big array.
#
# <details><summary>Answer</summary>
#
# ```python
# start = 16 + 1234 * 784
# picture = np.array(list(raw[start : start + 784])).reshape(28, 28)
# show.digits(picture[None], [raw_labels[8 + 1234]])
# assert np.array_equal(picture, images[1234])
# ```
#
# The position of an image in the file follows from its number, so no search is needed.
#
# </details>
#
# **2.** Most computers store numbers the other way round, least significant byte first ("little-endian"). What number
# of images does a program read if it takes IDX for little-endian?
#
# <details><summary>Answer</summary>
#
# ```python
# wrong = int.from_bytes(raw[4:8], "little")
# print(f"{wrong:,} images")
# assert wrong > 1_000_000_000
# ```
#
# More images than the file has bytes. This is why a reader compares the header with the length of the file.
#
# </details>
#
# **3.** Draw a letter of your own, 7 by 5, as an array of 0 and 255; write it with `write_idx`; read it back by
# hand.
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl.data import write_idx
#
# strokes = ["#...#", "##..#", "#.#.#", "#..##", "#...#", "#...#", "#...#"]
# letter = np.array([[255 * (mark == "#") for mark in row] for row in strokes], dtype=np.uint8)
# mine = Path("letter-idx2-ubyte")
# write_idx(mine, letter)
# content = mine.read_bytes()
# mine.unlink()
# print(content[:12].hex(" "))  # 2 dimensions now: 7 and 5
# assert list(content[12:17]) == [255, 0, 0, 0, 255]
# ```
#
# Twelve bytes of header, because two dimensions need two sizes, and then 35 pixels, row by row.
#
# </details>
#
# **4.** For which digit is the nearest average wrong most often, and what is that digit mistaken for?
#
# <details><summary>Answer</summary>
#
# ```python
# table = np.zeros((10, 10), dtype=int)
# np.add.at(table, (test.test_labels, guesses), 1)
# show.numbers(table)  # row: the label; column: the guess
# off_diagonal = table - np.diag(table.diagonal())
# worst = (off_diagonal.sum(axis=1) / table.sum(axis=1)).argmax()
# print("worst:", worst, "mistaken for", off_diagonal[worst].argmax())
# assert (worst, off_diagonal[worst].argmax()) == (5, 3)
# ```
#
# The 5: more than a third are mistaken for another digit, most often for a 3. The two differ in one short stroke, and
# its position differs from writer to writer. Such a table is called a *confusion matrix*; lesson 17 uses one.
#
# </details>
#
# ## What to read next
#
# [`data/idx.py`](../data/idx.py) is the same reader with every check; its docstring describes the format.
# Then [lesson 2](02_one_neuron.ipynb): how a single neuron learns.
