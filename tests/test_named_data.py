"""Data sets by name, and the folders and names under which they lie about: found, verified, put right."""

import gzip
import hashlib
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from minidl.data import DataError, IdxError, load_mnist, read_idx, split, write_idx
from minidl.data.known import EMNIST, KNOWN, MNIST
from minidl.data.layout import PARTS
from minidl.data.mnist import NAMES
from minidl.handwriting.frame import EMNIST as EMNIST_FRAME
from minidl.handwriting.look import frame_of
from minidl.training.restore import load_run_checkpoint
from minidl.training.results import CHECKPOINT
from tests.commands import command, fails

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))


def arrays(classes=4, first=0, columns=0):
    """Four arrays as the files of a small data set have them; no picture is its own transpose."""
    made = []
    for n in (3 * classes, 2 * classes):
        labels = np.arange(n) % classes + first
        images = RNG.integers(0, 256, (n, 6, 6), dtype=np.uint8)
        if columns:
            labels = np.stack([labels] + [RNG.integers(0, 999, n)] * (columns - 1), axis=1).astype(np.int32)
        made += [images, labels if columns else labels.astype(np.uint8)]
    return made


def write(folder, names, contents, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, contents, strict=True):
        write_idx(folder / (name if packed else name.removesuffix(".gz")), array)
    return folder


def published(monkeypatch, name, folder):
    """As if these files were the published ones: their MD5 in the table, made here by hashlib."""
    known = KNOWN[name]
    files = {part: replace(file, md5=hashlib.md5((folder / file.name).read_bytes()).hexdigest())
             for part, file in known.files.items()}  # fmt: skip
    monkeypatch.setitem(KNOWN, name, replace(known, files=files, mirrors=()))


def names_in(name):
    return [file.name for file in KNOWN[name].files.values()]


# ---- by name ----


def test_the_table_is_whole():
    assert [*KNOWN] == ["fashion-mnist", "kmnist", "qmnist", *(known.name for known in EMNIST)]
    assert ("auto", "mnist", "mnist5k", *KNOWN) == NAMES
    hashes = [file.md5 for known in KNOWN.values() for file in known.files.values()]
    assert len(set(hashes)) == len(hashes) == 36
    assert all(len(md5) == 32 and set(md5) <= set("0123456789abcdef") for md5 in hashes)
    classes = [len(known.class_names) for known in KNOWN.values()]
    assert classes == [10, 10, 10, 62, 47, 47, 26, 10, 10]  # as their papers say
    assert [known.first_label for known in EMNIST] == [0, 0, 0, 1, 0, 0]
    assert KNOWN["kmnist"].files["train-images"].unpacked_bytes == MNIST["train-images"].unpacked_bytes
    assert KNOWN["qmnist"].files["t10k-labels"].unpacked_bytes == 12 + 60_000 * 8 * 4


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist", "."])
def test_a_folder_with_the_published_files(monkeypatch, tmp_path, place):
    content = arrays(10)
    folder = write(tmp_path / place, names_in("fashion-mnist"), content)
    published(monkeypatch, "fashion-mnist", folder)
    dataset = load_mnist("fashion-mnist", root=tmp_path)
    assert (dataset.name, dataset.classes, dataset.note) == ("fashion-mnist", 10, "")
    assert dataset.class_names[9] == "Ankle boot"
    for found, wanted in zip((dataset.train_images, dataset.train_labels), content, strict=False):
        assert np.array_equal(found, wanted)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    assert load_mnist("fashion-mnist").sha256 == dataset.sha256


def test_the_published_files_are_known_by_their_folder_too(monkeypatch, tmp_path):
    folder = write(tmp_path / "FashionMNIST" / "raw", names_in("fashion-mnist"), arrays(10))
    assert load_mnist(str(folder)).class_names == ()
    published(monkeypatch, "fashion-mnist", folder)
    dataset = load_mnist(str(tmp_path))
    assert (dataset.name, dataset.class_names[0], dataset.note) == (str(tmp_path), "T-shirt/top", "")
    write_idx(folder / names_in("fashion-mnist")[0], arrays(10)[0])  # other pictures: a data set of your own
    assert load_mnist(str(folder)).class_names == ()


def test_other_bytes_are_refused_and_unpacked_ones_are_said(monkeypatch, tmp_path):
    folder = write(tmp_path / "KMNIST", names_in("kmnist"), arrays(10))
    with pytest.raises(
        IdxError, match=r"not the published train-images-idx3-ubyte.gz: the MD5 .*expected bdb82020997e"
    ):
        load_mnist("kmnist", root=tmp_path)
    for path in folder.iterdir():
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    dataset = load_mnist("kmnist", root=tmp_path)
    assert "kmnist is not verified" in dataset.note
    assert dataset.class_names[0] == "o"


def test_mnist_is_not_taken_for_another(mnist_root, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_DATA", str(mnist_root))
    with pytest.raises(DataError, match="downloading is switched off"):
        load_mnist("fashion-mnist", download=False)
    for part, file in MNIST.items():
        path = next(p for p in mnist_root.iterdir() if p.name.startswith(part))
        write_idx(tmp_path / file.name.removesuffix(".gz"), read_idx(path))
    with pytest.raises(DataError, match="holds MNIST itself, not kmnist"):
        load_mnist("kmnist", root=tmp_path)


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist"])
def test_unpacked_files_in_the_folder_of_another(monkeypatch, tmp_path, place):
    """Clothes were taken for characters, with nothing but a note that they were not verified."""
    folder = write(tmp_path / place, names_in("kmnist"), arrays(10), packed=False)
    with pytest.raises(
        DataError, match=r"kmnist is not in .*: train-images-idx3-ubyte.gz, compressed or not, was looked"
    ):
        load_mnist("kmnist", root=folder)
    monkeypatch.setenv("MINIDL_DATA", str(folder))
    with pytest.raises(DataError, match=r"kmnist is not in .* downloading is switched off"):
        load_mnist("kmnist", download=False)
    assert load_mnist("fashion-mnist").class_names[0] == "T-shirt/top"
    packed = write(tmp_path / "elsewhere" / place, names_in("kmnist"), arrays(10))
    published(monkeypatch, "kmnist", packed)  # the hash is surer than the folder's name
    assert load_mnist("kmnist", root=packed).class_names[0] == "o"


@pytest.mark.parametrize("name", ["kmnist", "emnist-digits"])
def test_unpacked_files_under_two_names(tmp_path, name):
    """The first was taken, and what the other held went unsaid."""
    content = arrays(10)
    write(tmp_path, names_in(name), content, packed=False)
    twin = tmp_path / names_in(name)[0].removesuffix(".gz").replace("-idx", ".idx")
    write_idx(twin, content[0])
    assert load_mnist(name, root=tmp_path).classes == 10
    write_idx(twin, content[0][::-1])
    with pytest.raises(DataError, match="hold different arrays: remove the one that you do not want"):
        load_mnist(name, root=tmp_path)


def test_qmnist_has_more_than_labels(monkeypatch, tmp_path):
    content = arrays(10, columns=8)
    published(monkeypatch, "qmnist", write(tmp_path / "QMNIST" / "raw", names_in("qmnist"), content))
    dataset = load_mnist("qmnist", root=tmp_path)
    assert dataset.train_labels.tolist() == content[1][:, 0].tolist()
    assert dataset.test_labels.shape == (20,)


def test_emnist_is_put_right(monkeypatch, tmp_path):
    content = arrays(26, first=1)
    folder = write(tmp_path / "gzip", names_in("emnist-letters"), content)
    published(monkeypatch, "emnist-letters", folder)
    dataset = load_mnist("emnist-letters", root=tmp_path)
    for i in (0, 7):
        assert [[int(x) for x in row] for row in zip(*content[0][i], strict=True)] == dataset.train_images[i].tolist()
    assert (dataset.train_labels.min(), dataset.train_labels.max(), dataset.classes) == (0, 25, 26)
    assert [dataset.class_names[label] for label in dataset.test_labels[:3]] == ["a", "b", "c"]
    # the same from the zip, by its own name or beside others, and by the folder's path
    packed = tmp_path / "zipped" / "gzip.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"gzip/{path.name}")
    for root in (packed, packed.parent):
        assert load_mnist("emnist-letters", root=root).sha256 == dataset.sha256
    for path in (folder, packed):
        named = load_mnist(str(path))
        assert (named.sha256, named.name, named.class_names) == (dataset.sha256, str(path), dataset.class_names)
        assert (named.known, dataset.known) == ("emnist-letters", "")
        assert split(named).origin.known == "emnist-letters"


def test_letters_that_count_from_0_already(tmp_path):
    """Unpacked files that somebody has put right before: both parts are looked at, for one may lack the class 0."""
    content = arrays(26)
    content[3] = content[3] % 25 + 1  # no "a" among the test letters
    write(tmp_path, names_in("emnist-letters"), content, packed=False)
    dataset = load_mnist("emnist-letters", root=tmp_path)
    assert dataset.train_labels.tolist() == content[1].tolist()
    assert dataset.test_labels.tolist() == content[3].tolist()


def test_balanced_labels_count_from_0(monkeypatch, tmp_path):
    content = arrays(47)
    folder = write(tmp_path, names_in("emnist-balanced"), content)
    published(monkeypatch, "emnist-balanced", folder)
    dataset = load_mnist("emnist-balanced", root=tmp_path)
    assert dataset.train_labels.tolist() == content[1].tolist()
    assert "".join(dataset.class_names) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    with pytest.raises(DataError, match=r"get https://biometrics.nist.gov/.*gzip.zip \(556 MB\)"):
        load_mnist("emnist-letters")
    with pytest.raises(
        DataError, match=r"kmnist is not in .*: train-images-idx3-ubyte.gz, compressed or not, was looked"
    ):
        load_mnist("kmnist", root=tmp_path)
    folder = write(tmp_path / "raw", names_in("emnist-digits"), arrays(10))
    (folder / names_in("emnist-digits")[3]).unlink()
    with pytest.raises(DataError, match="holds only a part of emnist-digits: it lacks emnist-digits-test-labels"):
        load_mnist("emnist-digits", root=tmp_path)
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        load_mnist("emnist-digits", root=tmp_path / "no.zip")
    assert "did you mean fashion-mnist?" in fails("--dataset", "fashion_mnist")


def test_a_folder_of_several(monkeypatch, tmp_path):
    for name in ("emnist-digits", "emnist-mnist"):
        write(tmp_path, names_in(name), arrays(10))
        published(monkeypatch, name, tmp_path)
    with pytest.raises(DataError, match="holds emnist-digits, emnist-mnist: choose one by its name"):
        load_mnist(str(tmp_path))


# ---- under other names, in other folders ----

OTHERS = {
    "dotted": "train-images.idx3-ubyte train-labels.idx1-ubyte t10k-images.idx3-ubyte t10k-labels.idx1-ubyte",
    "capitals": "TRAIN-IMAGES-IDX3-UBYTE TRAIN-LABELS-IDX1-UBYTE.GZ T10K-IMAGES.IDX3-UBYTE T10k-Labels-idx1-ubyte",
    "test": "train-images-idx3-ubyte.gz train-labels-idx1-ubyte test-images-idx3-ubyte test-labels.idx1-ubyte",
    "kaggle": "train-images-idx3-ubyte/train-images-idx3-ubyte train-labels-idx1-ubyte/train-labels-idx1-ubyte "
    "t10k-images-idx3-ubyte/t10k-images-idx3-ubyte t10k-labels-idx1-ubyte/t10k-labels-idx1-ubyte",
    "torchvision": " ".join(f"MNIST/raw/{part}-idx{rank}-ubyte" for part, rank in PARTS.items()),
    "raw": " ".join(f"raw/{part}-idx{rank}-ubyte.gz" for part, rank in PARTS.items()),
    "another": " ".join(f"FashionMNIST/raw/{part}-idx{rank}-ubyte" for part, rank in PARTS.items()),
}


@pytest.mark.parametrize("layout", OTHERS)
def test_names_and_folders(tmp_path, layout):
    content = arrays()
    for name, array in zip(OTHERS[layout].split(), content, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        small = tmp_path / "x.gz" if name.lower().endswith(".gz") else tmp_path / "x"
        write_idx(small, array)
        small.rename(tmp_path / name)
    dataset = load_mnist(str(tmp_path))
    found = dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels
    assert all(np.array_equal(a, b) for a, b in zip(found, content, strict=True))


def test_torchvision_s_folder_holds_several(tmp_path):
    names = [f"{part}-idx{rank}-ubyte.gz" for part, rank in PARTS.items()]
    first, second = arrays(3), arrays(4)
    write(tmp_path / "MNIST" / "raw", names, first)
    write(tmp_path / "KMNIST" / "raw", names, second)
    assert load_mnist(str(tmp_path)).classes == 3  # MNIST goes first
    shutil.move(tmp_path / "MNIST", tmp_path / "FashionMNIST")
    with pytest.raises(DataError, match=r"holds several data sets: name one of .*FashionMNIST/raw, .*KMNIST/raw"):
        load_mnist(str(tmp_path))


def test_the_real_mnist_in_torchvision_s_folder(mnist_root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in mnist_root.iterdir():
        (raw / path.name).symlink_to(path)
    assert load_mnist("mnist", root=tmp_path).sha256 == load_mnist("mnist", root=mnist_root).sha256


@pytest.mark.parametrize("target", ["nowhere", "train-images.idx3-ubyte", "class-names.txt/inside"])
def test_a_link_that_leads_to_nothing_is_no_file(tmp_path, target):
    """For a while one that leads to itself, or through a file, ended the search for the data."""
    write(tmp_path, [f"{part}-idx{rank}-ubyte" for part, rank in PARTS.items()], arrays(2))
    (tmp_path / "class-names.txt").write_text("cat\ndog\n")
    (tmp_path / "train-images.idx3-ubyte").symlink_to(target)
    assert load_mnist(str(tmp_path)).classes == 2


def test_class_names_of_a_folder(tmp_path):
    names = [f"{part}-idx{rank}-ubyte.gz" for part, rank in PARTS.items()]
    write(tmp_path, names, arrays(3))
    assert load_mnist(str(tmp_path)).class_names == ()
    (tmp_path / "class-names.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="names 2 of 3 classes"):
        load_mnist(str(tmp_path))
    (tmp_path / "class-names.txt").write_text("cat\ndog\nOtter é\n")
    assert load_mnist(str(tmp_path)).class_names == ("cat", "dog", "Otter é")
    (tmp_path / "class-names.txt").write_bytes("cat\r\ndog\r\nOtter é\r\n\r\n".encode("utf-8-sig"))  # by Windows
    assert load_mnist(str(tmp_path)).class_names == ("cat", "dog", "Otter é")
    for text in ("\ncat\ndog\nOtter\n", "cat\n \ndog\nOtter\n"):  # the names would be of other classes
        (tmp_path / "class-names.txt").write_text(text)
        with pytest.raises(DataError, match=r"has no name in line [12]: it must have one class name per line"):
            load_mnist(str(tmp_path))
    for code in ("utf-16", "latin-1"):
        (tmp_path / "class-names.txt").write_bytes("cat\ndog\nOtter é\n".encode(code))
        with pytest.raises(DataError, match=r"class-names.txt is not UTF-8 text"):
            load_mnist(str(tmp_path))


def test_train_takes_a_name(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    write(tmp_path / "KMNIST" / "raw", names_in("kmnist"), arrays(10), packed=False)
    result = command("--dataset", "kmnist", "--model", "linear", "--epochs", "1", "--out", tmp_path / "r")
    assert result.returncode == 0, result.stderr
    assert "note: kmnist is not verified" in result.stdout


def test_a_run_on_a_folder_knows_how_its_digits_are_framed(tmp_path):
    """Pictures of one's own were framed for a run on emnist-letters, but taken whole for one on its folder."""
    folder = write(tmp_path / "letters", names_in("emnist-letters"), arrays(26, first=1), packed=False)
    result = command("--dataset", folder, "--model", "linear", "--epochs", "1", "--out", tmp_path / "r")
    assert result.returncode == 0, result.stderr
    data = load_run_checkpoint(tmp_path / "r" / CHECKPOINT).state["data"]
    assert data["name"] == str(folder)
    assert frame_of(data) == EMNIST_FRAME


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{} (1).gz", "; if train-images-idx3-ubyte (1).gz is it, rename it train-images-idx3-ubyte.gz"),
        ("fashion-{}.gz", "; if fashion-train-images-idx3-ubyte.gz is it, rename it train-images-idx3-ubyte.gz"),
        ("{}.gz.txt", "; if train-images-idx3-ubyte.gz.txt is it, rename it"),
        ("{}.zip", "; extract t10k-images-idx3-ubyte.zip, it may be in there"),
    ],
)
def test_files_under_other_names_are_told(tmp_path, name, words):
    """As a browser names a second copy, as Windows adds an ending, as Kaggle packs one file."""
    for part, rank in (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1)):
        (tmp_path / name.format(f"{part}-idx{rank}-ubyte")).touch()
    with pytest.raises(DataError) as caught:
        load_mnist(str(tmp_path))
    assert words in str(caught.value)
