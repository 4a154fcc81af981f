"""The pages own-network.md and own-data.md: their files are whole, and their commands run as they stand there.

Those of own-network.md run on a tenth of the images, in a folder: that mnist5k goes by its name, other tests show.
"""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from minidl import load_mnist
from minidl.data import write_idx
from tests.commands import ROOT

PAGES = ROOT / "tutorials" / "pages"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall((PAGES / page).read_text())


def python(words, folder):
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=there, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def commands(text):
    for line in text.splitlines():
        word, *words = shlex.split(line)
        assert word == "python"
        yield words


@pytest.fixture
def few(tmp_path):
    """A folder with every tenth image of mnist5k."""
    digits = load_mnist("mnist5k")
    for part, images, labels in (
        ("train", digits.train_images, digits.train_labels), ("t10k", digits.test_images, digits.test_labels),
    ):  # fmt: skip
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (tmp_path / "few").mkdir(exist_ok=True)
            write_idx(tmp_path / "few" / f"{part}-{kind}-ubyte", array[::10].astype(np.uint8))
    return str(tmp_path / "few")


def test_own_network(tmp_path, few):
    parts = blocks("own-network.md")
    files = [text for kind, text in parts if kind == "python"]
    (tmp_path / "mine.py").write_text(files[0])
    (tmp_path / "both.py").write_text(files[1])
    digits = load_mnist("mnist5k")
    Image.fromarray(digits.test_images[0]).save(tmp_path / "digit.png")
    lines = [words for kind, text in parts if kind == "sh" for words in commands(text)]
    assert len(lines) == 9
    assert sum("mnist5k" in words for words in lines) == 5
    lines = [[few if word == "mnist5k" else word for word in words] for words in lines]
    for words in lines:
        if "minidl.study" not in words:  # takes minutes; the study's tests have it
            said = python(words, tmp_path)
            assert ("switch to sgd" in said) == (words[-1] in ("runs/hybrid", "runs/both"))
    names = {path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()}  # a search leaves a file
    assert names == {"mine", "hybrid", "replay", "both", "longer"}
    assert (tmp_path / "compare.html").exists()
    assert (tmp_path / "replay.html").exists()


@pytest.fixture
def pictures(tmp_path):
    digits = load_mnist("mnist5k")
    for name, digit in (("cat", 3), ("dog", 7)):
        for i, at in enumerate(np.flatnonzero(digits.train_labels == digit)[:25]):
            (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - digits.train_images[at]).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path


def kaggle(folder):
    """Its two files, with a few digits. Returns the labels of the second, which it does not hold."""
    digits, head = load_mnist("mnist5k"), ",".join(f"pixel{k}" for k in range(784))
    images, labels = digits.train_images[::10].reshape(-1, 784), digits.train_labels[::10]
    train, test = np.c_[labels, images], digits.test_images[::20].reshape(-1, 784)
    np.savetxt(folder / "train.csv", train, "%d", ",", header=f"label,{head}", comments="")
    np.savetxt(folder / "test.csv", test, "%d", ",", header=head, comments="")
    return digits.test_labels[::20]


def test_own_data(pictures):
    labels = kaggle(pictures)
    parts = [(kind, text) for kind, text in blocks("own-data.md") if "gzip.zip" not in text]  # EMNIST is not at hand
    assert [kind for kind, _ in parts] == ["sh", "sh", "python", "python", "sh"]
    for kind, text in parts:
        if kind == "python":
            python(["-c", text], pictures)
        else:
            said = [python(words, pictures) for words in commands(text)]
    assert "test" in said[0]
    numbers, told = np.loadtxt(pictures / "submission.csv", int, delimiter=",", skiprows=1).T
    np.testing.assert_array_equal(numbers, np.arange(1, 51))
    assert (told == labels).mean() > 0.7
    assert (pictures / "submission.csv").read_text().startswith("ImageId,Label\n1,")
    bars = load_mnist(str(pictures / "bars"))
    assert (bars.class_names, bars.train_images.shape) == (("row", "column"), (300, 12, 12))
    assert load_mnist(str(pictures / "mine")).class_names == ("cat", "dog")
    assert '<th scope="row"><bdi>dog</bdi></th>' in (pictures / "runs" / "pictures" / "report.html").read_text()


def test_the_names_on_the_page_are_those_that_there_are():
    from minidl.data.mnist import NAMES

    rows = re.findall(r"^\| (`[^|]+`) \|", (PAGES / "own-data.md").read_text(), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([a-z][\w-]+)`", row)}
    assert told == set(NAMES) - {"auto"}
